"""Label maps of stored runs in the formats of other tools; each is opened by its tool in a test.

>>> from sclip_core import exports
>>> sorted(exports.FORMATS)[:2]
['coco', 'geojson']
"""

from sclip_core.exports.coco import coco_annotations, write_coco
from sclip_core.exports.formats import FORMATS, Options, export
from sclip_core.exports.hugging_face import to_dataset, write_dataset
from sclip_core.exports.label_studio import brush_rle, write_label_studio
from sclip_core.exports.png import write_png
from sclip_core.exports.polygons import geojson_features, write_geojson
from sclip_core.exports.stored import Segmented, StoredRun
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
    "to_dataset",
    "to_supervision",
    "write_coco",
    "write_dataset",
    "write_geojson",
    "write_label_studio",
    "write_png",
]
