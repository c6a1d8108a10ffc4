"""A sheet of pictures: one image a row, one way of labelling it a column, one legend for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.drawing import legend as keys
from sclip_core.drawing.panels import ALPHA, CAPTION, GAP, MARGIN, TITLE, painted, resized
from sclip_core.drawing.text import readable, write
from sclip_core.evaluation.areas import class_shares

CELL = 256  # pixels, the long side of each picture


def sheet(
    images: Sequence[NDArray[np.uint8]],
    columns: Mapping[str, Sequence[NDArray[np.integer[Any]]]],
    class_names: Sequence[str],
    title: str = "",
    note: str = "",
) -> Image.Image:
    """Rows of image, then its label maps, above a legend of all classes that occur.

    Args:
        images: R images (H, W, 3) uint8 RGB; each its own size.
        columns: for each caption R label maps (H, W), -1 ignored.
        class_names: (C,) names.
        title: a line above all.
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
    for index, image in enumerate(images):
        photo = resized(image, CELL)
        maps = [maps[index] for maps in columns.values()]
        rows.append([photo, *(painted(photo, labels, image, ALPHA) for labels in maps)])
    inner = (1 + len(columns)) * (CELL + GAP) - GAP
    below = keys.legend(_entries(columns, class_names), inner)
    noted = MARGIN + (TITLE + GAP if title else 0)
    top = noted + (CAPTION + GAP // 2 if note else 0)
    heights = [max(picture.height for picture in row) + GAP for row in rows]
    start = top + CAPTION + 10
    page = Image.new(
        "RGB", (inner + 2 * MARGIN, start + sum(heights) + below.height + MARGIN), keys.PAPER
    )
    draw = ImageDraw.Draw(page)
    write(draw, (MARGIN, MARGIN - 4), readable(title), TITLE, keys.INK, inner)
    write(
        draw, (MARGIN, noted - 10 if title else noted), readable(note), CAPTION, keys.FAINT, inner
    )
    lefts = [MARGIN + k * (CELL + GAP) for k in range(1 + len(columns))]
    for left, caption in zip(lefts, ["image", *columns], strict=True):
        write(draw, (left, top), readable(caption), CAPTION, keys.INK, CELL)
    for row, height in zip(rows, heights, strict=True):
        for left, picture in zip(lefts, row, strict=True):
            page.paste(picture, (left, start))
        start += height
    page.paste(below, (MARGIN, start))
    return page


def _entries(
    columns: Mapping[str, Sequence[NDArray[np.integer[Any]]]], class_names: Sequence[str]
) -> list[keys.Entry]:
    """A swatch and a name for each class that is in some map, in the vocabulary's order."""
    maps = [labels for column in columns.values() for labels in column]
    shares = np.mean([class_shares(labels, len(class_names)) for labels in maps], axis=0)
    entries = keys.legend_entries(class_names, {"": shares})
    order = {name: index for index, name in enumerate(class_names)}
    named = [entry._replace(detail="") for entry in entries]
    return sorted(named, key=lambda entry: order.get(entry.name, len(order)))
