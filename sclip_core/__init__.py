"""Training-free open-vocabulary segmentation with CLIP: SCLIP's benchmark as a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sclip_core.config import ImageError, Protocol, UserError

if TYPE_CHECKING:
    from sclip_core.datasets import Vocabulary, read_image
    from sclip_core.encoder import TextBank
    from sclip_core.masks import Proposals
    from sclip_core.model import SCLIP, Segmentation, propose_masks
    from sclip_core.segmentation import pamr

__version__ = "0.1.0"
__all__ = [
    "SCLIP",
    "ImageError",
    "Proposals",
    "Protocol",
    "Segmentation",
    "TextBank",
    "UserError",
    "Vocabulary",
    "pamr",
    "propose_masks",
    "read_image",
]

_LAZY = {
    "SCLIP": "sclip_core.model",
    "Segmentation": "sclip_core.model",
    "TextBank": "sclip_core.encoder",
    "Vocabulary": "sclip_core.datasets",
    "Proposals": "sclip_core.masks",
    "propose_masks": "sclip_core.model",
    "pamr": "sclip_core.segmentation",
    "read_image": "sclip_core.datasets",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a command that needs no torch does not wait for it."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sclip_core' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
