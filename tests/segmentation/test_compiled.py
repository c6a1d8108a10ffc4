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

from sclip_core.config import Geometry, Protocol, UserError
from sclip_core.segmentation import Refiner, Stitcher, backends, decide, pamr
from sclip_core.segmentation.pamr import _step, pamr_weights

pytest.importorskip("numba")
from sclip_core.segmentation.backends import numba_decision as compiled
from sclip_core.segmentation.backends import numba_jit, numba_lattice, numba_pamr

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
    exact = np.einsum("yi,ijq,xj->qyx", rows, cosines.astype(np.float64), columns)
    taps = (compiled.Taps.of(torch.from_numpy(matrix).float()) for matrix in (rows, columns))
    return compiled.Stitching(cosines.astype(np.float32), *taps), exact


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
            patch.setattr(backends, "numba_available", lambda: False)
            logits = pamr(image, torch.from_numpy(logits), steps, dilations).double().numpy()
    winners = compiled.NumbaDecision(given_logits, image, classes, classes.max() + 1, protocol)
    if seed % 2:
        winners(None)  # as area_thd does: what was decided then is not decided again
    below, labels = winners(removed)
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
    cosines = np.random.default_rng(seed).integers(0, 3, (3, 4, words)).astype(np.float32)
    taps = [compiled.Taps.of(torch.eye(n)) for n in (3, 4)]
    # one colour everywhere: all neighbours count the same, which keeps equal words equal
    image = torch.zeros(3, 3, 4)
    for steps in (0, 1):
        protocol = Protocol(pamr_steps=steps, pamr_dilations=(1,))
        one, two = (
            compiled.NumbaDecision(
                compiled.Stitching(np.concatenate([cosines] * copies, -1), *taps),
                image if steps else None,
                np.arange(copies * words),
                copies * words,
                protocol,
            )(None)[1]
            for copies in (1, 2)
        )
        np.testing.assert_array_equal(two, one)
        assert one.dtype == (np.uint8 if words <= 256 else np.uint16)
        if not steps:
            np.testing.assert_array_equal(one, cosines.argmax(-1))


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
    cosines = rng.uniform(-1, 1, (words, height, width)).astype(np.float32)
    logits = torch.from_numpy(cosines)
    found = pamr(image, logits, steps, dilations)
    # in float64, as the portable path rounds too
    weights, expected = pamr_weights(image.double(), dilations), logits.double()
    for _ in range(steps):
        expected = _step(expected, weights, dilations)
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("dilations", [(8, 16), (5, 10), (3,), (5, 40, 1000)])
@pytest.mark.parametrize("width", [300, 128, 7])
def test_weights_are_those_of_float64(dilations, width) -> None:
    """Of what pictures have: grey levels, noise, flat areas, and single pixels that stand out."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (3, 40, width)).astype(np.float64)
    levels[:, :20, : width // 2] = 200
    levels[:, 10, width // 4] = [201, 200, 0]
    levels[:, 25:, width // 2 :] += 0.25 * rng.random((3, 15, width - width // 2))
    image = torch.from_numpy((levels / 255 - 0.45) / 0.26).float()
    expected = pamr_weights(image.double(), dilations).permute(1, 2, 0)
    found = numba_pamr.WeightedImage.of(image.numpy(), dilations).weights
    assert found.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(found).double(), expected, atol=2e-6, rtol=0)
    if numba_lattice.suits(dilations, 40, width):
        g, parts = dilations[0], numba_lattice.WeightedLattice.of(image.numpy(), dilations)
        rows, columns = np.ogrid[:40, :width]
        of_parts = parts.lattice.weights[rows % g, columns % g, rows // g, columns // g]
        np.testing.assert_array_equal(of_parts, found)


@settings(max_examples=40, deadline=None)
@given(
    words=st.integers(1, 70),
    height=st.integers(8, 70),
    width=st.integers(8, 90),
    steps=st.integers(1, 12),
    near=st.integers(4, 9),
    threads=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_part_by_part_is_the_whole(words, height, width, steps, near, threads, seed) -> None:
    """Against the kernel that goes through whole images, step by step.

    Mostly to the last bit, but LLVM has that kernel choose by addresses between loops that
    contract other products.
    """
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.standard_normal((3, height, width), np.float32))
    logits = torch.from_numpy(rng.random((words, height, width), np.float32))
    arguments = image, logits, steps, (near, 2 * near)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = numba_lattice.pamr(*arguments)
    finally:
        torch.set_num_threads(before)
    expected = numba_pamr.pamr(*arguments)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("prob_thd", [0.0, 0.03])
@pytest.mark.parametrize("rows", [1, 2**29])
def test_part_by_part_gives_the_same_labels(monkeypatch, prob_thd, rows) -> None:
    """Of one number of steps and of several, in one block of rows and in many."""
    rng = np.random.default_rng(0)
    given_logits, _ = stitching(rng, 75, 90, 50)
    image = torch.from_numpy(rng.standard_normal((3, 90, 50), np.float32))
    protocols = [
        Protocol(pamr_steps=steps, pamr_dilations=(4, 8), prob_thd=prob_thd) for steps in (1, 3, 7)
    ]
    arguments = given_logits, image, np.arange(75) // 2, 38

    def decided(several: list[Protocol]) -> list[np.ndarray]:
        found = [each() for each in compiled.decisions(*arguments, several)]
        return [each for pair in found for each in pair if each is not None]

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "suits", lambda *_: False)
        expected = decided(protocols)
    monkeypatch.setattr(numba_pamr, "BUFFER_BYTES", rows)
    together = decided(protocols)
    alone = [each for protocol in protocols for each in decided([protocol])]
    assert len(expected) == len(protocols) * (2 if prob_thd else 1)
    for found in (together, alone):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("steps", [1, 4])
def test_blocks_of_rows_are_exact(monkeypatch, steps) -> None:
    rng = np.random.default_rng(0)
    given_logits, _ = stitching(rng, 40, 90, 50)
    image = torch.from_numpy(rng.standard_normal((3, 90, 50), np.float32))
    protocol = Protocol(pamr_steps=steps, pamr_dilations=(1, 2), prob_thd=0.03)
    decided = compiled.NumbaDecision(given_logits, image, np.arange(40), 40, protocol)
    below, labels = decided(None)
    monkeypatch.setattr(numba_pamr, "BUFFER_BYTES", 1)
    assert len(list(numba_pamr.row_blocks(90, 50, steps, (1, 2), 16))) > 3
    again_below, again = compiled.NumbaDecision(given_logits, image, np.arange(40), 40, protocol)()
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(again_below, below)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads) -> None:
    rng = np.random.default_rng(0)
    given_logits, _ = stitching(rng, 20, 7, 30)
    image = torch.from_numpy(rng.standard_normal((3, 7, 30), np.float32))
    protocol = Protocol(pamr_steps=2, pamr_dilations=(2,))
    decided = compiled.NumbaDecision(given_logits, image, np.arange(20), 20, protocol)
    before = torch.get_num_threads()
    _, labels = decided(None)
    try:
        torch.set_num_threads(threads)
        _, again = decided(None)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(again, labels)


@settings(max_examples=60, deadline=None)
@given(
    words=st.integers(1, 60),
    height=SIZES,
    width=SIZES,
    steps=st.integers(1, 12),
    spread=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    seed=st.integers(0, 999),
)
def test_words_that_are_left_out_win_nowhere(words, height, width, steps, spread, seed) -> None:
    """Words that differ by ``spread``, so that few, some, or nearly all cannot win."""
    rng = np.random.default_rng(seed)
    given_logits, logits = stitching(rng, words, height, width)
    given_logits.cosines[:] += spread * rng.random(words, np.float32)
    image = torch.from_numpy(rng.standard_normal((3, height, width), np.float32))
    protocol = Protocol(pamr_steps=steps, pamr_dilations=(1, 3))

    def decide_all() -> np.ndarray:
        return compiled.NumbaDecision(given_logits, image, np.arange(words), words, protocol)()[1]

    labels = decide_all()
    without = compiled.dominated(given_logits.cosines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "dominated", lambda cosines: np.zeros(cosines.shape[-1], bool))
        differ = labels != decide_all()
    assert not logits[:, differ].any()  # but where all are 0: rows of random matrices may be
    assert not without[labels[logits.any(axis=0)]].any()


def test_a_word_below_a_mixture_is_left_out() -> None:
    """It is below neither word everywhere, but below their mean."""
    cosines = np.array([[[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]]], np.float32)
    np.testing.assert_array_equal(compiled.dominated(cosines), [False, False, True])
    cosines[0, 1, 2] = 0.7
    np.testing.assert_array_equal(compiled.dominated(cosines), [False, False, False])


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


@pytest.mark.parametrize(
    ("height", "width", "steps", "dilations"),
    [(480, 640, 10, (8, 16)), (3000, 4000, 10, (8, 16)), (1024, 2048, 10, (1, 2, 4, 8, 12, 24))],
)
def test_what_a_block_needs_is_limited(height, width, steps, dilations) -> None:
    words = numba_pamr.queries_at_once(height, width, dilations, 171)
    blocks = list(numba_pamr.row_blocks(height, width, steps, dilations, words))
    assert sum(inner.stop - inner.start for _, inner in blocks) == height
    for outer, _ in blocks:
        rows, padded = outer.stop - outer.start, width + 2 * max(dilations)
        needed = 4 * rows * (2 * padded * words + 8 * len(dilations) * width)
        assert needed <= numba_pamr.BUFFER_BYTES


def test_a_distance_beyond_the_image_needs_no_room() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.standard_normal((3, 9, 7), np.float32))
    logits = torch.from_numpy(rng.standard_normal((2, 9, 7), np.float32))
    far, edge = (pamr(image, logits, 2, (d,)) for d in (10**9, 9))
    torch.testing.assert_close(far, edge, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_than_three_channels_are_refused(channels) -> None:
    with pytest.raises(UserError, match=r"expected \(3, H, W\)"):
        pamr(torch.zeros(channels, 5, 6), torch.zeros(2, 5, 6))


def test_no_folder_to_remember_what_was_compiled(monkeypatch) -> None:
    calls = []

    def njit(**options):
        calls.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda kernel: kernel

    monkeypatch.setattr(numba_jit, "njit", njit)
    kernel = lambda: None  # noqa: E731
    assert numba_jit.compiled(kernel) is kernel
    assert [options.get("cache", False) for options in calls] == [True, False]


def test_a_change_of_any_kernel_is_another_name_in_the_cache() -> None:
    """Numba compares the age of one file, but kernels inline functions of several."""
    assert {path.stem for path in numba_jit.SOURCES} >= {
        *("numba_jit", "numba_stitch", "numba_pamr_kernels", "numba_decision_kernels")
    }
    for kernel in (compiled.stitch_rows, compiled.decide_rows, numba_pamr.step_rows):
        assert kernel.py_func.__qualname__.endswith(numba_jit.DIGEST)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("sys.modules['numba'] = None", "is not installed: pip install 'sclip-benchmark[fast]'"),
        (
            "sys.meta_path.insert(0, type('Old', (), {'find_spec': lambda self, name, *a: "
            "exec('raise ImportError(\"Numba needs NumPy 2.4 or less\")') "
            "if name == 'numba' else None})())",
            "cannot be used (Numba needs NumPy 2.4 or less)",
        ),
    ],
)
def test_without_numba_it_says_so_once(breaks: str, says: str) -> None:
    code = f"""
import sys, warnings
{breaks}
from sclip_core.segmentation import backends
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(backends.numba_available(), backends.numba_available(), len(said), said[0].message)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("False False 1 Numba")
    assert says in run.stdout


def test_what_is_warmed_up_is_what_is_used() -> None:
    """In a process of its own: other tests compile for other types."""
    code = """
import threading
import numpy as np, torch
from sclip_core.config import Geometry, Protocol
from sclip_core.segmentation import Refiner, backends
backends.warm_up()
[t.join() for t in threading.enumerate() if t.name == "sclip-compile"]
from sclip_core.segmentation.backends import numba_decision, numba_lattice, numba_pamr
names = "stitch_rows decide_rows step_and_decide_rows".split()
kernels = [getattr(numba_decision, name) for name in names]
kernels += [numba_decision.decide_refined_rows, numba_decision.most_above]
kernels += [numba_pamr.weigh_rows, numba_pamr.step_rows]
kernels += [numba_lattice.weigh_lattice_rows, numba_lattice.refine_parts]
count = lambda: [len(kernel.signatures) for kernel in kernels]
before = count()
for steps, dilations in ((0, (1,)), (3, (1, 2)), (3, (8, 16))):
    for prob_thd in (0, 0.1):
        protocol = Protocol(
            short_side=64,
            pamr_steps=steps,
            pamr_dilations=dilations,
            prob_thd=prob_thd,
            area_thd=0.4,
        )
        geometry = Geometry.of(70, 90, protocol, 16)
        features = torch.randn(geometry.num_windows, *geometry.tokens, 8)
        pixels = torch.randn(3, *geometry.resized)
        refiner = Refiner(geometry, features, torch.randn(5, 8), protocol, lambda: pixels)
        refiner.labels(torch.arange(5), 5)
print(before, count())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{[1] * 9} {[1] * 9}"
