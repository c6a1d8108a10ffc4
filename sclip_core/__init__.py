"""Training-free open-vocabulary segmentation with CLIP: SCLIP's benchmark as a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sclip_core.config.lazy import by_module, lazy

if TYPE_CHECKING:
    from sclip_core.config import ImageError, Protocol, UserError
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

__getattr__ = lazy(
    __name__,
    by_module(
        __name__,
        {
            "config.errors": "ImageError UserError",
            "config.protocol": "Protocol",
            "datasets": "Vocabulary read_image",
            "encoder": "TextBank",
            "masks": "Proposals",
            "model": "SCLIP Segmentation propose_masks",
            "segmentation": "pamr",
        },
    ),
)
