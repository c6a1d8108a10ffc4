"""Panels: the right parts, the right colours, and no picture or name that breaks them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing import overlay, palette, panel
from sclip_core.drawing import text as texts
from sclip_core.drawing.legend import SHOWN, SWATCH, legend_entries
from sclip_core.drawing.text import readable, shortened, text_width

NAMES = [f"class number {n}" for n in range(171)]


def scene(height: int, width: int, classes: int, seed: int = 0) -> tuple[NDArray[np.uint8], ...]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    label = rng.integers(-1, classes, (height, width)).astype(np.int32)
    return image, label, label.clip(0).astype(np.uint8)


def swatches(picture: Image.Image, classes: int = 171) -> set[int]:
    """The classes whose pure colour covers at least a swatch; the pictures hold blends of it."""
    codes = np.asarray(picture).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    wanted = palette(classes).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    return {k for k, code in enumerate(wanted) if (codes == code).sum() >= SWATCH**2}


@pytest.mark.parametrize(("height", "width"), [(375, 500), (1500, 1000), (50, 60), (1, 1)])
def test_three_pictures_with_a_long_side_of_480(height: int, width: int) -> None:
    image, label, prediction = scene(height, width, 3)
    picture = panel(image, label, prediction, NAMES)
    factor = 480 / max(height, width)
    shown = round(width * factor), round(height * factor)
    assert picture.width == 2 * 20 + 3 * shown[0] + 2 * 16
    assert shown[1] < picture.height < shown[1] + 200


@pytest.mark.parametrize(
    ("height", "width"), [(100, 1500), (1500, 100), (1, 4000), (4000, 1), (1, 2), (37, 23)]
)
def test_odd_sizes(height: int, width: int) -> None:
    image, label, prediction = scene(height, width, 5)
    for picture in (
        panel(image, label, prediction, NAMES, title="a title " * 50),
        panel(image, None, prediction, NAMES),
        overlay(image, prediction, NAMES),
    ):
        assert picture.mode == "RGB"
        assert min(picture.size) > 90
        assert swatches(picture)


def test_the_legend_shows_the_classes_of_truth_and_prediction_and_no_others() -> None:
    image = np.full((90, 120, 3), 128, np.uint8)
    label = np.zeros((90, 120), np.int32)
    label[:, 60:] = 7
    prediction = np.zeros((90, 120), np.uint8)
    prediction[40:] = 25
    assert swatches(panel(image, label, prediction, NAMES)) == {0, 7, 25}
    assert swatches(panel(image, None, prediction, NAMES)) == {0, 25}
    assert swatches(overlay(image, label, NAMES)) == {0, 7}


def test_ignored_pixels_are_hatched_and_in_the_legend() -> None:
    image = np.full((480, 480, 3), 200, np.uint8)
    label = np.zeros((480, 480), np.int32)
    whole = np.asarray(overlay(image, label, NAMES))
    label[:, 240:] = -1
    half = np.asarray(overlay(image, label, NAMES))
    dark = np.array([58, 58, 58])
    assert not (whole == dark).all(-1).any()
    found = (half == dark).all(-1)
    assert found[20:500, 270:500].mean() > 0.5
    assert not found[20:500, 20:250].any()
    assert found[500:].sum() > SWATCH**2 / 2


def test_all_ignored() -> None:
    image, label, prediction = scene(30, 40, 3)
    assert swatches(overlay(image, np.full_like(label, -1), NAMES)) == set()
    assert panel(image, np.full_like(label, -1), prediction, NAMES).width > 1000


def test_colours_lie_where_the_classes_are() -> None:
    image = np.full((480, 480, 3), 100, np.uint8)
    labels = np.zeros((480, 480), np.uint8)
    labels[240:, :240] = 3
    opaque = np.asarray(overlay(image, labels, NAMES, alpha=1.0))[20:500, 20:500]
    colours = palette(4)
    assert (opaque[:230] == colours[0]).all()
    assert (opaque[250:, :230] == colours[3]).all()
    assert (opaque[250:, 250:] == colours[0]).all()
    bare = np.asarray(overlay(image, labels, NAMES, alpha=0.0))[20:230, 20:500]
    assert (bare == bare[0, 0, 0]).all()  # grey, the same everywhere


def test_truth_and_prediction_are_not_swapped() -> None:
    image = np.full((480, 480, 3), 100, np.uint8)
    picture = np.asarray(
        panel(image, np.zeros((480, 480), np.int32), np.ones((480, 480), np.uint8), NAMES)
    )
    top = 20 + 17 + 10
    photo, truth, guess = (picture[top + 100, 20 + k * 496 + 100].astype(int) for k in range(3))
    assert photo.tolist() == [100, 100, 100]
    nearest = [int(((palette(5) - pixel) ** 2).sum(1).argmin()) for pixel in (truth, guess)]
    assert nearest == [0, 1]


def test_many_classes_are_cut_after_the_largest() -> None:
    image, label, prediction = scene(200, 200, 171)
    picture = panel(image, label, prediction, NAMES)
    assert len(swatches(picture)) == SHOWN
    assert picture.height < 800


@pytest.mark.parametrize(
    "name",
    ["", "猫", "🎈", "a\nb\tc", "\0", "\udc80", "é" * 5000, "\u202eعربي", "x" * 5000, "%s {0}"],
)
def test_any_name(name: str) -> None:
    image, label, prediction = scene(20, 30, 1)
    assert swatches(panel(image, label, prediction, [name], title=name)) == {0}


def test_names_are_read_on_one_line_and_cut_to_the_room() -> None:
    assert readable("  grass,\n lawn ") == "grass, lawn"
    assert readable("a\u202eb\0c") == "abc"
    assert shortened("short", 17, 200) == "short"
    cut = shortened("a long name, of words", 17, 120)
    assert cut.endswith("...")
    assert 60 < text_width(cut, 17) <= 120


def test_without_a_font_for_it_a_name_keeps_its_plain_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(texts, "FONTS", (texts.PILLOWS, "no such font.ttf"))
    assert readable("cafe\u0301 猫 (cat)") == "cafe (cat)"
    assert readable("猫") == ""
    image, _, prediction = scene(20, 30, 1)
    assert swatches(overlay(image, prediction, ["猫"])) == {0}  # called "class 0"


def test_legend_entries_by_size_with_shares_in_percent() -> None:
    shares = {
        "truth": np.array([0.1, 0, 0.5, 0]),
        "prediction": np.array([0.2, 0, 0.7996, 0.0004]),
    }
    entries = legend_entries(["cat", "dog", "grass"], shares)
    assert [(entry.name, entry.detail) for entry in entries] == [
        ("grass", "truth 50.0 %  ·  prediction 80.0 %"),
        ("cat", "truth 10.0 %  ·  prediction 20.0 %"),
        ("class 3", "truth none  ·  prediction <0.1 %"),
        ("ignored", "truth 40.0 %"),
    ]
    many = legend_entries([], {"": np.full(SHOWN + 2, 1 / (SHOWN + 2))})
    assert (many[-1].name, many[-1].detail) == ("and 2 more", "10.0 %")


def test_classes_without_a_name_are_numbered() -> None:
    image, _, prediction = scene(20, 30, 4)
    assert swatches(panel(image, None, prediction, ["only one"])) == {0, 1, 2, 3}


def test_views_and_wide_types_are_welcome() -> None:
    image, label, prediction = scene(60, 80, 4)
    flipped = panel(image[::-1, ::2], label[::-1, ::2], prediction[::-1, ::2], NAMES)
    copied = panel(image[::-1, ::2].copy(), label[::-1, ::2].copy(), prediction[::-1, ::2], NAMES)
    assert flipped.tobytes() == copied.tobytes()
    assert overlay(image, prediction.astype(np.uint64) + 60_000, NAMES).width > 480


def test_a_map_of_another_size_is_refused() -> None:
    image, label, prediction = scene(20, 30, 4)
    with pytest.raises(ValueError, match=r"\(30, 20\).*\(20, 30, 3\)"):
        panel(image, label, prediction.T, NAMES)
    with pytest.raises(ValueError, match="expected"):
        panel(image, label[1:], prediction, NAMES)


def test_colours_are_distinct_and_do_not_depend_on_how_many() -> None:
    everything = palette(65_536)
    assert everything.dtype == np.uint8
    assert len(np.unique(everything, axis=0)) == 65_536
    for n in (0, 1, 21, 171, 300):
        np.testing.assert_array_equal(palette(n), everything[:n])
    for n in (-1, 65_537):
        with pytest.raises(ValueError, match="expected 0"):
            palette(n)


@pytest.mark.parametrize(("n", "apart"), [(20, 45), (171, 20)])
def test_the_first_colours_are_well_apart(n: int, apart: float) -> None:
    colours = palette(n).astype(float)
    distance = np.linalg.norm(colours[:, None] - colours, axis=-1)
    assert distance[~np.eye(n, dtype=bool)].min() > apart


def pictures_of(page: Image.Image, height: int, width: int) -> list[NDArray[np.uint8]]:
    """The three pictures of a panel, as they are on it."""
    top = 20 + 17 + 10
    lefts = [20 + k * (width + 16) for k in range(3)]
    return [np.asarray(page)[top : top + height, left : left + width] for left in lefts]


def test_outlines_are_drawn_on_the_image_and_only_there() -> None:
    image, label, prediction = scene(480, 360, 3)
    outlines = np.random.default_rng(1).random((480, 360)) < 0.1
    with_lines = panel(image, label, prediction, NAMES, outlines=outlines)
    without = panel(image, label, prediction, NAMES)
    photo, *others = pictures_of(with_lines, 480, 360)
    bare, *same = pictures_of(without, 480, 360)
    np.testing.assert_array_equal(bare, image)
    np.testing.assert_array_equal(photo, np.where(outlines[..., None], (255, 214, 10), image))
    for one, other in zip(others, same, strict=True):
        np.testing.assert_array_equal(one, other)
    rest = np.asarray(with_lines).copy()
    rest[47:527, 20:380] = np.asarray(without)[47:527, 20:380]
    np.testing.assert_array_equal(rest, np.asarray(without))


def test_no_outlines_leave_the_image_as_it_is() -> None:
    image, label, prediction = scene(480, 360, 3)
    none = panel(image, label, prediction, NAMES, outlines=np.zeros((480, 360), np.bool_))
    assert none.tobytes() == panel(image, label, prediction, NAMES).tobytes()


@pytest.mark.parametrize("factor", [2, 3])
def test_a_line_of_one_pixel_is_seen_where_the_image_is_shown_smaller(factor: int) -> None:
    image = np.zeros((480 * factor, 480 * factor, 3), np.uint8)
    outlines = np.zeros(image.shape[:2], np.bool_)
    outlines[100 * factor + 1] = True
    page = panel(image, None, np.zeros(image.shape[:2], np.uint8), NAMES, outlines=outlines)
    photo = pictures_of(page, 480, 480)[0]
    assert (photo[100] == (255, 214, 10)).all()
    photo = np.delete(photo, 100, axis=0)
    assert (photo == 0).all()


def test_outlines_of_another_size_are_refused() -> None:
    image, label, prediction = scene(20, 30, 4)
    with pytest.raises(ValueError, match=r"\(30, 20\).*\(20, 30, 3\)"):
        panel(image, label, prediction, NAMES, outlines=np.zeros((30, 20), np.bool_))
    with pytest.raises(ValueError, match="expected"):
        panel(image, None, prediction, NAMES, outlines=np.zeros((20, 31), np.bool_))
