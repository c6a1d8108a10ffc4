"""Areas, scores and pictures: arrays in, arrays out."""

from sclip_core.evaluation.areas import IGNORED, Areas, image_areas, sum_areas
from sclip_core.evaluation.colours import palette
from sclip_core.evaluation.panels import overlay, panel
from sclip_core.evaluation.poster import poster
from sclip_core.evaluation.scores import Scores, scores
from sclip_core.evaluation.sheet import sheet

__all__ = [
    "IGNORED",
    "Areas",
    "Scores",
    "image_areas",
    "overlay",
    "palette",
    "panel",
    "poster",
    "scores",
    "sheet",
    "sum_areas",
]
