"""Intervals of resampled images, against a slow loop and what is known of a mean."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sclip_core.evaluation import Areas, bootstrap, scores
from sclip_core.evaluation.bootstrap import interval


def drawn(images: int, classes: int, seed: int = 0) -> Areas:
    """Areas of images in which most classes do not occur."""
    rng = np.random.default_rng(seed)
    there = rng.random((images, classes)) < 0.3
    label = rng.integers(1, 500, (images, classes)) * there
    intersect = (label * rng.random((images, classes))).astype(np.int64)
    prediction = intersect + rng.integers(0, 90, (images, classes)) * (there | (label > 400))
    return Areas(intersect, prediction, label)


def taken(areas: Areas, chosen: np.ndarray) -> Areas:
    """The summed areas of the images that were drawn, one by one."""
    total = Areas(*np.zeros((3, areas.label.shape[1]), np.int64))
    for image in chosen:
        for sum_, part in zip(total, areas, strict=True):
            sum_ += part[image]
    return total


def test_every_draw_is_scored_as_the_metric_scores_it(monkeypatch):
    runs = [drawn(7, 5, seed) for seed in (1, 2)]
    runs[1] = runs[1]._replace(label=runs[0].label)
    found = bootstrap(runs, resamples=40, seed=3, by_class=True)
    rng = np.random.default_rng(3)
    choices = [np.arange(7), *rng.integers(7, size=(40, 7))]
    for run, areas in enumerate(runs):
        own = scores(taken(areas, choices[0]))
        lost = 0
        for draw, chosen in enumerate(choices):
            theirs = scores(taken(areas, chosen))
            np.testing.assert_array_equal(found.iou[run, draw], theirs.iou)
            # a class that no drawn image has counts as in the dataset
            iou = [a if b != b else b for a, b in zip(own.iou, theirs.iou, strict=True)]
            acc = [a if b != b else b for a, b in zip(own.acc, theirs.acc, strict=True)]
            np.testing.assert_allclose(found.miou[run, draw], np.nanmean(iou), rtol=1e-12)
            np.testing.assert_allclose(found.macc[run, draw], np.nanmean(acc), rtol=1e-12)
            lost += bool((np.isnan(theirs.iou) & ~np.isnan(own.iou)).any())
            np.testing.assert_allclose(found.aacc[run, draw], theirs.aacc, rtol=1e-12)
        assert 0 < lost < len(choices)  # both kinds of draws are tried


def test_draws_in_pieces_are_the_same(monkeypatch):
    module = sys.modules["sclip_core.evaluation.bootstrap"]
    whole = bootstrap([drawn(7, 5)], resamples=50, seed=1)
    monkeypatch.setattr(module, "AT_ONCE", 7 * 8)
    pieces = bootstrap([drawn(7, 5)], resamples=50, seed=1)
    np.testing.assert_array_equal(whole.miou, pieces.miou)
    assert whole.iou.shape == (1, 51, 0)


def test_the_interval_of_a_mean_is_the_textbooks():
    # images of one size: aAcc is the mean of their shares, whose standard error is known
    rng = np.random.default_rng(0)
    right = rng.integers(0, 1001, (400, 1))
    same = np.full((400, 1), 1000)
    found = bootstrap([Areas(right, same, same)], resamples=4000).of("aacc")
    error = 100 * (right / 1000).std() / np.sqrt(400)
    assert found.value == pytest.approx(100 * right.mean() / 1000)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)


def test_pairs_tell_what_two_intervals_cannot():
    first = drawn(60, 4, 5)
    better = first._replace(intersect=np.minimum(first.intersect + 5, first.label))
    better = better._replace(prediction=first.prediction + better.intersect - first.intersect)
    found = bootstrap([first, better], resamples=500)
    gain, one, other = found.difference("miou", 1), found.of("miou", 0), found.of("miou", 1)
    assert one.high > other.low  # apart, they overlap
    assert gain.excludes_zero
    assert gain.value == pytest.approx(other.value - one.value)


def test_a_run_and_itself_differ_by_nothing():
    found = bootstrap([drawn(9, 4), drawn(9, 4)], resamples=100, by_class=True)
    assert found.difference("miou", 1) == (0, 0, 0)
    assert not found.difference("miou", 1).excludes_zero
    assert {d.value for d in found.class_differences(1)} == {0.0}


def test_a_class_that_is_nowhere_has_no_interval():
    areas = drawn(6, 3)
    for area in areas:
        area[:, 1] = 0
    found = bootstrap([areas], resamples=50, by_class=True)
    assert np.isnan(found.class_ious()[1]).all()
    assert not np.isnan(found.class_ious()[0]).any()
    assert not found.class_ious()[1].excludes_zero


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [drawn(3, 2), drawn(4, 2)],
        [drawn(3, 2), drawn(3, 4)],
        [Areas(*np.zeros((3, 0, 2), np.int64))],
        [Areas(*np.zeros((3, 5), np.int64))],
    ],
)
def test_runs_that_cannot_be_paired(runs):
    with pytest.raises(ValueError, match="expected one"):
        bootstrap(runs)


def test_a_value_that_is_undefined_has_no_interval():
    assert np.isnan(interval(np.array([np.nan, 1.0, 2.0]))).all()


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_do_not_move_the_interval_off_its_value(seed):
    """Of sixty classes that are in an image or two each, most draws lose some."""
    rng = np.random.default_rng(seed)
    images, classes = 40, 60
    label = np.zeros((images, classes), np.int64)
    label[np.arange(images)[:, None], rng.integers(classes, size=(images, 3))] = 1000
    hard = rng.random(classes)
    runs = []
    for gain in (0.0, -0.03):
        right = (label * np.clip(hard + gain, 0, 1) * rng.uniform(0.9, 1, label.shape)).astype(int)
        runs.append(Areas(right, np.maximum(right, label // 2), label))
    found = bootstrap(runs, resamples=500)
    for each in (found.of("miou"), found.of("macc"), found.difference("miou", 1)):
        assert each.low <= each.value <= each.high
