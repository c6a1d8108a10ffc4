"""Mask proposals, where they come from, and the labels that fill them."""

from sclip_core.masks.fill import RULES, Evidence, painted, pooled_logits
from sclip_core.masks.proposals import Proposals, outlined
from sclip_core.masks.sources import SOURCES, MaskFiles, Proposer, mask_source, open_source

__all__ = [
    "RULES",
    "SOURCES",
    "Evidence",
    "MaskFiles",
    "Proposals",
    "Proposer",
    "mask_source",
    "open_source",
    "outlined",
    "painted",
    "pooled_logits",
]
