"""A sheet of pictures: one image a row, one way of labelling it a column, one legend for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing.layout import captioned_rows
from sclip_core.drawing.legend import Entry, entries_of
from sclip_core.drawing.panels import ALPHA, painted, resized

CELL = 256  # pixels, the long side of each picture


def sheet(
    images: Sequence[NDArray[np.uint8]],
    columns: Mapping[str, Sequence[NDArray[np.integer[Any]]]],
    class_names: Sequence[str],
    title: str = "",
    note: str = "",
) -> Image.Image:
    """Rows of an image and its label maps, above a legend of all classes that occur.

    Args:
        images: R images (H, W, 3) uint8 RGB; each its own size.
        columns: for each caption R label maps (H, W), -1 ignored.
        class_names: (C,) names.
        title: the first line.
        note: a line in small letters below it.

    Raises:
        ValueError: no image or no column, a column of another length, a map of another size than
            its image.
    """
    lengths = [len(maps) for maps in columns.values()]
    if not images or not columns:
        raise ValueError(f"{len(images)} images, {len(columns)} columns: expected one or more")
    if any(length != len(images) for length in lengths):
        raise ValueError(f"columns of {lengths} label maps for {len(images)} images")
    rows = []
    for image, *maps in zip(images, *columns.values(), strict=True):
        photo = resized(image, CELL)
        rows.append([photo, *(painted(photo, labels, image, ALPHA) for labels in maps)])
    entries = _entries(columns, class_names)
    return captioned_rows(rows, ["image", *columns], entries, CELL, title, note)


def _entries(
    columns: Mapping[str, Sequence[NDArray[np.integer[Any]]]], class_names: Sequence[str]
) -> list[Entry]:
    """A swatch and a name for each class that is in some map, in the vocabulary's order."""
    maps = [labels for column in columns.values() for labels in column]
    entries = entries_of(class_names, {str(index): labels for index, labels in enumerate(maps)})
    order = {name: index for index, name in enumerate(class_names)}
    named = [entry._replace(detail="") for entry in entries]
    return sorted(named, key=lambda entry: order.get(entry.name, len(order)))
