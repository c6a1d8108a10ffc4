"""The picture to show around: every part in its place and of the right values, at any size."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing import palette, poster
from sclip_core.drawing.heat import heated, scale_bar
from sclip_core.drawing.legend import SWATCH

NAMES = [f"class number {n}" for n in range(40)]
MARGIN, GAP, CAPTION = 32, 24, 30  # pixels, as the picture has them


def scene(height: int, width: int, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture, and labels in which each class has rows or columns of its own."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    along = np.arange(max(height, width)) * classes // max(height, width)
    labels = np.empty((height, width), np.uint8)
    labels[:] = along if width >= height else along[:, None]
    return image, labels


def swatches(page: Image.Image) -> set[int]:
    """The classes whose pure colour covers at least a swatch."""
    codes = np.asarray(page).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    wanted = palette(len(NAMES)).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    return {k for k, code in enumerate(wanted) if (codes == code).sum() >= SWATCH**2}


def heat_of(shape: tuple[int, int], count: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {f"word {n}": rng.random(shape, np.float32) for n in range(count)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 15])
@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (640, 480), (300, 300), (48, 36), (1000, 1500), (200, 1200), (1200, 150)],
)
def test_pages_are_of_a_size_to_post(height: int, width: int, count: int) -> None:
    image, labels = scene(height, width, 6)
    page = poster(image, labels, NAMES, heat_of((height, width), count))
    assert page.mode == "RGB"
    assert page.width <= (1280 if width > height else 1440) + 2 * MARGIN
    assert page.height < 1500 or count == 15
    if width > height > 100:
        assert page.width > 1200
    assert swatches(page) == set(range(6))
    edge = np.asarray(page).copy()
    edge[MARGIN - 6 : 6 - MARGIN, MARGIN - 6 : 6 - MARGIN] = 255
    assert (edge == 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (4000, 1), (2, 1), (37, 23)])
@pytest.mark.parametrize("count", [0, 2, 20])
def test_odd_sizes(height: int, width: int, count: int) -> None:
    image, labels = scene(height, width, 3)
    page = poster(image, labels, NAMES, heat_of((height, width), count))
    assert swatches(page) == set(np.unique(labels))


def test_more_maps_than_a_page_is_high() -> None:
    image, labels = scene(37, 23, 3)
    page = poster(image, labels, NAMES, heat_of((37, 23), 120))
    assert page.width <= 1280 + 2 * MARGIN
    assert page.height > 31 * 230  # each as high as an image of 23 pixels grows


def test_forty_classes_with_long_names() -> None:
    for shape in ((300, 400), (400, 200)):
        image, labels = scene(*shape, 40)
        page = poster(image, labels, [f"{name} {'and on ' * 30}" for name in NAMES])
        assert len(swatches(page)) == 18  # the others are counted
        assert 1300 < page.width < 1440
        assert page.height < 1600


def test_colours_and_heat_lie_where_they_belong() -> None:
    """Two cells of 628×471 beside each other: classes, then the word."""
    image = np.full((480, 640, 3), 100, np.uint8)
    labels = np.zeros((480, 640), np.uint8)
    labels[:, 320:] = 3
    values = np.zeros((480, 640), np.float32)
    values[:160] = 1
    page = np.asarray(poster(image, labels, NAMES, {"ball": values})).astype(int)
    top = MARGIN + CAPTION

    def at(cell: int, across: float, down: float) -> NDArray[np.int64]:
        pixel: NDArray[np.int64] = page[
            top + int(down * 471), MARGIN + cell * (628 + GAP) + int(across * 628)
        ]
        return pixel

    grey, colours = 70 + 0.65 * 100, palette(4)
    for across, label in ((0.2, 0), (0.8, 3)):
        np.testing.assert_allclose(at(0, across, 0.5), 0.4 * grey + 0.6 * colours[label], atol=1)
    # the ends of matplotlib's inferno, of which OpenCV's is a copy
    for down, end in ((0.1, (252, 255, 164)), (0.6, (0, 0, 4))):
        np.testing.assert_allclose(at(1, 0.5, down), 0.3 * grey + 0.7 * np.array(end), atol=2)
    assert (page[top + 471 + 2] == 255).all()
    assert (page[top : top + 471, MARGIN + 628 : MARGIN + 628 + GAP] == 255).all()


def test_the_bar_says_the_lowest_and_the_highest_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the map itself: shown smaller, one pixel of it would be lost in a mean."""
    said: list[str] = []
    module = import_module("sclip_core.drawing.layout")
    monkeypatch.setattr(module, "write", lambda draw, place, text, *_: said.append(text))
    image, labels = scene(1200, 1600, 2)
    values = np.full(image.shape[:2], 0.2, np.float32)
    values[700, 900], values[5, 5] = 0.31251, -0.0421
    poster(image, labels, NAMES, {"cat": values})
    assert said == ["classes", "cosine -0.042", "0.313", "cat"]
    said.clear()
    poster(image, labels, NAMES)
    assert said == []  # nothing but the picture and its legend


def test_brighter_is_hotter() -> None:
    bar = np.asarray(scale_bar(200, 10)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert bar.shape == (10, 200)
    assert (np.diff(bar[0]) > -0.8).all()  # 8 bits
    assert bar[0, -1] > bar[0, 0] + 100


@pytest.mark.filterwarnings("error")
def test_a_map_of_one_value() -> None:
    photo = Image.new("RGB", (30, 20), (100, 100, 100))
    flat = np.asarray(heated(photo, np.full((20, 30), 0.25, np.float32)))
    assert flat.shape == (20, 30, 3)
    assert (flat == flat[0, 0]).all()


def test_a_map_of_another_size_is_refused() -> None:
    image, labels = scene(20, 30, 2)
    with pytest.raises(ValueError, match=r"heat of cat: \(30, 20\).*\(20, 30, 3\)"):
        poster(image, labels, NAMES, {"cat": np.zeros((30, 20), np.float32)})
    with pytest.raises(ValueError, match=r"\(30, 20\)"):
        poster(image, labels.T, NAMES)


def test_ignored_pixels_are_hatched() -> None:
    image, labels = scene(300, 400, 2)
    page = np.asarray(poster(image, np.where(labels == 1, -1, 0), NAMES))
    dark = (page == 58).all(-1)
    assert dark[40:900, 700:1300].mean() > 0.5
    assert not dark[40:900, 40:600].any()
