"""The legend under a picture: a swatch, a name and shares of the pixels for each class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.drawing.colours import palette
from sclip_core.drawing.text import readable, text_width, write
from sclip_core.evaluation.areas import class_shares

SHOWN = 18  # classes that get an entry; the others are counted
WIDEST = 300  # pixels, of a column; longer names are cut
ROW, SWATCH, GAP = 46, 32, 12  # pixels
INK, FAINT, PAPER = (28, 30, 34), (98, 102, 110), (255, 255, 255)
NAME_SIZE, DETAIL_SIZE = 17, 14  # pixels
NEAREST = Image.Resampling.NEAREST


class Entry(NamedTuple):
    """One entry of the legend."""

    name: str
    detail: str
    swatch: NDArray[np.uint8] | None  # (SWATCH, SWATCH, 3); None: text alone


def entries_of(
    class_names: Sequence[str], maps: Mapping[str, NDArray[np.integer[Any]]]
) -> list[Entry]:
    """Entries for the classes of some label maps (H, W), -1 ignored, by the maps' names."""
    highest = max(int(labels.max()) for labels in maps.values())
    num_classes = max(len(class_names), highest + 1)
    shares = {name: class_shares(labels, num_classes) for name, labels in maps.items()}
    return legend_entries(class_names, shares)


def legend_entries(
    class_names: Sequence[str], shares: Mapping[str, NDArray[np.float64]]
) -> list[Entry]:
    """Entries for the classes present, largest first, then a count of the rest, then "ignored".

    Args:
        class_names: (C,) names; a class beyond them is named by its number.
        shares: by the name of a map, its (C',) shares of all pixels (`class_shares`).
    """
    table = np.stack(list(shares.values()))
    total = table.sum(0)
    order = [int(i) for i in np.argsort(-total, kind="stable") if total[i] > 0]
    colours = palette(len(total))
    entries = []

    def shown(values: NDArray[np.float64]) -> str:
        return _detail(zip(shares, values, strict=True))

    for i in order[:SHOWN]:
        name = readable(class_names[i] if i < len(class_names) else "") or f"class {i}"
        swatch = np.broadcast_to(colours[i], (SWATCH, SWATCH, 3))
        entries.append(Entry(name, shown(table[:, i]), swatch))
    if len(order) > SHOWN:
        rest = table[:, order[SHOWN:]].sum(1)
        entries.append(Entry(f"and {len(order) - SHOWN} more", shown(rest), None))
    missing = {name: 1 - float(share.sum()) for name, share in shares.items()}
    ignored = {name: share for name, share in missing.items() if share > 1e-9}
    if ignored:
        entries.append(Entry("ignored", _detail(ignored.items()), hatched(SWATCH, SWATCH)))
    return entries


def legend(entries: Sequence[Entry], width: int, scale: float = 1.0) -> Image.Image:
    """Entries in columns, read downwards: `width` pixels wide and as high as they need.

    Args:
        entries: one or more.
        width: pixels.
        scale: factor for all sizes.
    """
    row, swatch_side, gap = (round(scale * size) for size in (ROW, SWATCH, GAP))
    indent = swatch_side + gap
    column = column_width(entries, width, scale)
    rows = -(-len(entries) // (width // column))
    picture = Image.new("RGB", (width, rows * row - gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for k, (name, detail, swatch) in enumerate(entries):
        x, y = k // rows * column, k % rows * row
        if swatch is not None:
            shown = Image.fromarray(np.ascontiguousarray(swatch))
            picture.paste(shown.resize((swatch_side, swatch_side), NEAREST), (x, y))
        for text, size, ink, down in ((name, NAME_SIZE, INK, -2), (detail, DETAIL_SIZE, FAINT, 18)):
            place = x + indent, y + round(scale * down)
            write(draw, place, text, round(scale * size), ink, column - indent - gap)
    return picture


def column_width(entries: Sequence[Entry], width: int, scale: float = 1.0) -> int:
    """Pixels of a column of the legend, on at most `width`."""
    longest = max(
        max(text_width(entry.name, NAME_SIZE), text_width(entry.detail, DETAIL_SIZE))
        for entry in entries
    )
    needed = SWATCH + 3 * GAP + math.ceil(longest)
    return min(round(scale * min(WIDEST, needed)), width)


def hatched(height: int, width: int) -> NDArray[np.uint8]:
    """Dark grey with lighter diagonals, for ignored pixels: (H, W, 3) uint8."""
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % 8 < 2
    return np.where(diagonal[..., None], np.uint8(112), np.uint8(58)).repeat(3, axis=2)


def _detail(shares: Iterable[tuple[str, float]]) -> str:
    return "  ·  ".join(f"{name} {_percent(share)}".strip() for name, share in shares)


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share else "none"
