"""Several policies in one pass, and the buffers that all blocks share."""

from __future__ import annotations

import threading

import pytest
import torch

from sclip_core.encoder import POLICIES, Attention, DenseEncoder
from sclip_core.tensors.buffers import _kept

from .models import build, small_config

EVERY = [Attention(name, arch) for name in sorted(POLICIES) for arch in ("vanilla", "reduced")]


def tower(seed: int, **config) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(small_config(**config)).visual


def random_pixels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_several_policies_are_each_alone(dtype, quick_gelu) -> None:
    visual = tower(0, quick_gelu=quick_gelu).to(dtype)
    pixels = random_pixels(3, 3, 64, 96)
    together = DenseEncoder(visual, EVERY[0]).features_of(pixels, EVERY)
    for attention, features in zip(EVERY, together, strict=True):
        alone = DenseEncoder(visual, attention).patch_features(pixels)
        torch.testing.assert_close(features, alone, atol=0, rtol=0)
    assert len({features.sum().item() for features in together}) > len(POLICIES)


def test_what_the_last_block_gets_is_enough() -> None:
    encoder = DenseEncoder(tower(0), EVERY[0])
    pixels = random_pixels(2, 3, 64, 96)
    kept = encoder.trunk(pixels).clone()
    for _ in range(2):  # it is not overwritten
        one, other = encoder.features_from(kept, (2, 3), EVERY[:2])
        torch.testing.assert_close(one, encoder.patch_features(pixels), atol=0, rtol=0)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_buffers_of_another_pass_change_nothing(quick_gelu) -> None:
    """Larger, smaller, another tower's: against a tower in float64, which has no buffers."""
    visuals = [
        tower(seed, quick_gelu=quick_gelu, vision={"width": w}) for seed, w in ((0, 32), (1, 64))
    ]
    encoders = [DenseEncoder(visual, EVERY[2]) for visual in visuals]
    for shape in ((1, 3, 64, 64), (5, 3, 224, 224), (2, 3, 32, 96)):
        pixels = random_pixels(*shape)
        for encoder in encoders:
            ours = encoder.tokens(pixels)
            encoder.visual.double()
            torch.testing.assert_close(ours.double(), encoder.tokens(pixels), atol=1e-4, rtol=1e-4)
            encoder.visual.float()


def test_threads_have_buffers_of_their_own() -> None:
    encoder = DenseEncoder(tower(0), EVERY[0])
    parts = [random_pixels(3, 3, 224, 224) + k for k in range(4)]
    expected = [encoder.tokens(part) for part in parts]
    wrong = []

    def repeat(part: torch.Tensor, tokens: torch.Tensor) -> None:
        wrong.extend(not torch.equal(encoder.tokens(part), tokens) for _ in range(10))

    threads = [
        threading.Thread(target=repeat, args=pair) for pair in zip(parts, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 40


def test_large_buffers_are_given_back(monkeypatch) -> None:
    monkeypatch.setattr("sclip_core.tensors.buffers.KEPT_BYTES", 1000)
    encoder = DenseEncoder(tower(0), EVERY[0])
    pixels = random_pixels(1, 3, 64, 64)
    first = encoder.tokens(pixels)
    buffers = _kept.buffers
    torch.testing.assert_close(encoder.tokens(pixels), first)
    assert _kept.buffers is not buffers
