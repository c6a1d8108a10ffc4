"""Image towers by family, behind one interface: what methods compute with, whoever built them."""

from sclip_core.encoder.towers.backbone import Backbone, Facts
from sclip_core.encoder.towers.families import backbone_of, check_tower, in_dtype, why_not

__all__ = ["Backbone", "Facts", "backbone_of", "check_tower", "in_dtype", "why_not"]
