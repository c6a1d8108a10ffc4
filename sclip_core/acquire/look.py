"""A picture of a few images and label maps, for mistakes that no count shows."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from sclip_core.acquire.check import Checked
from sclip_core.config import ImageError, tables
from sclip_core.datasets import label_classes, read_image, read_label
from sclip_core.datasets.layouts import benchmark_files
from sclip_core.drawing import panel
from sclip_core.drawing.layout import in_columns

PAIRS = 6  # spread over the set
COLUMNS = 2


def look(found: Checked, root: Path, pairs: int = PAIRS) -> Image.Image | None:
    """Draw a few images, each with its label map in the colours of the classes.

    Args:
        found: what ``check`` found.
        root: the folder that was checked.
        pairs: how many images.

    Returns:
        The picture; None if nothing could be drawn.
    """
    files = benchmark_files(found.name, root)
    there = [i for i in files.ids if i in files.images and i in files.labels]
    reduce_zero_label: bool = tables()["benchmarks"][found.name]["reduce_zero_label"]
    drawn = []
    for image_id in there[:: max(1, len(there) // pairs)][:pairs]:
        try:
            image = read_image(files.image_of(image_id))
            raw = read_label(files.label_of(image_id))
            classes = label_classes(raw, len(found.class_names), reduce_zero_label)
            names = list(found.class_names)
            drawn.append(panel(image, None, classes, names, image_id, result="ground truth"))
        except (ImageError, ValueError):  # named among the faults
            continue
    return in_columns(drawn, COLUMNS) if drawn else None
