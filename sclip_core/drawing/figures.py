"""The figures that are laid out by ``figure.py``: runs side by side, and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing.figure import GAP, Layout, Look, Swatch, fitted
from sclip_core.drawing.heat import heated, scale_bar, span

MOST_IN_A_ROW = 4  # pictures, of a figure of heat maps
STEPS = 64  # colours of a bar


def panels(
    rows: Sequence[Sequence[Image.Image]],
    captions: Sequence[str],
    entries: Sequence[Swatch],
    look: Look,
) -> Layout:
    """Pictures in rows, a caption above each column and a legend below all.

    Args:
        rows: one or more, each with as many pictures as there are captions, of ``fitted`` size.
        captions: of the columns.
        entries: of the legend; none: no legend.
        look: sizes and font.
    """
    layout, cell = Layout(look), look.cell(len(captions))
    gap = round(GAP * look.dpi)
    lefts = [k * (cell + gap) for k in range(len(captions))]
    layout.captions(captions, lefts, cell)
    for number, row in enumerate(rows):
        layout.space(gap if number else 0)
        layout.pictures(row, lefts, cell)
    if entries:
        layout.space(look.of_font(0.7))
        layout.legend(entries)
    layout.space(look.of_font(0.2))
    return layout


def heat_figure(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.float32]],
    look: Look,
    point: tuple[int, int] | None = None,
) -> Layout:
    """An image and heat maps of it, each above a bar of its colours from its lowest to its highest.

    Args:
        image: (H, W, 3) RGB.
        maps: (H, W) by their captions.
        look: sizes and font.
        point: row and column of a pixel, which is marked.
    """
    titles = ["image", *maps]
    layout, rows = Layout(look), -(-len(titles) // MOST_IN_A_ROW)
    count = -(-len(titles) // rows)
    cell, gap = look.cell(count), round(GAP * look.dpi)
    photo = fitted(image, cell)
    pictures = [photo, *(heated(photo, values) for values in maps.values())]
    spans = [None, *map(span, maps.values())]
    colours = np.asarray(scale_bar(STEPS, 1))[0]
    lefts = [k * (cell + gap) for k in range(count)]
    marked = None
    if point is not None:
        marked = (point[1] + 0.5) / image.shape[1], (point[0] + 0.5) / image.shape[0]
    for first in range(0, len(titles), count):
        row = slice(first, first + count)
        layout.space(look.of_font(0.8) if first else 0)
        layout.captions(titles[row], lefts, cell)
        layout.pictures(pictures[row], lefts, cell, marked)
        layout.bars(spans[row], colours, lefts, cell)
    layout.space(look.of_font(0.2))
    return layout
