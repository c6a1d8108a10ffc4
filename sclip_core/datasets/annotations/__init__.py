"""Ground truth as COCO, LabelMe or YOLO has it: shapes, from which label maps are drawn."""

from sclip_core.datasets.annotations.categories import has_background, match, plain
from sclip_core.datasets.annotations.opening import Annotations, is_annotations, open_annotations
from sclip_core.datasets.annotations.reading import files_of

__all__ = [
    "Annotations",
    "files_of",
    "has_background",
    "is_annotations",
    "match",
    "open_annotations",
    "plain",
]
