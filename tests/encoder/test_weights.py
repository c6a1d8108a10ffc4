"""The weights of an attention against its formula, head by head, in float64."""

from __future__ import annotations

import pytest
import torch

from sclip_core import UserError
from sclip_core.encoder import POLICIES, Attention, DenseEncoder, policy
from sclip_core.encoder.weights import attention_weights

from .models import build, small_config
from .test_attention import GRID, layer_norm, softmax, weights
from .test_dense import random_pixels
from .timm_towers import timm_tower

TOKENS = [3, 14]  # of two windows


@pytest.fixture(scope="module")
def encoder() -> DenseEncoder:
    """Attention far from uniform, and far from each patch to itself."""
    visual = build(small_config(vision={"image_size": (96, 160)})).visual
    return DenseEncoder(visual, Attention.parse("csa"))


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(3))


def rows_by_hand(encoder, pixels: torch.Tensor, name: str, token: int) -> torch.Tensor:
    """The row (heads, T) of a patch of one window, of queries and keys that are made by hand."""
    block, x = encoder.visual.transformer.resblocks[-1], encoder.trunk(pixels[None])[0]
    qkv = layer_norm(x, block.ln_1) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    qkv = qkv.double()
    heads, width = block.attn.num_heads, x.shape[1]
    size = width // heads
    rows = []
    for head in range(heads):
        q, k = (qkv[:, part * width + head * size :][:, :size] for part in range(2))
        rows.append(weights(name, q, k, GRID)[1 + token])
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["csa", "vanilla", "clearclip", "naclip", "kk"])
def test_weights_are_the_formula(encoder, windows, name):
    found = attention_weights(encoder, Attention.parse(name), windows, TOKENS)
    assert found.shape == (2, 2, 1 + 3 * 5)
    assert 0.1 < found.max() < 0.9
    for window, token in enumerate(TOKENS):
        expected = rows_by_hand(encoder, windows[window], name, token)
        expected = expected / (2 if name == "csa" else 1)
        torch.testing.assert_close(found[window].double(), expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 2))


def test_what_has_no_weights_says_so(encoder, windows):
    with pytest.raises(UserError, match="'maskclip' has no weights to show: every patch keeps"):
        attention_weights(encoder, Attention.parse("maskclip"), windows, TOKENS)
    try:
        policy("of_values")(lambda q, k, v, grid: torch.softmax(v @ v.mT, dim=-1) @ v)
        with pytest.raises(UserError, match="it is no mean of the values"):
            attention_weights(encoder, Attention.parse("of_values"), windows, TOKENS)
        policy("of_keys")(lambda q, k, v, grid: torch.softmax(k @ k.mT / 4, dim=-1) @ v)
        own = attention_weights(encoder, Attention.parse("of_keys"), windows, TOKENS)
        ours = attention_weights(encoder, Attention.parse("kk"), windows, TOKENS)
        torch.testing.assert_close(own, ours, atol=1e-6, rtol=1e-4)
    finally:
        POLICIES.pop("of_values", None)
        POLICIES.pop("of_keys", None)


@pytest.mark.parametrize("kind", ["siglip", "pe", "eva02", "registers"])
def test_towers_of_other_families(kind):
    """Tokens before the patches are counted, and queries and keys are turned as the tower's are."""
    encoder = DenseEncoder(timm_tower(kind), Attention.parse("vanilla"))
    pixels, tokens = random_pixels(2, 3, 64, 96), [5, 23]
    found = attention_weights(encoder, Attention.parse("vanilla"), pixels, tokens)
    q, k, _ = encoder.tower_on(encoder.grid(pixels)).heads(-1, encoder.trunk(pixels))
    prefix = encoder.backbone.prefix
    for window, token in enumerate(tokens):
        for head in range(q.shape[1]):
            scores = k[window, head] @ q[window, head, prefix + token] * q.shape[-1] ** -0.5
            torch.testing.assert_close(found[window, head], softmax(scores))
