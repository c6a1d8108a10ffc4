"""Which family an image tower is of, by the name of its class, and why some are refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sclip_core.config import UserError
from sclip_core.encoder.towers.backbone import Backbone
from sclip_core.encoder.towers.open_clip_vit import OpenClipViT
from sclip_core.encoder.towers.timm_eva import TimmEva
from sclip_core.encoder.towers.timm_vit import TimmViT
from sclip_core.tensors.half import cast

OWN: dict[str, type[Backbone]] = {"VisionTransformer": OpenClipViT}
OF_TIMM: dict[str, type[Backbone]] = {"VisionTransformer": TimmViT, "Eva": TimmEva}
NOT_A_VIT = {"ModifiedResNet": "is a ResNet"}


def _family(visual: Any) -> type[Backbone] | str:
    """The family of a tower, or what it is instead."""
    kind = type(visual).__name__
    if kind != "TimmModel":
        return OWN.get(kind) or NOT_A_VIT.get(kind, f"is a {kind}")
    trunk = type(visual.trunk).__name__
    return OF_TIMM.get(trunk) or f"is timm's {trunk}"


def why_not(visual: nn.Module) -> str | None:
    """Why an image tower cannot give dense features; None: it can.

    Args:
        visual: on any device; ``meta`` suffices.
    """
    family = _family(visual)
    return family if isinstance(family, str) else family.why_not(visual)


def backbone_of(visual: nn.Module, name: str = "this model") -> Backbone:
    """A tower behind the interface that methods compute with.

    Args:
        visual: open_clip's image tower, on any device.
        name: of the model, for the error.

    Raises:
        UserError: it gives no dense features; says why, and which models do.
    """
    family = _family(visual)
    reason = family if isinstance(family, str) else family.why_not(visual)
    if reason is None and not isinstance(family, str):
        return family(visual)
    raise UserError(
        f"sclip has no way yet to read dense features from {name}: its image tower {reason}. The "
        "limit is this tool's, not the model's. Take an open_clip model with a ViT tower that "
        "docs/backbones.md lists, e.g. ViT-B-32, ViT-B-16, ViT-L-14, "
        "ViT-H-14, EVA02-B-16, ViT-B-16-SigLIP"
    )


def in_dtype(visual: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a tower, on a CPU to bf16 its blocks alone (``tensors.half``).

    Raises:
        UserError: it gives no dense features.
    """
    cast(visual, backbone_of(visual).blocks, dtype)
    return visual


def check_tower(name: str, visual: nn.Module) -> None:
    """Check that an image tower can give dense features.

    Args:
        name: of the model, for the error.
        visual: its image tower, on any device; ``meta`` suffices.

    Raises:
        UserError: it cannot; says why, and which models can.
    """
    backbone_of(visual, name)
