"""Areas of the classes that occur, against the same as whole arrays and slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.evaluation import Areas, Confusion, SparseAreas, Tally, bootstrap
from sclip_core.evaluation import sparse as module
from sclip_core.evaluation.bootstrap import EXACT, GROUPS, drawn_groups

from .test_bootstrap import drawn


def assert_same(found: Areas, expected: Areas) -> None:
    for name, one, other in zip(Areas._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_nothing_is_lost(monkeypatch, at_once):
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", at_once)
    monkeypatch.setattr(module, "CELLS_AT_ONCE", 5 * at_once)
    whole = drawn(23, 5)
    found = SparseAreas.of(whole)
    assert len(found.image) == (whole.union > 0).sum() < whole.label.size
    assert_same(found.dense(), whole)
    assert_same(found.dense(3, 9), Areas(*(area[3:9] for area in whole)))
    blocks = list(found.blocks())
    assert (len(blocks) > 1) == (at_once < 23)
    assert_same(Areas(*map(np.concatenate, zip(*blocks, strict=True))), whole)
    assert_same(found.summed(), Areas(*(area.sum(axis=0) for area in whole)))
    kept = np.arange(23) % 3 > 0
    assert_same(found.only(kept).dense(), Areas(*(area[kept] for area in whole)))
    np.testing.assert_array_equal(found.images_with_label(), (whole.label > 0).sum(axis=0))
    np.testing.assert_array_equal(found.occurs(), (whole.union > 0).any(axis=0))
    group = np.arange(23) % 4
    by_group = [[area[group == g].sum(axis=0) for g in range(4)] for area in whole]
    assert_same(found.grouped(group, 4), Areas(*map(np.array, by_group)))


def test_images_of_another_truth():
    one = drawn(30, 4)
    other = Areas(*(area.copy() for area in drawn(30, 4, seed=5)))
    other = other._replace(label=one.label.copy())
    first, second, third = np.flatnonzero((one.label > 0).any(axis=1))[:3]
    other.label[first, np.flatnonzero(one.label[first])[0]] += 1
    other.label[second] = 0  # has no label any more
    other.label[third, np.flatnonzero(one.label[third] == 0)[0]] = 9  # has one more
    same = (one.label == other.label).all(axis=1)
    assert not same[[first, second, third]].any()
    assert same.sum() == 27
    for first, second in ((one, other), (other, one)):
        found = SparseAreas.of(first).same_label(SparseAreas.of(second))
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize(("at_once", "counted"), [(1 << 20, 1 << 18), (13, 1 << 18), (13, 1)])
def test_pairs_are_summed_as_image_by_image(monkeypatch, at_once, counted):
    monkeypatch.setattr(module, "CELLS_AT_ONCE", at_once)
    monkeypatch.setattr(module, "COUNTED", counted)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(12):
        codes = np.sort(rng.choice(4 * 5, size=rng.integers(0, 9), replace=False))
        label, guess = np.divmod(codes, 5)
        guess = np.where(guess == 4, -1, guess)
        images.append(Confusion(label, guess, rng.integers(1, 2**40, len(codes))))
    tally = Tally(14, 4)  # two never come
    order = [5, 3, 0, 1, 2, 13, 7, 8, 6, 9, 10, 12]
    for part in (slice(0, 7), slice(7, 12)):
        some = images[part]
        pairs = Confusion(*map(np.concatenate, zip(*some, strict=True)))
        tally.add(np.array(order[part]), np.array([len(each.label) for each in some]), pairs)
    dense = tally.areas().dense()
    for place in range(14):
        of = (
            images[order.index(place)].areas(4) if place in order else Areas(*np.zeros((3, 4), int))
        )
        assert_same(Areas(*(area[place] for area in dense)), of)
    total = {}
    for label, guess, pixels in (pair for each in images for pair in zip(*each, strict=True)):
        total[label, guess % 5] = total.get((label, guess % 5), 0) + pixels
    found = tally.confusion()
    assert list(zip(found.label, found.prediction % 5, found.pixels, strict=True)) == [
        (*pair, pixels) for pair, pixels in sorted(total.items())
    ]


def test_draws_of_sparse_areas_are_the_same_bit_by_bit():
    runs = [drawn(40, 5, seed) for seed in (1, 2)]
    whole = bootstrap(runs, resamples=60, seed=2, by_class=True)
    found = bootstrap([SparseAreas.of(run) for run in runs], resamples=60, seed=2, by_class=True)
    for name in ("miou", "macc", "aacc", "iou"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_groups_are_drawn_of_very_many_images_only():
    assert drawn_groups(EXACT) is None
    assert drawn_groups(EXACT + 1) == GROUPS


def test_intervals_of_groups_are_those_of_single_images():
    """Of 20,000 images whose classes, sizes and scores differ widely."""
    rng = np.random.default_rng(4)
    images, classes = 20_000, 12
    there = rng.random((images, classes)) < np.linspace(0.003, 0.6, classes)
    label = (rng.lognormal(8, 1.2, (images, classes)) * there).astype(np.int64)
    hard = rng.beta(2, 2, (images, 1)) * np.linspace(0.4, 1, classes)
    runs = []
    for gain in (1.0, 1.01):
        right = (label * np.clip(hard * gain, 0, 1)).astype(np.int64)
        runs.append(Areas(right, np.roll(label - right, 1, axis=1) + right, label))
    exact = bootstrap(runs, by_class=True, groups=images)
    found = bootstrap(runs, by_class=True, groups=GROUPS)
    pairs = [(one.of(s), other.of(s)) for s in ("miou", "macc", "aacc")
             for one, other in [(exact, found)]]  # fmt: skip
    pairs.append((exact.difference("miou", 1), found.difference("miou", 1)))
    pairs += zip(exact.class_ious(1), found.class_ious(1), strict=True)
    for one, other in pairs:
        width = one.high - one.low
        assert width > 0
        assert other.value == one.value
        assert abs(other.low - one.low) < 0.1 * width
        assert abs(other.high - one.high) < 0.1 * width
    widths = [(other.high - other.low) / (one.high - one.low) for one, other in pairs]
    assert np.mean(widths) == pytest.approx(1, abs=0.03)
