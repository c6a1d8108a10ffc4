"""Steps after the decision."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import grey_closing

from sclip_core.segmentation.after import closing


def slowly(labels: np.ndarray) -> np.ndarray:
    """The highest of each 3×3 square, then the lowest, by loops that stop at the border."""
    for best in (np.max, np.min):
        labels = np.array(
            [
                [
                    best(labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2])
                    for x in range(labels.shape[1])
                ]
                for y in range(labels.shape[0])
            ],
            dtype=labels.dtype,
        )
    return labels


@pytest.mark.parametrize("size", [(12, 15), (1, 9), (9, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize(("kind", "classes"), [(np.uint8, 171), (np.uint8, 256), (np.uint16, 847)])
def test_closing(size, kind, classes):
    labels = np.random.default_rng(0).integers(0, classes, size).astype(kind)
    found = closing(labels)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, slowly(labels))


def test_closing_within_the_border_is_scipys():
    labels = np.random.default_rng(0).integers(0, 21, (30, 40)).astype(np.uint8)
    expected = grey_closing(labels, size=(3, 3))
    np.testing.assert_array_equal(closing(labels)[2:-2, 2:-2], expected[2:-2, 2:-2])


def test_closing_twice_changes_nothing_more():
    labels = np.random.default_rng(0).integers(0, 21, (30, 40)).astype(np.uint8)
    once = closing(labels)
    assert (once >= labels).all()
    np.testing.assert_array_equal(closing(once), once)


def test_closing_prefers_the_higher_number():
    labels = np.full((9, 9), 5, np.uint8)
    labels[4, 4] = 2
    labels[0, 0] = 9
    expected = np.full((9, 9), 5, np.uint8)
    expected[0, 0] = 9
    before = labels.copy()
    np.testing.assert_array_equal(closing(labels), expected)
    np.testing.assert_array_equal(labels, before)


def test_closing_takes_strided_maps():
    labels = np.random.default_rng(0).integers(0, 21, (30, 40)).astype(np.uint8)
    np.testing.assert_array_equal(closing(labels[::2, ::-3]), slowly(labels[::2, ::-3]))
