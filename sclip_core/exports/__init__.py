"""Label maps of stored runs in the formats of other tools; each is opened by its tool in a test.

>>> from sclip_core import exports
>>> sorted(exports.FORMATS)[:2]
['coco', 'geojson']
"""

from typing import TYPE_CHECKING, Any

from sclip_core.exports.coco import coco_annotations, write_coco
from sclip_core.exports.fiftyone import to_fiftyone, write_fiftyone
from sclip_core.exports.formats import FORMATS, Options, export
from sclip_core.exports.geotiff import write_geotiffs, write_labels
from sclip_core.exports.hugging_face import to_dataset, write_dataset
from sclip_core.exports.label_studio import brush_rle, write_label_studio
from sclip_core.exports.png import write_png
from sclip_core.exports.polygons import geojson_features, write_geojson
from sclip_core.exports.stored import Segmented, StoredRun

if TYPE_CHECKING:
    from sclip_core.exports.parts import segment_in_parts
    from sclip_core.segmentation.detections import to_supervision

__all__ = [
    "FORMATS",
    "Options",
    "Segmented",
    "StoredRun",
    "brush_rle",
    "coco_annotations",
    "export",
    "geojson_features",
    "segment_in_parts",
    "to_dataset",
    "to_fiftyone",
    "to_supervision",
    "write_coco",
    "write_dataset",
    "write_fiftyone",
    "write_geojson",
    "write_geotiffs",
    "write_label_studio",
    "write_labels",
    "write_png",
]

_LAZY = {
    "segment_in_parts": "sclip_core.exports.parts",
    "to_supervision": "sclip_core.segmentation.detections",
}


def __getattr__(name: str) -> Any:
    """Import on first use: what is stored is exported without torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sclip_core.exports' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
