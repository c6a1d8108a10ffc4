"""PAMR against the loops of PROTOCOL section 5, pixel by pixel."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sclip_core import UserError, pamr
from sclip_core.segmentation import pamr as segmentation_pamr
from sclip_core.segmentation.pamr import pamr_weights, receptive_field

OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def by_hand(image: np.ndarray, mask: np.ndarray, steps: int, dilations) -> np.ndarray:
    """One pixel after the other, in float64."""
    image, mask = image.astype(np.float64), mask.astype(np.float64)
    channels, height, width = image.shape

    def neighbours(y: int, x: int) -> list[tuple[int, int]]:
        return [
            (min(max(y + d * dy, 0), height - 1), min(max(x + d * dx, 0), width - 1))
            for d in dilations
            for dy, dx in OFFSETS
        ]

    weights = {}
    for y in range(height):
        for x in range(width):
            around = neighbours(y, x)
            affinities = np.zeros(len(around))
            for channel in image:
                samples = [channel[n] for n in around] + [channel[y, x]] * len(dilations)
                deviation = np.std(samples, ddof=1)
                for index, n in enumerate(around):
                    difference = abs(channel[y, x] - channel[n])
                    affinities[index] += -difference / (1e-8 + 0.1 * deviation) / channels
            raised = np.exp(affinities - affinities.max())
            weights[y, x] = raised / raised.sum()
    for _ in range(steps):
        new = np.zeros_like(mask)
        for y in range(height):
            for x in range(width):
                for weight, (ny, nx) in zip(weights[y, x], neighbours(y, x), strict=True):
                    new[:, y, x] += weight * mask[:, ny, nx]
        mask = new
    return mask


def random_tensors(words: int, height: int, width: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(3, height, width, generator=generator)
    return image, torch.randn(words, height, width, generator=generator)


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (8, 16), (1, 2, 4, 8, 12, 24), (3, 3)])
@pytest.mark.parametrize(
    ("words", "height", "width"), [(2, 9, 7), (1, 5, 12), (3, 1, 1), (2, 1, 6), (1, 6, 1)]
)
def test_is_the_loop(words, height, width, dilations):
    """Most of these dilations reach beyond the image."""
    image, logits = random_tensors(words, height, width)
    ours = pamr(image, logits, steps=3, dilations=dilations)
    expected = by_hand(image.numpy(), logits.numpy(), 3, dilations)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)


def test_is_the_loop_with_the_defaults():
    image, logits = random_tensors(2, 10, 11, seed=1)
    expected = by_hand(image.numpy(), logits.numpy(), 10, (8, 16))
    np.testing.assert_allclose(pamr(image, logits), expected, atol=1e-5, rtol=0)


def test_edges_keep_the_words_apart():
    """Two flat halves: nothing crosses the edge between them."""
    image = torch.zeros(3, 12, 12)
    image[:, :, 6:] = 2
    logits = torch.zeros(1, 12, 12)
    logits[:, :, 6:] = 1
    logits += 0.3 * torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0))
    refined = pamr(image, logits, steps=20, dilations=(1,))
    assert refined[:, :, :6].max() < 0.31
    assert refined[:, :, 6:].min() > 0.99
    assert refined[:, :, :6].std() < logits[:, :, :6].std() / 2


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
dilation_sets = st.lists(st.integers(1, 15), min_size=1, max_size=3)


@given(sizes, dilation_sets, st.integers(0, 4), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_no_value_leaves_the_range(size, dilations, steps, seed):
    image, logits = random_tensors(2, *size, seed)
    refined = pamr(image, logits, steps, dilations)
    for before, after in zip(logits, refined, strict=True):
        assert before.min() - 1e-5 <= after.min()
        assert after.max() <= before.max() + 1e-5


@given(sizes, dilation_sets, st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_is_linear(size, dilations, a, b, seed):
    image, logits = random_tensors(2, *size, seed)
    one, two = logits[:1], logits[1:]
    mixed = pamr(image, a * one + b * two, 3, dilations)
    apart = a * pamr(image, one, 3, dilations) + b * pamr(image, two, 3, dilations)
    torch.testing.assert_close(mixed, apart, atol=2e-5, rtol=0)


@given(sizes, dilation_sets, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_weights_are_shares(size, dilations, seed):
    image, _ = random_tensors(1, *size, seed)
    weights = pamr_weights(image, dilations)
    assert weights.shape == (8 * len(dilations), *size)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(size))


def test_words_do_not_know_of_each_other(monkeypatch):
    image, logits = random_tensors(5, 8, 9)
    together = pamr(image, logits, 4, (1, 2))
    for word in range(5):
        assert torch.equal(together[word], pamr(image, logits[word : word + 1], 4, (1, 2))[0])
    module = importlib.import_module("sclip_core.segmentation.pamr")  # the function hides it
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)  # a word at a time
    assert torch.equal(together, pamr(image, logits, 4, (1, 2)))


def test_weights_of_strips_are_those_of_the_whole(monkeypatch):
    image, _ = random_tensors(1, 11, 9)
    whole = pamr_weights(image, (1, 3))
    module = importlib.import_module("sclip_core.segmentation.pamr")
    monkeypatch.setattr(module, "STRIP_PIXELS", 20)  # two rows
    torch.testing.assert_close(pamr_weights(image, (1, 3)), whole, atol=1e-7, rtol=0)


def test_reaches_no_further_than_its_receptive_field():
    image, logits = torch.zeros(3, 1, 40), torch.zeros(1, 1, 40)
    changed = logits.clone()
    changed[..., 20] += 100
    reach = receptive_field(steps=3, dilations=(1, 4))
    assert reach == 12
    moved = (pamr(image, logits, 3, (1, 4)) - pamr(image, changed, 3, (1, 4))).abs()[0, 0]
    assert moved[: 20 - reach].max() == moved[20 + reach + 1 :].max() == 0
    assert moved[20 - reach] > 0


def test_arguments_stay_as_they_are():
    image, logits = random_tensors(2, 6, 6)
    before = image.clone(), logits.clone()
    refined = pamr(image, logits, steps=2)
    untouched = pamr(image, logits, steps=0)
    assert torch.equal(image, before[0])
    assert torch.equal(logits, before[1])
    assert torch.equal(untouched, logits)
    assert untouched.data_ptr() != logits.data_ptr()
    refined += 1  # an ordinary tensor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_computed_in_float32(dtype):
    image, logits = (tensor.to(dtype) for tensor in random_tensors(2, 6, 6))
    refined = pamr(image, logits, 2, (1,))
    assert refined.dtype == torch.float32
    assert torch.equal(refined, pamr(image.float(), logits.float(), 2, (1,)))


def test_logits_that_want_a_gradient():
    image, logits = random_tensors(2, 6, 6)
    refined = pamr(image, logits.requires_grad_(), 2, (1,))
    assert not refined.requires_grad


def test_numpy_arrays_are_taken():
    image, logits = random_tensors(2, 6, 6)
    assert torch.equal(pamr(image.numpy(), logits.numpy(), 2), pamr(image, logits, 2))


def test_is_public():
    assert pamr is segmentation_pamr


@pytest.mark.parametrize(
    ("image", "logits", "options", "says"),
    [
        ((3, 5, 6), (2, 6, 5), {}, r"image of shape \(3, 5, 6\) and logits of \(2, 6, 5\)"),
        ((5, 6), (2, 5, 6), {}, "expected"),
        ((3, 5, 6), (5, 6), {}, "expected"),
        ((3, 5, 6), (0, 5, 6), {}, "expected"),
        ((3, 0, 6), (2, 0, 6), {}, "expected"),
        ((3, 5, 6), (2, 5, 6), {"steps": -1}, "steps=-1; expected 0 or more"),
        ((3, 5, 6), (2, 5, 6), {"dilations": ()}, r"dilations=\(\); expected one or more"),
        ((3, 5, 6), (2, 5, 6), {"dilations": (1, 0)}, "each 1 or more"),
    ],
)
def test_bad_input(image, logits, options, says):
    with pytest.raises(UserError, match=says) as error:
        pamr(torch.zeros(image), torch.zeros(logits), **options)
    assert "\n" not in str(error.value)
