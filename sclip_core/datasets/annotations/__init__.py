"""Ground truth as COCO, LabelMe or YOLO has it: shapes, from which label maps are drawn."""

from sclip_core.datasets.annotations.categories import has_background, match, plain
from sclip_core.datasets.annotations.opening import (
    Annotations,
    in_fractions,
    is_annotations,
    open_annotations,
)

__all__ = [
    "Annotations",
    "has_background",
    "in_fractions",
    "is_annotations",
    "match",
    "open_annotations",
    "plain",
]
