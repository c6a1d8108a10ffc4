"""The sheet: every picture in its place, one legend, nothing that breaks it."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.drawing import palette, sheet
from sclip_core.drawing.legend import SWATCH
from sclip_core.drawing.sheet import CELL

NAMES = ["sky", "grass", "ball", "car"]


def image(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_rows_and_columns_are_where_they_belong() -> None:
    images = [image(100, 200, 40), image(200, 200, 220)]
    truth = [np.zeros((100, 200), np.uint8), np.ones((200, 200), np.uint8)]
    found = [np.full((100, 200), 2, np.uint8), np.zeros((200, 200), np.uint8)]
    page = np.asarray(sheet(images, {"truth": truth, "CSA": found}, NAMES)).astype(int)
    assert page.shape[1] == 2 * 20 + 3 * CELL + 2 * 16
    rows = [int(np.argmax((page[:, 60] == v).all(-1))) for v in (40, 220)]
    assert rows[1] - rows[0] == CELL // 2 + 16  # the first image is half as high as wide

    def nearest(row: int, column: int) -> int:
        """The class whose colour leans the way that of a cell does."""
        y, x = rows[row] + 30, 20 + (column + 1) * (CELL + 16) + 60
        shown = page[y, x] - page[y, x].mean()
        colours = palette(4).astype(int)
        leanings = colours - colours.mean(1, keepdims=True)
        return int(np.argmax(leanings @ shown / np.linalg.norm(leanings, axis=1)))

    assert [[nearest(row, column) for column in (0, 1)] for row in (0, 1)] == [[0, 2], [1, 0]]


def test_one_legend_of_what_occurs() -> None:
    maps = [np.array([[0, 3]], np.uint8).repeat(40, 0).repeat(20, 1)]
    page = np.asarray(sheet([image(40, 40)], {"truth": maps}, NAMES, "a title", "a note"))
    codes = page.astype(np.int64) @ [1 << 16, 1 << 8, 1]
    wanted = palette(4).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    assert [(codes == code).sum() >= SWATCH**2 for code in wanted] == [True, False, False, True]


def test_title_and_note_make_room() -> None:
    maps = [np.zeros((30, 40), np.uint8)]
    plain = sheet([image(30, 40)], {"truth": maps}, NAMES)
    titled = sheet([image(30, 40)], {"truth": maps}, NAMES, "a title " * 40, "a note " * 40)
    assert titled.height > plain.height + 30
    assert titled.width == plain.width
    # whatever stands above, the captions and what is below them are the same
    noted = sheet([image(30, 40)], {"truth": maps}, NAMES, note="a note")
    for other in (titled, noted):
        below = np.asarray(other)[-(plain.height - 20) :]
        np.testing.assert_array_equal(below, np.asarray(plain)[20:])


def test_refused() -> None:
    two = [np.zeros((30, 40), np.uint8)] * 2
    with pytest.raises(ValueError, match=r"columns of \[2\] label maps for 1 images"):
        sheet([image(30, 40)], {"truth": two}, NAMES)
    with pytest.raises(ValueError, match="0 images"):
        sheet([], {"truth": []}, NAMES)
    with pytest.raises(ValueError, match="0 columns"):
        sheet([image(30, 40)], {}, NAMES)
    with pytest.raises(ValueError, match="labels of shape"):
        sheet([image(30, 41)], {"truth": two[:1]}, NAMES)
