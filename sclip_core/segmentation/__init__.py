"""From dense features to label maps: stitching, PAMR, decision.

A query is one word or phrase whose text embedding scores pixels; a class has one or several.
"""

from sclip_core.segmentation.decision import decide
from sclip_core.segmentation.pamr import pamr
from sclip_core.segmentation.refiner import Refiner
from sclip_core.segmentation.stitch import Stitcher

__all__ = ["Refiner", "Stitcher", "decide", "pamr"]
