"""Columns of the tables of results."""

from __future__ import annotations

import pyarrow as pa

NEEDED = {  # columns without which a file is not a table of results
    "image_areas": {"run_id", "image_id", "class_id", "intersect", "prediction", "label"},
    "boundary_areas": {"run_id", "image_id", "class_id", "intersect", "prediction", "label"},
    "size_areas": {"run_id", "image_id", "class_id", "size", "objects", "intersect", "label"},
    "confusion": {"run_id", "label_id", "label_name", "prediction_id", "prediction_name", "pixels"},
    "class_iou": {"run_id", "class_id", "class_name", "label", "iou"},
    "runs": {"run_id", "created_at", "dataset", "mode", "num_images", "miou", "macc", "aacc"},
}
OF_CLASSES = {"run_id": pa.string(), "image_id": pa.string(), "class_id": pa.int32()}
EMPTY = {  # schemas of tables that may have no file at all
    "confusion": pa.schema(
        {
            "run_id": pa.string(),
            "label_id": pa.int32(),
            "label_name": pa.string(),
            "prediction_id": pa.int32(),
            "prediction_name": pa.string(),
            "pixels": pa.int64(),
        }
    ),
    "boundary_areas": pa.schema(
        {**OF_CLASSES, **dict.fromkeys(("intersect", "prediction", "label"), pa.int64())}
    ),
    "size_areas": pa.schema(
        {
            **OF_CLASSES,
            "size": pa.string(),
            **dict.fromkeys(("objects", "intersect", "label"), pa.int64()),
        }
    ),
}
