"""Lines of YOLO: boxes with key points, told from outlines of as many numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import ImageError
from sclip_core.datasets.annotations import open_annotations
from sclip_core.datasets.annotations.yolo_poses import poses_in

PEOPLE = 12


def pose(rng: np.random.Generator, points: int, seen: bool = False) -> np.ndarray:
    """A box in the picture and points in it, some of them not labelled."""
    centre = rng.uniform(0.2, 0.8, 2)
    size = rng.uniform(0.1, 1, 2) * 2 * np.minimum(centre, 1 - centre)
    places = centre + (rng.random((points, 2)) - 0.5) * size
    places[1:][rng.random(points - 1) < 0.2] = 0
    if seen:
        places = np.c_[places, 2 * (places != 0).any(1)]
    return np.r_[centre, size, places.ravel()]


def outline(rng: np.random.Generator, corners: int) -> np.ndarray:
    """A blob, whose corners run around it."""
    turns = (np.arange(corners) + rng.random(corners) * 0.8) * 2 * np.pi / corners
    rim = np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.6, 1, (corners, 1))
    return (rng.uniform(0.2, 0.8, 2) + rng.uniform(0.03, 0.2) * rim).ravel()


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("points", [3, 4, 5, 14, 17, 21])
def test_poses_are_told_by_their_numbers(points: int, seen: bool) -> None:
    rng = np.random.default_rng(points)
    found = poses_in([pose(rng, points, seen) for _ in range(PEOPLE)])
    assert found == ({4 + points * (3 if seen else 2)}, ())


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 30])
def test_outlines_of_one_length_are_none(corners: int) -> None:
    rng = np.random.default_rng(corners)
    assert poses_in([outline(rng, corners) for _ in range(PEOPLE)]) == (frozenset(), ())


def test_poses_among_outlines() -> None:
    rng = np.random.default_rng(0)
    outlines = [outline(rng, int(n)) for n in rng.integers(3, 40, PEOPLE)]
    assert poses_in([*outlines, *(pose(rng, 17) for _ in range(3))]).sizes == {38}


def test_squares_in_the_middle_of_the_picture_are_none_but_may_be() -> None:
    """Their first corners, taken for a box, hold the others; they do not cross themselves."""
    squares = [np.array([0.4, 0.4, a, 0.4, a, a, 0.4, a]) for a in (0.55, 0.58, 0.6)]
    sizes, (note,) = poses_in(squares)
    assert not sizes
    assert note == (
        "YOLO's lines of 9 numbers are taken for outlines of 4 points, though the first four may "
        "be a box with all the others in it: if they are boxes with key points, export segments"
    )
    assert poses_in([*squares, np.array([0.4, 0.4, 0.6, 0.4, 0.5, 0.6])]).notes == ()


def test_corners_in_the_wrong_order_are_said() -> None:
    """Rows of corners, from left to right each: a bow tie, drawn as two triangles."""
    bows = [np.array([a, a, 0.9, a, a, 0.9, 0.9, 0.9]) for a in (0.6, 0.7)]
    sizes, (note,) = poses_in(bows)
    assert not sizes
    assert "2 of 2 would cross themselves" in note


def test_key_points_beside_their_boxes() -> None:
    """As large a part of the lines as this crosses itself by no chance."""
    lines = [np.array([0.4, 0.5, 0.25, 0.3, 0.3, 0.3, 0.7, 0.7, 0.9, 0.1, 0.2, 0.8])] * 2
    assert poses_in(lines).sizes == {12}
    rng = np.random.default_rng(1)
    sizes, notes = poses_in([*lines, *(outline(rng, 9) for _ in range(20))])
    assert (sizes, len(notes)) == (frozenset(), 1)


@pytest.mark.parametrize("layout", [[17, 2], None])
def test_a_set_of_poses_has_no_map(tmp_path: Path, layout: list[int] | None) -> None:
    rng = np.random.default_rng(2)
    text = "0 " + " ".join(f"{n:.6f}" for n in pose(rng, 17))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.yaml").write_text("names: [cat]" + f"\nkpt_shape: {layout}" * bool(layout))
    annotations = open_annotations(tmp_path)
    words = "is" if layout else "looks like"
    with pytest.raises(ImageError, match=rf"a\.txt, line 1 {words} a box with key points of a po"):
        annotations.draw("a", {"cat": 0}, (40, 60))
