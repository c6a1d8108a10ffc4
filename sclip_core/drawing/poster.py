"""A page to show to others: the classes, heat maps of some words, and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing.heat import heated, scale_bar, span
from sclip_core.drawing.layout import Page
from sclip_core.drawing.legend import FAINT, INK, WIDEST, Entry, column_width, entries_of, legend
from sclip_core.drawing.panels import ALPHA, Labels, painted, resized, resized_size
from sclip_core.drawing.text import text_width

INNER, TALLEST = 1280, 1040  # pixels that all pictures together may take
BESIDE = 1440  # pixels that upright pictures may take with a legend beside them
MARGIN, GAP = 32, 24  # pixels
ENLARGED = 10  # factor by which an image is enlarged at most
MOST_COLUMNS = 4
SMALLEST = 300  # pixels of a picture's long side, however many there are
SCALE = 1.3  # of the legend
CAPTION, BELOW_CAPTION = 20, 10  # pixels: font size, and the space below it
NARROWEST = 280  # pixels that a caption needs
BAR, NUMBERS = (88, 13), 15  # pixels: of the colour bar of a heat map, and its font size
SPACE = 8  # pixels between the bar and its numbers


class Grid(NamedTuple):
    """The places of the pictures on a page."""

    columns: int
    rows: int
    picture: tuple[int, int]  # width, height
    cell: tuple[int, int]  # the same with its caption
    caption: int  # pixels of the caption, above the picture

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return (
            self.columns * (self.cell[0] + GAP) - GAP,
            self.rows * (self.cell[1] + GAP) - GAP,
        )

    def place(self, index: int) -> tuple[int, int]:
        """The top left corner of a cell on the page."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * (self.cell[0] + GAP), MARGIN + row * (self.cell[1] + GAP)


def poster(
    image: NDArray[np.uint8],
    labels: Labels,
    class_names: Sequence[str],
    heat: Mapping[str, NDArray[np.float32]] | None = None,
) -> Image.Image:
    """The image under the colours of its classes, then under each heat map, and the legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) classes, -1 ignored.
        class_names: (C,) names.
        heat: (H, W) cosine similarities by the name to show.

    Returns:
        About 1,350 pixels wide; narrower for upright and very small images.

    Raises:
        ValueError: a map has another size than the image.
    """
    heat = heat or {}
    for name, values in heat.items():
        if values.shape != image.shape[:2]:
            raise ValueError(f"heat of {name}: {values.shape} for an image of {image.shape}")
    count = 1 + len(heat)
    grid = _grid(count, image.shape[1], image.shape[0], captioned=bool(heat))
    photo = resized(image, max(grid.picture))
    page = Page(MARGIN)
    pictures = [painted(photo, labels, image, ALPHA)]
    pictures += [heated(photo, values) for values in heat.values()]
    for index, picture in enumerate(pictures):
        left, top = grid.place(index)
        page.picture(picture, left, top + grid.caption)
    if heat:
        page.text("classes", *grid.place(0), CAPTION, INK, grid.cell[0])
        for index, (name, values) in enumerate(heat.items(), 1):
            _caption(page, grid.place(index), grid.cell[0], name, span(values))
    _put_legend(page, grid, count, entries_of(class_names, {"": labels}))
    return page.drawn()


def _put_legend(page: Page, grid: Grid, count: int, entries: Sequence[Entry]) -> None:
    """Put the legend into the empty cells of the last row, else to the right, else below."""
    width, height = grid.size
    empty = grid.columns * grid.rows - count
    left, top = grid.place(count) if empty else (MARGIN + width + GAP, MARGIN)
    widest = INNER if width > height else BESIDE
    room = empty * (grid.cell[0] + GAP) - GAP if empty else widest - width - GAP
    highest = grid.picture[1] if empty else height - grid.caption
    if upright := _upright_legend(entries, room, highest):
        page.picture(upright, left, top + grid.caption)
    else:
        below = legend(entries, max(width, NARROWEST), SCALE)
        page.picture(below, MARGIN, MARGIN + height + GAP)


def _upright_legend(entries: Sequence[Entry], width: int, height: int) -> Image.Image | None:
    """The legend in the fewest columns that keep it within `height`; None if it does not fit."""
    column = column_width(entries, round(SCALE * WIDEST), SCALE)
    for columns in range(1, width // column + 1):
        picture = legend(entries, columns * column, SCALE)
        if picture.height <= height:
            return picture
    return None


def _caption(
    page: Page, place: tuple[int, int], width: int, name: str, values: tuple[float, float]
) -> None:
    """Write the word on the left and on the right a colour bar between its extreme cosines."""
    left, top = place
    low, high = f"cosine {values[0]:.3f}", f"{values[1]:.3f}"
    low_width, high_width = (math.ceil(text_width(text, NUMBERS)) for text in (low, high))
    after = left + width - high_width
    bar = after - SPACE - BAR[0]
    before = bar - SPACE - low_width
    line = top + CAPTION - NUMBERS
    page.text(low, before, line, NUMBERS, FAINT, low_width)
    page.picture(scale_bar(*BAR), bar, line + 3)
    page.text(high, after, line, NUMBERS, FAINT, high_width)
    page.text(name, left, top, CAPTION, INK, before - 2 * SPACE - left)


def _grid(count: int, width: int, height: int, captioned: bool) -> Grid:
    """The grid with the largest pictures; among nearly equal ones, the one with most columns."""
    top = CAPTION + BELOW_CAPTION if captioned else 0

    def fitting(columns: int) -> float:
        """The width of a picture."""
        rows = -(-count // columns)
        tall = max(1.0, (TALLEST - (rows - 1) * GAP) / rows - top)
        return min(_column(columns), width / height * tall, ENLARGED * width)

    widths = {columns: fitting(columns) for columns in range(1, min(count, MOST_COLUMNS) + 1)}
    columns = max(k for k, wide in widths.items() if wide >= 0.75 * max(widths.values()))
    wide = min(max(widths[columns], SMALLEST * min(1, width / height)), _column(columns))
    side = int(min(wide, ENLARGED * width) / width * max(width, height) + 1e-6)
    picture = resized_size(width, height, side)
    cell = max(picture[0], NARROWEST) if captioned else picture[0]
    return Grid(columns, -(-count // columns), picture, (cell, picture[1] + top), top)


def _column(columns: int) -> float:
    return (INNER - (columns - 1) * GAP) / columns
