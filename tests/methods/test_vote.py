"""The vote of regions on labels, after the decision."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.methods.vote import vote


def test_majority_ties_and_the_lowest_id():
    labels = np.array([[3, 3, 5, 5], [1, 2, 2, 1], [9, 8, 7, 7]], np.uint8)
    regions = np.array([[7, 7, 7, 2], [40, 40, 40, 40], [2, 2, 2, 2]])
    voted = vote(labels, regions)
    assert voted.tolist() == [[3, 3, 3, 5], [1, 1, 1, 1], [9, 8, 7, 7]]
    assert voted.dtype == np.uint8


def test_against_a_loop():
    random = np.random.default_rng(0)
    labels = random.integers(0, 300, (40, 50)).astype(np.uint16) // 30
    regions = random.integers(-3, 12, (40, 50)) * 10**12
    expected = labels.copy()
    for one in np.unique(regions)[1:]:
        found, counts = np.unique(labels[regions == one], return_counts=True)
        expected[regions == one] = found[counts.argmax()]
    voted = vote(labels, regions)
    assert (voted == expected).all()
    assert (voted != labels).any()
    assert voted.dtype == np.uint16
    assert (vote(voted, regions) == voted).all()  # idempotent


def test_one_region_is_what_no_mask_covers():
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    voted = vote(labels, np.full((2, 3), 4))
    assert (voted == labels).all()
    assert not np.shares_memory(voted, labels)


def test_sizes():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        vote(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.int64))
    assert vote(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.int64)).shape == (0, 3)
