"""Areas, scores and pictures: arrays in, arrays out."""

from sclip_core.evaluation.areas import (
    IGNORED,
    UNSAID,
    Areas,
    Confusion,
    image_areas,
    image_confusion,
    sum_areas,
)
from sclip_core.evaluation.bootstrap import Interval, Resampled, bootstrap
from sclip_core.evaluation.colours import palette
from sclip_core.evaluation.panels import overlay, panel
from sclip_core.evaluation.poster import poster
from sclip_core.evaluation.scores import Scores, scores
from sclip_core.evaluation.sheet import sheet

__all__ = [
    "IGNORED",
    "UNSAID",
    "Areas",
    "Confusion",
    "Interval",
    "Resampled",
    "Scores",
    "bootstrap",
    "image_areas",
    "image_confusion",
    "overlay",
    "palette",
    "panel",
    "poster",
    "scores",
    "sheet",
    "sum_areas",
]
