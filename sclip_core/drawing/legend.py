"""The legend under a picture: a swatch, a name and shares of the pixels for each class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.drawing.colours import palette
from sclip_core.drawing.text import readable, write
from sclip_core.drawing.text import width as text_width

SHOWN = 18  # classes that get an entry; the others are counted
WIDEST = 300  # pixels, of a column; longer names are cut
ROW, SWATCH, GAP = 46, 32, 12  # pixels
INK, FAINT, PAPER = (28, 30, 34), (98, 102, 110), (255, 255, 255)
NAME_SIZE, DETAIL_SIZE = 17, 14  # pixels
NEAREST = Image.Resampling.NEAREST


class Entry(NamedTuple):
    """One line of the legend."""

    name: str
    detail: str
    swatch: NDArray[np.uint8] | None  # (SWATCH, SWATCH, 3); None: text alone


def legend_entries(
    class_names: Sequence[str], shares: Mapping[str, NDArray[np.float64]]
) -> list[Entry]:
    """Entries for the classes present, largest first, then how many more, then what is ignored.

    Args:
        class_names: (C,) names; a class beyond them is called by its number.
        shares: for each map, by its name, the (C',) shares of all pixels (`class_shares`).
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
    """Draw entries in columns, read downwards, on `width` pixels; as high as they need.

    Args:
        entries: one or more.
        width: pixels.
        scale: of all sizes.
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
    needed = SWATCH + 3 * GAP + max(map(_entry_width, entries))
    return min(round(scale * min(WIDEST, needed)), width)


def _entry_width(entry: Entry) -> int:
    widths = text_width(entry.name, NAME_SIZE), text_width(entry.detail, DETAIL_SIZE)
    return math.ceil(max(widths))


def hatched(height: int, width: int) -> NDArray[np.uint8]:
    """Dark grey with lighter diagonals, for pixels that are not evaluated: (H, W, 3) uint8."""
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % 8 < 2
    return np.where(diagonal[..., None], np.uint8(112), np.uint8(58)).repeat(3, axis=2)


def _detail(shares: Iterable[tuple[str, float]]) -> str:
    return "  ·  ".join(f"{name} {_percent(share)}".strip() for name, share in shares)


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share else "none"
