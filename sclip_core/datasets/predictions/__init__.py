"""Label maps that other tools made: found, recognised and read as classes."""

from sclip_core.datasets.predictions.files import checked_size
from sclip_core.datasets.predictions.opening import (
    NO_DIGEST,
    PredictionOptions,
    Predictions,
    nothing_of,
    open_predictions,
)
from sclip_core.datasets.predictions.values import NONE

__all__ = [
    "NONE",
    "NO_DIGEST",
    "PredictionOptions",
    "Predictions",
    "checked_size",
    "nothing_of",
    "open_predictions",
]
