"""Areas, scores and their intervals: arrays in, numbers out."""

from sclip_core.evaluation.areas import (
    IGNORED,
    NO_PREDICTION,
    Areas,
    Confusion,
    image_areas,
    image_confusion,
    sum_areas,
)
from sclip_core.evaluation.bootstrap import Interval, Resampled, bootstrap
from sclip_core.evaluation.scores import Scores, scores
from sclip_core.evaluation.sparse import SparseAreas, Tally

__all__ = [
    "IGNORED",
    "NO_PREDICTION",
    "Areas",
    "Confusion",
    "Interval",
    "Resampled",
    "Scores",
    "SparseAreas",
    "Tally",
    "bootstrap",
    "image_areas",
    "image_confusion",
    "scores",
    "sum_areas",
]
