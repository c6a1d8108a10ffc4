"""Stitching by two matrices against the reference's way, written out window by window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate, normalize

from sclip_core.config import Geometry, ImageError, Protocol
from sclip_core.segmentation import Stitcher, stitch
from sclip_core.segmentation.stitch import bilinear_matrix

PATCH = 16


def random_features(geometry: Geometry, words: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-length features of the windows and of the words, 8 wide."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(geometry.num_windows, *geometry.tokens, 8, generator=generator)
    embeddings = torch.randn(words, 8, generator=generator)
    return normalize(features, dim=-1), normalize(embeddings, dim=-1)


def reference(features, embeddings, height: int, width: int, protocol: Protocol) -> torch.Tensor:
    """Sections 2 and 4 of docs/protocol.md as the public code computes them."""
    factor = min(2048 / max(height, width), protocol.short_side / min(height, width))
    h, w = int(height * factor + 0.5), int(width * factor + 0.5)
    logits = torch.einsum("nijd,qd->nqij", features, embeddings)
    if protocol.slide_crop == 0:
        return interpolate(logits, size=(height, width), mode="bilinear")[0]
    crop, stride = protocol.slide_crop, protocol.slide_stride
    total, count = torch.zeros(1, len(embeddings), h, w), torch.zeros(1, 1, h, w)
    remaining = iter(logits)
    for i in range(max(h - crop + stride - 1, 0) // stride + 1):
        for j in range(max(w - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(i * stride + crop, h), min(j * stride + crop, w)
            top, left = max(bottom - crop, 0), max(right - crop, 0)
            size = (bottom - top, right - left)
            window = interpolate(next(remaining)[None], size=size, mode="bilinear")
            total[:, :, top:bottom, left:right] += window
            count[:, :, top:bottom, left:right] += 1
    assert next(remaining, None) is None  # every window was used
    assert (count > 0).all()
    return interpolate(total / count, size=(height, width), mode="bilinear")[0]


def assert_is_reference(
    height: int, width: int, protocol: Protocol, words: int = 3, atol: float = 2e-6
) -> None:
    geometry = Geometry.of(height, width, protocol, PATCH)
    features, embeddings = random_features(geometry, words, seed=height * 10_000 + width)
    stitcher = Stitcher(geometry)
    ours = stitcher.stitch(stitcher.side_by_side(features, embeddings))
    expected = reference(features, embeddings, height, width, protocol)
    torch.testing.assert_close(ours, expected, atol=atol, rtol=0)


PROTOCOLS = {
    "reference": Protocol(),
    "large windows": Protocol(slide_crop=336, slide_stride=224),
    "windows that do not overlap": Protocol(slide_crop=64, slide_stride=64, short_side=100),
    "odd numbers": Protocol(slide_crop=75, slide_stride=31, short_side=131),
    "whole image": Protocol(slide_crop=0, short_side=112),
}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(
    ("height", "width"),
    [
        (300, 420),
        (420, 300),
        (1, 1),
        (1, 6),  # one pixel high
        (7, 1),
        (30, 40),  # enlarged
        (90, 720),  # long and thin: lower than a window
        (700, 80),
        (333, 333),
    ],
)
def test_is_the_reference(height, width, name):
    try:
        Geometry.of(height, width, PROTOCOLS[name], PATCH)
    except ImageError:
        pytest.fail("choose a size that has a patch")
    assert_is_reference(height, width, PROTOCOLS[name])


# With one thread PyTorch resizes small images by another kernel, which rounds the sampling
# positions otherwise: its own two kernels are 5e-6 apart.
@pytest.mark.usefixtures("two_threads")
@given(
    height=st.integers(1, 160),
    width=st.integers(1, 160),
    short_side=st.integers(16, 120),
    crop=st.one_of(st.just(0), st.integers(16, 130)),
    share=st.floats(0.05, 1),
)
@example(height=149, width=10, short_side=113, crop=0, share=1.0)
@settings(max_examples=60, deadline=None)
def test_is_the_reference_on_random_sizes(height, width, short_side, crop, share):
    stride = max(1, round(crop * share)) if crop else 112
    protocol = Protocol(short_side=short_side, slide_crop=crop, slide_stride=max(stride, crop // 8))
    try:
        geometry = Geometry.of(height, width, protocol, PATCH)
    except ImageError:
        return
    if geometry.num_windows <= 200:
        # up to 2,000 pixels wide and as many windows' sums: the last digits add up
        assert_is_reference(height, width, protocol, atol=5e-6)


@pytest.mark.parametrize("crop", [224, 0])
@pytest.mark.parametrize("rows", [1, 7, 64, 299])
def test_blocks_of_rows_are_the_whole(rows, crop):
    geometry = Geometry.of(300, 420, Protocol(slide_crop=crop), PATCH)
    stitcher = Stitcher(geometry)
    laid = stitcher.side_by_side(*random_features(geometry, 4, seed=0))
    blocks = [stitcher.stitch(laid, top, min(top + rows, 300)) for top in range(0, 300, rows)]
    # sums of values below 1, which a single row may add in another order: four last digits
    whole = stitcher.stitch(laid)
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole, atol=2**-22, rtol=0)
    assert blocks[0].shape == (4, rows, 420)


def test_side_by_side_is_the_cosines_of_the_windows():
    geometry = Geometry.of(300, 420, Protocol(), PATCH)
    features, embeddings = random_features(geometry, 3, seed=1)
    laid = Stitcher(geometry).side_by_side(features.half(), embeddings)
    assert laid.dtype == torch.float32
    rows, columns = geometry.tokens
    for window in range(geometry.num_windows):
        i, j = divmod(window, len(geometry.lefts))
        part = laid[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        expected = torch.einsum("ijd,qd->qij", features[window].half().float(), embeddings)
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("source", "target"), [(1, 5), (5, 1), (3, 3), (14, 224), (97, 31)])
def test_bilinear_matrix(source, target):
    """Two neighbours by their distance, written out."""
    matrix = bilinear_matrix(source, target)
    expected = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        position = max((i + 0.5) * source / target - 0.5, 0)
        left = min(int(position), source - 1)
        right, share = min(left + 1, source - 1), position - left
        expected[i, left] += 1 - share
        expected[i, right] += share
    torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(target, dtype=torch.float64))


def test_no_logit_leaves_the_range_of_the_cosines():
    geometry = Geometry.of(300, 420, Protocol(), PATCH)
    stitcher = Stitcher(geometry)
    laid = stitcher.side_by_side(*random_features(geometry, 3, seed=2))
    stitched = stitcher.stitch(laid)
    for word in range(3):
        assert laid[word].min() - 1e-6 <= stitched[word].min()
        assert stitched[word].max() <= laid[word].max() + 1e-6


@pytest.mark.parametrize("short_side", [300, 336])
def test_an_image_that_keeps_its_size_is_not_resized(monkeypatch, short_side):
    """The matrix would be the identity, of the square of an image's side."""
    made = []

    def noted(source, target):
        made.append((source, target))
        return bilinear_matrix(source, target)

    monkeypatch.setattr(stitch, "bilinear_matrix", noted)
    stitch.axis_matrix.cache_clear()
    geometry = Geometry.of(300, 420, Protocol(short_side=short_side), PATCH)
    Stitcher(geometry)
    stitch.axis_matrix.cache_clear()
    kept = geometry.resized == geometry.original
    assert kept == (short_side != 336)
    assert len(made) == (2 if kept else 4)  # of two axes


@pytest.mark.parametrize("crop", [0, 224])
def test_matrices_are_on_the_device_that_is_asked_for(crop):
    """One after the other, though matrices are remembered."""
    geometry = Geometry.of(300, 420, Protocol(slide_crop=crop), PATCH)
    for device in ("cpu", "meta", "cpu"):
        found = Stitcher(geometry, device)
        assert (found.rows.device.type, found.columns.device.type) == (device, device)


def test_padding_of_two_widths_is_cut_off_where_it_is():
    """Two pixels before a window of 8, and six after it."""
    found = stitch.axis_matrix((0,), 8, 4, 8, 8, (2, 6))
    torch.testing.assert_close(found, bilinear_matrix(4, 16)[2:10].float(), atol=0, rtol=0)
