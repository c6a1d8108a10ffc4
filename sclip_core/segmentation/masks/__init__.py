"""Mask proposals, where they come from, and the labels that fill them."""

from sclip_core.segmentation.masks.hybrid import RULES, Evidence, painted, pooled_logits
from sclip_core.segmentation.masks.proposals import Proposals, outlined
from sclip_core.segmentation.masks.sources import SOURCES, open_source

__all__ = [
    "RULES",
    "SOURCES",
    "Evidence",
    "Proposals",
    "open_source",
    "outlined",
    "painted",
    "pooled_logits",
]
