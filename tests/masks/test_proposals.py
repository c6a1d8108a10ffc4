"""Proposals against pycocotools mask by mask, NumPy, and loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from sclip_core.masks import Proposals, outlined, proposals

from .conftest import SIZES, encoded, random_masks

EDGES = {
    "empty": np.zeros((1, 5, 7), np.bool_),
    "full": np.ones((1, 5, 7), np.bool_),
    "one pixel, full": np.ones((1, 1, 1), np.bool_),
    "one pixel, empty": np.zeros((1, 1, 1), np.bool_),
    "last pixel": np.arange(35).reshape(1, 5, 7) == 34,
    "chequered": np.arange(35).reshape(1, 5, 7) % 2 == 0,
    "two whole columns": np.tile([False, True, True, False], (1, 6, 1)),
    "none at all": np.zeros((0, 5, 7), np.bool_),
}


def run_lengths(mask) -> list[int]:
    """Column by column, beginning with what is not in the mask."""
    lengths, last = [0], False
    for value in mask.T.ravel().tolist():
        if value != last:
            lengths.append(0)
            last = value
        lengths[-1] += 1
    return lengths


def measured_box(mask) -> list[int]:
    rows = [row for row in range(mask.shape[0]) if any(mask[row])]
    columns = [column for column in range(mask.shape[1]) if any(mask[:, column])]
    if not rows:
        return [0, 0, 0, 0]
    return [columns[0], rows[0], columns[-1] - columns[0], rows[-1] - rows[0]]


def traced(masks) -> np.ndarray:
    """Pixels of a mask that have a neighbour outside of it, or the end of the picture."""
    _, height, width = masks.shape
    found = np.zeros((height, width), np.bool_)
    for mask in masks:
        for row in range(height):
            for column in range(width):
                for y, x in (
                    (row - 1, column),
                    (row + 1, column),
                    (row, column - 1),
                    (row, column + 1),
                ):
                    beyond = not (0 <= y < height and 0 <= x < width) or not mask[y, x]
                    found[row, column] |= mask[row, column] and beyond
    return found


def assert_is_the_mask(region, mask) -> None:
    left, top, across, down = measured_box(mask)
    assert region.columns == slice(left, left + across + 1)
    assert region.rows == slice(top, top + down + 1)
    assert region.inside.dtype == np.bool_
    again = np.zeros(mask.shape[::-1], np.bool_)
    again[region.columns, region.rows] = region.inside
    np.testing.assert_array_equal(again.T, mask)


def all_masks():
    """Random ones of every size, and the edges."""
    yield from EDGES.values()
    for seed, size in enumerate(SIZES):
        yield random_masks(20, *size, seed)


def assert_same(found: Proposals, expected: Proposals) -> None:
    assert found.size == expected.size
    assert found.counts == expected.counts
    for name in ("boxes", "areas", "predicted_iou", "stability_score", "points", "crop_boxes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("masks", all_masks())
def test_round_trip(masks):
    found = encoded(masks)
    assert found.size == masks.shape[1:]
    assert len(found) == len(masks)
    assert found.masks().dtype == np.bool_
    np.testing.assert_array_equal(found.masks(), masks)


@pytest.mark.parametrize("masks", all_masks())
def test_counts_are_cocos(masks):
    counts = encoded(masks).counts
    assert counts == tuple(
        coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks
    )
    height, width = masks.shape[1:]
    for mask, mine in zip(masks, counts, strict=True):
        rle = {"size": [height, width], "counts": run_lengths(mask)}
        assert mine == coco.frPyObjects(rle, height, width)["counts"]


@pytest.mark.parametrize("masks", all_masks())
def test_what_is_measured(masks):
    found = encoded(masks)
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks]
    assert found.boxes.tolist() == [measured_box(mask) for mask in masks]
    assert found.boxes.shape == found.crop_boxes.shape == (len(masks), 4)
    assert {found.areas.dtype, found.boxes.dtype, found.crop_boxes.dtype} == {np.dtype(np.int64)}


def test_what_is_not_known_is_nan():
    found = encoded(random_masks(6, 13, 17))
    assert np.isnan(found.predicted_iou).all()
    assert np.isnan(found.stability_score).all()
    assert np.isnan(found.points).all()
    assert found.points.shape == (6, 2)
    assert found.crop_boxes.tolist() == [[0, 0, 17, 13]] * 6


def test_what_the_source_knows_is_kept():
    known = {
        "predicted_iou": np.array([0.9, 0.8]),
        "points": np.array([[1.5, 2.5], [3.5, 4.5]]),
        "boxes": np.array([[1, 2, 3, 4], [5, 6, 7, 8]]),
    }
    found = Proposals.of_runs(encoded(random_masks(2, 13, 17)).counts, (13, 17), **known)
    for name, values in known.items():
        np.testing.assert_array_equal(getattr(found, name), values)
    assert np.isnan(found.stability_score).all()


def test_what_is_known_is_not_measured(monkeypatch):
    """Which would take as long as the rest, for masks of SAM's."""
    counts = encoded(random_masks(2, 13, 17)).counts
    boxes, areas = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([9, 10])
    monkeypatch.setattr(proposals, "_measured", lambda *_: pytest.fail("measured"))
    found = Proposals.of_runs(counts, (13, 17), boxes=boxes, areas=areas)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.areas, areas)


def numbered(count: int) -> Proposals:
    """Every mask knows its number."""
    numbers = np.arange(count, dtype=np.float64)
    masks = random_masks(count, 13, 17)
    return Proposals.of_masks(
        np.ascontiguousarray(masks.transpose(0, 2, 1)),
        predicted_iou=numbers,
        stability_score=-numbers,
        points=np.stack([numbers, 10 * numbers], axis=1),
        crop_boxes=np.arange(4 * count).reshape(count, 4),
    )


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        ([4, 0, 2], [4, 0, 2]),
        ([1, 1], [1, 1]),
        ([False, True, False, False, True], [1, 4]),
        ([False] * 5, []),
        ([True] * 5, [0, 1, 2, 3, 4]),
    ],
)
def test_chosen(which, numbers):
    found = numbered(5).chosen(np.array(which))
    assert found.size == (13, 17)
    assert found.predicted_iou.tolist() == numbers
    assert found.stability_score.tolist() == [-n for n in numbers]
    assert found.points.tolist() == [[n, 10 * n] for n in numbers]
    assert found.crop_boxes.tolist() == [[4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3] for n in numbers]
    masks = random_masks(5, 13, 17)[numbers]
    np.testing.assert_array_equal(found.masks(), masks)
    assert found.areas.tolist() == masks.sum((1, 2)).tolist()
    assert found.boxes.tolist() == [measured_box(mask) for mask in masks]


def test_choosing_leaves_the_others_alone():
    one = numbered(5)
    one.chosen(np.array([4, 0])).boxes[:] = -1
    assert_same(one, numbered(5))


@pytest.mark.parametrize("order", [None, [5, 0, 11, 3, 3, 8, 1], []])
@pytest.mark.parametrize("size", SIZES)
def test_regions_are_the_masks_in_that_order(order, size):
    masks = random_masks(12, *size, seed=3)
    regions = list(encoded(masks).regions(order))
    numbers = range(12) if order is None else order
    for region, number in zip(regions, numbers, strict=True):
        assert_is_the_mask(region, masks[number])


@pytest.mark.parametrize("masks", all_masks())
def test_regions_of_any_mask(masks):
    for region, mask in zip(encoded(masks).regions(), masks, strict=True):
        assert_is_the_mask(region, mask)


@given(
    bits=st.lists(st.booleans(), min_size=1, max_size=60),
    height=st.integers(1, 8),
)
@settings(max_examples=200, deadline=None)
def test_regions_of_any_pixels(bits, height):
    width = max(1, len(bits) // height)
    mask = np.resize(np.array(bits), (1, height, width))
    (region,) = encoded(mask).regions()
    assert_is_the_mask(region, mask[0])


def test_regions_of_a_large_picture():
    """Runs of up to five groups of bits, and negative differences of them."""
    mask = np.zeros((1, 3000, 2500), np.bool_)
    mask[0, 17:2990, 300:1200] = True
    mask[0, :, 1200:1900] = True
    mask[0, 5, 2400] = True
    mask[0, 1000:1003, 400:410] = False
    (region,) = encoded(mask).regions()
    assert (region.columns, region.rows) == (slice(300, 2401), slice(0, 3000))
    np.testing.assert_array_equal(region.inside, mask[0, region.rows, region.columns].T)


# Not longer: pycocotools has six bytes for each compressed run, and writes beyond them.
@given(lengths=st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_run_lengths_are_those_that_coco_compressed(lengths):
    compressed = coco.frPyObjects({"size": [1, sum(lengths)], "counts": lengths}, 1, 1)["counts"]
    assert proposals.run_lengths(compressed).tolist() == lengths


def test_more_masks_than_a_byte_counts():
    masks = random_masks(300, 13, 17, seed=5)
    found = encoded(masks)
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks]
    assert found.boxes.tolist() == [measured_box(mask) for mask in masks]
    np.testing.assert_array_equal(found.masks(), masks)


def test_masks_in_any_order_of_memory():
    masks = random_masks(6, 13, 17)
    for turned in (masks.transpose(0, 2, 1), np.asfortranarray(masks.transpose(0, 2, 1))):
        np.testing.assert_array_equal(Proposals.of_masks(turned).masks(), masks)
    np.testing.assert_array_equal(
        Proposals.of_masks(masks.transpose(0, 2, 1)[::2, 1:, ::3]).masks(), masks[::2, ::3, 1:]
    )


@pytest.mark.parametrize("masks", all_masks())
def test_outlines_are_those_of_a_plain_loop(masks):
    found = outlined(encoded(masks))
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, traced(masks))


def test_the_outline_of_a_square_by_hand():
    mask = np.zeros((1, 6, 7), np.bool_)
    mask[0, 1:5, 2:6] = True
    expected = mask[0].copy()
    expected[2:4, 3:5] = False
    np.testing.assert_array_equal(outlined(encoded(mask)), expected)
