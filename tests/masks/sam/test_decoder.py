"""Points to masks against segment_anything's prompt encoder and MaskDecoder."""

from __future__ import annotations

import pytest
import torch

from sclip_core.masks.sam import decoder
from sclip_core.masks.sam.decoder import SamDecoder

from .models import CHANNELS, SIDE, decode, make


def drawn(points: int, grid: tuple[int, int] = (8, 8), seed: int = 0):
    """An embedding (C, h, w) and points (P, 2) in pixels."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(CHANNELS, *grid, generator=generator)
    return embedding, torch.rand(points, 2, generator=generator, dtype=torch.float64) * SIDE


def all_of(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of points and of their masks."""
    return torch.arange(points).repeat_interleave(3), torch.arange(3).repeat(points)


@torch.no_grad()
def assert_same(sam, embedding, points, bound) -> None:
    """Quality and logits of all masks; the bound is relative to what tells masks apart."""
    logits, quality = decode(sam, embedding[None], points)
    ours = SamDecoder(sam)
    prompted = ours.prompt(embedding, points)
    masks = ours.masks(prompted, *all_of(len(points))).view(logits.shape)
    assert prompted.quality.dtype == masks.dtype == torch.float32
    assert logits.std() > 0.5
    for mine, theirs in ((prompted.quality, quality), (masks, logits)):
        scale = max(1.0, theirs.std().item())
        torch.testing.assert_close(mine, theirs.float(), atol=bound * scale, rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("points", [1, 2, 7, 33])
def test_is_the_module(depth, points):
    assert_same(make(seed=1, depth=depth), *drawn(points), bound=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_is_the_module_in_double_precision(depth, heads):
    """Up to the last step, which rounds to float32."""
    sam = make(seed=2, depth=depth, heads=heads)
    sam.mask_decoder.double()
    embedding, points = drawn(5)
    assert_same(sam, embedding.double(), points, bound=1e-6)


@pytest.mark.parametrize("grid", [(5, 9), (9, 5), (1, 4)])
def test_grids_that_are_not_square(grid):
    sam = make(seed=3)
    sam.prompt_encoder.image_embedding_size = grid
    assert_same(sam, *drawn(4, grid), bound=1e-4)


def test_points_at_the_edges():
    points = torch.tensor([[0.0, 0.0], [SIDE, 0], [0, SIDE], [SIDE, SIDE], [-3, SIDE + 5]])
    assert_same(make(seed=4), drawn(1)[0], points, bound=1e-4)


@pytest.mark.parametrize(
    ("point", "which"),
    [
        ([0], [0]),
        ([5], [2]),
        ([2, 2], [0, 2]),
        ([0, 1, 1, 1, 4], [1, 0, 1, 2, 2]),
        ([1, 3, 3], [2, 2, 0]),
    ],
)
def test_only_chosen_masks(sam, point, which):
    """In the order that is asked for; points without a mask are passed over."""
    embedding, points = drawn(6)
    ours = SamDecoder(sam)
    chosen = ours.masks(ours.prompt(embedding, points), torch.tensor(point), torch.tensor(which))
    with torch.no_grad():
        logits, _ = decode(sam, embedding[None], points)
    torch.testing.assert_close(chosen, logits[point, which], atol=1e-3, rtol=0)
    others = logits.flatten(0, 1)[None] - chosen[:, None]
    assert ((others.abs().amax(dim=(2, 3)) < 1e-2).sum(dim=1) == 1).all()


def test_points_do_not_know_of_each_other(sam):
    embedding, points = drawn(9)
    ours = SamDecoder(sam)
    together = ours.prompt(embedding, points)
    masks = ours.masks(together, *all_of(9)).view(9, 3, 32, 32)
    for number, point in enumerate(points):
        alone = ours.prompt(embedding, point[None])
        torch.testing.assert_close(alone.quality[0], together.quality[number], atol=1e-5, rtol=0)
        mask = ours.masks(alone, *all_of(1))
        torch.testing.assert_close(mask, masks[number], atol=1e-3, rtol=0)


def test_arguments_stay_as_they_are(sam):
    embedding, points = drawn(3)
    before = embedding.clone(), points.clone()
    ours = SamDecoder(sam)
    first = ours.prompt(embedding, points)
    kept = first.quality.clone(), first.keys.clone()
    ours.prompt(embedding + 1, points)
    ours.masks(first, *all_of(3))
    assert torch.equal(embedding, before[0])
    assert torch.equal(points, before[1])
    assert torch.equal(first.quality, kept[0])
    assert torch.equal(first.keys, kept[1])


def test_precision_is_that_of_the_weights():
    """The prompts stay in fp32; the answers come back in it."""
    sam = make(seed=5)
    embedding, points = drawn(6)
    expected = SamDecoder(sam).prompt(embedding, points).quality
    sam.mask_decoder.bfloat16()
    ours = SamDecoder(sam)
    assert ours.dtype == torch.bfloat16
    prompted = ours.prompt(embedding, points)
    assert prompted.keys.dtype == torch.bfloat16
    assert ours.masks(prompted, *all_of(6)).dtype == torch.float32
    torch.testing.assert_close(prompted.quality, expected, atol=0.1, rtol=0)
    assert (prompted.quality != expected).any()


def test_many_points_at_a_time(sam, monkeypatch):
    """The way of a GPU."""
    monkeypatch.setattr(decoder, "ONE_BY_ONE", set())
    monkeypatch.setattr(decoder, "POINTS_TOGETHER", 3)
    embedding, points = drawn(11)
    assert_same(sam, embedding, points, 1e-5)
    some = torch.tensor([0, 0, 4, 5, 5, 10]), torch.tensor([0, 2, 1, 0, 1, 2])
    ours = SamDecoder(sam)
    prompted = ours.prompt(embedding, points)
    whole = ours.masks(prompted, *all_of(11))
    torch.testing.assert_close(ours.masks(prompted, *some), whole[3 * some[0] + some[1]])
