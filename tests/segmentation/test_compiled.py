"""The compiled kernels against slow obvious forms, on sizes and words that nobody would choose."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sclip_core.config import Geometry, Protocol
from sclip_core.segmentation import Refiner, Stitcher, compiled, decide, pamr

kernels = pytest.importorskip("sclip_core.segmentation.kernels")

SIZES = st.integers(1, 40)


@pytest.fixture(scope="module", autouse=True)
def path() -> None:
    """These tests choose the path themselves."""


def stitching(
    rng: np.random.Generator, words: int, height: int, width: int, ties: bool = False
) -> tuple[compiled.Stitching, np.ndarray]:
    """Random cosines and sparse matrices; and the logits (Q, H, W) by dense products in float64."""
    rows = rng.random((height, 5)) * (rng.random((height, 5)) < 0.5)
    columns = rng.random((width, 7)) * (rng.random((width, 7)) < 0.6)
    cosines = rng.integers(0, 2, (5, 7, words)) / 2 if ties else rng.random((5, 7, words))
    filled = np.zeros((5, 7, -(-words // 16) * 16), np.float32)
    filled[..., :words] = cosines
    exact = np.einsum("yi,ijq,xj->qyx", rows, filled[..., :words].astype(np.float64), columns)
    matrices = (torch.from_numpy(matrix).float() for matrix in (rows, columns))
    return compiled.Stitching(filled, *(compiled.Taps.of(m) for m in matrices)), exact


def by_hand(
    logits: np.ndarray, classes: np.ndarray, removed: np.ndarray | None, protocol: Protocol
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel by pixel: score of every class, the winner, its probability."""
    words, height, width = logits.shape
    scores = np.full((classes.max() + 1, height, width), -np.inf)
    for q in range(words):
        if removed is None or not removed[classes[q]]:
            scores[classes[q]] = np.maximum(scores[classes[q]], logits[q])
    labels = np.zeros((height, width), int)
    shares = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            labels[y, x] = int(np.argmax(scores[:, y, x]))
            exponents = [math.exp(protocol.logit_scale * v) for v in logits[:, y, x]]
            best = math.exp(protocol.logit_scale * scores[:, y, x].max())
            shares[y, x] = best / sum(exponents)
    return scores, labels, shares


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("prob_thd", [0.0, 0.3])
@settings(max_examples=25, deadline=None)
@given(
    words=st.integers(1, 70),
    height=SIZES,
    width=SIZES,
    removes=st.booleans(),
    seed=st.integers(0, 999),
)
def test_is_the_loop(steps, prob_thd, words, height, width, removes, seed) -> None:
    rng = np.random.default_rng(seed)
    given_logits, logits = stitching(rng, words, height, width)
    classes = np.sort(rng.integers(0, max(1, words // 2), words))
    removed = None
    if removes:
        removed = rng.random(classes.max() + 1) < 0.5
        removed[classes[0]] = False
    dilations = (1, 3)
    protocol = Protocol(
        logit_scale=7, prob_thd=prob_thd, pamr_steps=steps, pamr_dilations=dilations
    )
    image = None
    if steps:
        image = torch.from_numpy(rng.standard_normal((3, height, width), np.float32))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "available", lambda: False)
            logits = pamr(image, torch.from_numpy(logits), steps, dilations).double().numpy()
    voting = compiled.Voting(classes, classes.max() + 1, protocol)
    below, labels = compiled.winners(given_logits, image, voting, removed)
    scores, expected, shares = by_hand(logits, classes, removed, protocol)
    wrong = labels != expected
    second = np.take_along_axis(scores, labels[None].astype(int), 0)[0]
    assert (scores.max(0) - second)[wrong].max(initial=0) < 1e-5  # only where two are one
    if prob_thd:
        sure = np.abs(shares - prob_thd) > 1e-4
        np.testing.assert_array_equal(below[sure], (shares < prob_thd)[sure])
    else:
        assert below is None


@settings(max_examples=40, deadline=None)
@given(words=st.integers(1, 300), seed=st.integers(0, 999))
def test_ties_go_to_the_first_word(words, seed) -> None:
    """Matrices of one one each, so that equal cosines are equal logits."""
    rng = np.random.default_rng(seed)
    laid = np.zeros((3, 4, -(-words // 16) * 16), np.float32)
    laid[..., :words] = rng.integers(0, 3, (3, 4, words))
    taps = [compiled.Taps.of(torch.eye(n)) for n in (3, 4)]
    classes = np.arange(words)
    for steps in (0, 1):
        protocol = Protocol(pamr_steps=steps, pamr_dilations=(1,))
        # one colour everywhere: all neighbours count the same, which keeps equal words equal
        image = torch.zeros(3, 3, 4) if steps else None
        voting = compiled.Voting(classes, words, protocol)
        _, labels = compiled.winners(compiled.Stitching(laid, *taps), image, voting)
        if not steps:
            np.testing.assert_array_equal(labels, laid[..., :words].argmax(-1))
            assert labels.dtype == (np.uint8 if words <= 256 else np.uint16)
        copies = np.concatenate([laid[..., :words], laid[..., :words]], -1)
        padded = np.zeros((3, 4, -(-2 * words // 16) * 16), np.float32)
        padded[..., : 2 * words] = copies
        twice = compiled.Voting(np.arange(2 * words), 2 * words, protocol)
        _, again = compiled.winners(compiled.Stitching(padded, *taps), image, twice)
        np.testing.assert_array_equal(again, labels)


@settings(max_examples=25, deadline=None)
@given(
    words=st.integers(1, 40),
    height=SIZES,
    width=SIZES,
    steps=st.integers(1, 4),
    dilations=st.sampled_from([(1,), (1, 2), (8, 16), (3, 3), (1, 2, 4, 8, 12, 24)]),
    seed=st.integers(0, 999),
)
def test_pamr_is_the_portable_one(words, height, width, steps, dilations, seed) -> None:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.standard_normal((3, height, width), np.float32))
    logits = torch.from_numpy(rng.standard_normal((words, height, width), np.float32))
    found = pamr(image, logits, steps, dilations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "available", lambda: False)
        expected = pamr(image, logits, steps, dilations)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_blocks_of_rows_are_exact(monkeypatch, steps) -> None:
    rng = np.random.default_rng(0)
    given_logits, _ = stitching(rng, 40, 90, 50)
    image = torch.from_numpy(rng.standard_normal((3, 90, 50), np.float32))
    protocol = Protocol(pamr_steps=steps, pamr_dilations=(1, 2), prob_thd=0.03)
    voting = compiled.Voting(np.arange(40), 40, protocol)
    below, labels = compiled.winners(given_logits, image, voting)
    monkeypatch.setattr(compiled, "BUFFER_BYTES", 1)
    assert len(list(compiled._blocks(90, 50, steps, (1, 2)))) > 3
    again_below, again = compiled.winners(given_logits, image, voting)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(again_below, below)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads) -> None:
    rng = np.random.default_rng(0)
    given_logits, _ = stitching(rng, 20, 7, 30)
    image = torch.from_numpy(rng.standard_normal((3, 7, 30), np.float32))
    voting = compiled.Voting(np.arange(20), 20, Protocol(pamr_steps=2, pamr_dilations=(2,)))
    before = torch.get_num_threads()
    _, labels = compiled.winners(given_logits, image, voting)
    try:
        torch.set_num_threads(threads)
        _, again = compiled.winners(given_logits, image, voting)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("name", ["voc21", "coco_object", "cityscapes"])
def test_labels_are_those_of_the_logits(name) -> None:
    """The whole way from features, against the portable decision on the portable logits."""
    protocol = Protocol.named(name)
    generator = torch.Generator().manual_seed(0)
    geometry = Geometry.of(150, 233, protocol, 16)
    features = torch.randn(geometry.num_windows, *geometry.tokens, 32, generator=generator)
    words = torch.randn(30, 32, generator=generator)
    features, words = (torch.nn.functional.normalize(t, dim=-1) for t in (features, words))
    classes = torch.arange(30) * 2 // 3
    ours = Refiner(geometry, features, words, protocol).labels(classes, 20)
    stitcher = Stitcher(geometry)
    logits = stitcher.stitch(stitcher.side_by_side(features, words))
    expected = decide(lambda: [logits], classes, 20, protocol)
    assert (ours == expected).mean() > 0.9999


def test_without_numba_it_says_so_once() -> None:
    code = """
import sys, warnings
sys.modules["numba"] = None
from sclip_core.segmentation import compiled
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(compiled.available(), compiled.available(), len(said), said[0].message)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("False False 1 Numba is not installed")
    assert "sclip-benchmark[fast]" in run.stdout
