"""One image in blocks of rows: whatever the memory allows, the labels are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, normalize

from sclip_core import pamr
from sclip_core.config import Geometry, Protocol
from sclip_core.segmentation import Refiner, Stitcher

WORDS = torch.tensor([0, 0, 1, 2, 2, 2, 3])


def refiner(protocol: Protocol, height: int = 150, width: int = 110) -> Refiner:
    """Random features and a random image with flat areas."""
    generator = torch.Generator().manual_seed(0)
    geometry = Geometry.of(height, width, protocol, patch=16)
    features = torch.randn(geometry.num_windows, *geometry.tokens, 8, generator=generator)
    embeddings = torch.randn(len(WORDS), 8, generator=generator)
    pixels = torch.randn(3, *geometry.resized, generator=generator)
    pixels[:, : geometry.resized[0] // 3] = 1
    return Refiner(
        geometry,
        normalize(features, dim=-1),
        normalize(embeddings, dim=-1),
        protocol,
        lambda: pixels,
    )


PROTOCOLS = {
    "plain": Protocol(short_side=112, slide_crop=64, slide_stride=32),
    "whole image": Protocol(short_side=112, slide_crop=0),
    "prob_thd": Protocol(short_side=112, prob_thd=0.4),
    "area_thd": Protocol(short_side=112, area_thd=0.25, prob_thd=0.2),
    "PAMR": Protocol(short_side=112, pamr_steps=3, pamr_dilations=(1, 2)),
    "PAMR, area_thd, prob_thd": Protocol(
        short_side=112, pamr_steps=2, pamr_dilations=(1, 4), area_thd=0.25, prob_thd=0.2
    ),
    "PAMR that sees everything": Protocol(short_side=112, pamr_steps=10, pamr_dilations=(8, 16)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_blocks_give_the_labels_of_the_whole(monkeypatch, name):
    ours = refiner(PROTOCOLS[name])
    whole_logits, whole = ours.logits(), ours.labels(WORDS, 4)
    assert len(np.unique(whole)) > 1
    monkeypatch.setattr("sclip_core.segmentation.refiner.BLOCK_ELEMENTS", 1)
    assert len(list(ours._blocks())) > 1
    np.testing.assert_array_equal(ours.labels(WORDS, 4), whole)
    torch.testing.assert_close(ours.logits(), whole_logits, atol=2e-6, rtol=0)
    assert ours.logits().shape == (len(WORDS), 150, 110)


@pytest.mark.parametrize("name", ["PAMR", "PAMR that sees everything"])
def test_pamr_sees_the_averaged_logits_and_the_resized_image(name):
    """Section 5: before scale and softmax, at the original size."""
    ours = refiner(PROTOCOLS[name])
    stitcher = Stitcher(ours.geometry)
    before = stitcher.stitch(stitcher.side_by_side(ours.features, ours.embeddings))
    image = interpolate(ours.pixels()[None], size=(150, 110), mode="bilinear")[0]
    protocol = PROTOCOLS[name]
    expected = pamr(image, before, protocol.pamr_steps, protocol.pamr_dilations)
    torch.testing.assert_close(ours.logits(), expected, atol=0, rtol=0)


@pytest.mark.parametrize("limit", [1, 2**14, 2**17, 2**19, 2**28])
@pytest.mark.parametrize("name", ["plain", "PAMR"])
def test_blocks_keep_to_the_limit(monkeypatch, limit, name):
    """A block with its halo holds no more than the limit, down to a least height."""
    monkeypatch.setattr("sclip_core.segmentation.refiner.BLOCK_ELEMENTS", limit)
    ours = refiner(PROTOCOLS[name])
    rows, halo = ours._rows_per_block(), ours._halo()
    assert rows <= 150
    if rows not in (16, 150):
        assert (rows + 2 * halo) * 110 * ours._planes() <= limit
    heights = [block.shape[1] for block in ours._blocks()]
    assert sum(heights) == 150
    assert set(heights[:-1]) <= {rows}


def test_pixels_are_asked_for_only_by_pamr():
    def fail():
        raise AssertionError("pixels were read")

    plain = refiner(PROTOCOLS["plain"])
    Refiner(plain.geometry, plain.features, plain.embeddings, plain.protocol, fail).logits()
    with_steps = plain.protocol.replace(pamr_steps=1)
    with pytest.raises(ValueError, match="no pixels were given"):
        Refiner(plain.geometry, plain.features, plain.embeddings, with_steps).logits()


def test_everything_is_on_the_device_of_the_features():
    """As on a GPU, with the words and the picture still on the CPU."""
    ours = refiner(PROTOCOLS["PAMR"])
    there = Refiner(
        ours.geometry, ours.features.to("meta"), ours.embeddings, ours.protocol, ours.pixels
    )
    assert there.logits().device.type == "meta"
    assert there.logits().shape == ours.logits().shape


def test_logits_are_ordinary_tensors():
    logits = refiner(PROTOCOLS["PAMR"]).logits()
    logits *= 40
    assert not logits.is_inference()


@pytest.mark.parametrize("limit", [1, 2**28])
@pytest.mark.parametrize("name", ["plain", "whole image", "PAMR"])
def test_the_best_word_of_groups_is_that_of_all_logits(monkeypatch, limit, name):
    """Pixel by pixel; the words that no group has are not looked at."""
    ours = refiner(PROTOCOLS[name], 40, 30)
    logits = ours.logits()
    monkeypatch.setattr("sclip_core.segmentation.refiner.BLOCK_ELEMENTS", limit)
    seen = []
    real = Stitcher.side_by_side
    monkeypatch.setattr(
        Stitcher, "side_by_side", lambda self, f, words: seen.append(words) or real(self, f, words)
    )
    groups = [[5, 3], [6], [3]]
    found = ours.best_of(groups)
    assert found.shape == (3, 40, 30)
    assert found.dtype == torch.float32
    for group, best in zip(groups, found, strict=True):
        for row in range(40):
            for column in range(30):
                expected = max(float(logits[word, row, column]) for word in group)
                assert abs(float(best[row, column]) - expected) < 2e-6
    (words,) = seen
    assert torch.equal(words, ours.embeddings[[3, 5, 6]])
