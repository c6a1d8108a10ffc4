"""SAM's image encoder by name or file, without the rest of SAM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sclip_core.config import UserError, unknown
from sclip_core.config.json_file import read_arguments
from sclip_core.config.paths import local
from sclip_core.masks.sam.last_block import SamTrunk
from sclip_core.masks.sam.loading import CHECKPOINTS, find_checkpoint, load_sam
from sclip_core.tensors import check_weights, first_mismatch, one_line, read_state
from sclip_core.tensors.half import cast

JSON_KEY = "segment_anything.modeling.ImageEncoderViT"
PREFIX = "image_encoder."  # of its weights in a file of the whole SAM


@dataclass(frozen=True)
class TrunkSpec:
    """An image encoder and its weights, not yet loaded."""

    name: str  # vit_b, vit_l or vit_h; of a JSON file its stem
    arguments: dict[str, Any] | None  # of ImageEncoderViT; None: one of Meta's sizes
    weights: Path


def find_trunk(model: str, weights: str | None = None, download: bool = True) -> TrunkSpec:
    """Find architecture and weights.

    Args:
        model: ``vit_b``, ``vit_l`` or ``vit_h``, or the path of a JSON file with the arguments of
            ``ImageEncoderViT`` under ``segment_anything.modeling.ImageEncoderViT``.
        weights: path of a weights file; of a JSON's network, of the encoder alone or with the
            prefix ``image_encoder.``. None or "": Meta's file of that name.
        download: download Meta's file if it is not cached; False: never touch the network.

    Raises:
        UserError: the name is unknown, a file does not exist or cannot be read, the weights are not
            cached and cannot be downloaded.
    """
    path = Path(local(model)).expanduser()
    given = Path(local(weights)).expanduser() if weights else None
    if path.suffix != ".json":
        if model not in CHECKPOINTS:
            raise unknown("size of SAM", model, CHECKPOINTS)
        return TrunkSpec(model, None, find_checkpoint(model, given, download))
    if given is None or not given.is_file():
        missing = "names no weights" if given is None else f"needs weights, and {given} is no file"
        raise UserError(f"{path} {missing}: pass the path of the encoder's weights file")
    return TrunkSpec(path.stem, read_arguments(path, JSON_KEY), given)


def load_trunk(
    spec: TrunkSpec, device: torch.device, dtype: torch.dtype = torch.float32
) -> SamTrunk:
    """Load an image encoder, in eval mode. Pickled code is never executed.

    Raises:
        UserError: segment_anything is not installed; the file is torn, of another network, or holds
            numbers that are not finite.
    """
    if spec.arguments is None:
        return SamTrunk(load_sam(spec.name, spec.weights, device, dtype).image_encoder)
    state = read_state(spec.weights)
    if any(name.startswith(PREFIX) for name in state):  # a whole SAM
        state = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    encoder = _built(spec)
    try:
        encoder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{spec.weights} does not fit {spec.name}: {first_mismatch(error)}"
        ) from None
    check_weights(state, spec.weights)
    encoder.requires_grad_(False).to(device)
    cast(encoder, encoder.blocks, dtype)
    return SamTrunk(encoder)


def _built(spec: TrunkSpec) -> Any:
    """The encoder without memory: every weight comes from the file."""
    from segment_anything.modeling import ImageEncoderViT

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    try:
        with torch.device("meta"):
            return ImageEncoderViT(**(spec.arguments or {}), norm_layer=norm)
    except Exception as error:  # whatever a constructor makes of a key or a number
        raise UserError(f"{spec.name} is no image encoder of SAM's: {one_line(error)}") from None
