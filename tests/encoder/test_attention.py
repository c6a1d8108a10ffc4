"""The attention policies against their formulas, written out with loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from sclip_core import UserError
from sclip_core.encoder import POLICIES, Attention, DenseEncoder, policy
from sclip_core.encoder.attention import ARCHS

from .models import build, small_config

GRID = (3, 5)


def softmax(scores: torch.Tensor) -> torch.Tensor:
    raised = (scores - scores.max(dim=-1, keepdim=True).values).exp()
    return raised / raised.sum(dim=-1, keepdim=True)


def gaussian(grid: tuple[int, int]) -> torch.Tensor:
    """G of PROTOCOL section 3, token by token."""
    rows, columns = grid
    bias = torch.zeros(1 + rows * columns, 1 + rows * columns, dtype=torch.float64)
    for i in range(rows * columns):
        for j in range(rows * columns):
            dy, dx = i // columns - j // columns, i % columns - j % columns
            bias[1 + i, 1 + j] = math.exp(-(dy**2 + dx**2) / (2 * 5**2))
    return bias


def weights(name: str, q: torch.Tensor, k: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A of PROTOCOL section 3, (L, L) of one head."""
    s = q.shape[-1] ** -0.5
    return {
        "csa": lambda: softmax(s * q @ q.T) + softmax(s * k @ k.T),
        "vanilla": lambda: softmax(s * q @ k.T),
        "maskclip": lambda: torch.eye(len(q), dtype=q.dtype),
        "clearclip": lambda: softmax(s * q @ q.T),
        "naclip": lambda: softmax(s * k @ k.T + gaussian(grid)),
        "kk": lambda: softmax(s * k @ k.T),
    }[name]()


def layer_norm(x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def block_by_hand(block, x: torch.Tensor, name: str, arch: str, grid) -> torch.Tensor:
    """The last block on X (L, width) of one window, head by head."""
    heads, width = block.attn.num_heads, x.shape[-1]
    qkv = layer_norm(x, block.ln_1) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    size = width // heads
    mixed = []
    for head in range(heads):
        q, k, v = (qkv[:, part * width + head * size :][:, :size] for part in range(3))
        mixed.append(weights(name, q, k, grid) @ v)
    out = torch.cat(mixed, dim=1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    if arch == "reduced":
        return out
    x = x + out
    hidden = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias


@pytest.fixture(scope="module")
def visual():
    """An image tower in float64 whose native window is 3×5 patches."""
    clip = build(small_config(vision={"image_size": (96, 160)}))
    tower = clip.visual.double()
    for block in tower.transformer.resblocks:  # far from uniform attention
        block.attn.in_proj_weight *= 3
    return tower


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_function_is_the_formula(name):
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 2, 4, 16, 8, generator=generator, dtype=torch.float64) * 2
    ours = POLICIES[name][0](q, k, v, GRID)
    for window in range(2):
        for head in range(4):
            a = weights(name, q[window, head], k[window, head], GRID)
            # NACLIP's Gaussian is kept in float32.
            torch.testing.assert_close(ours[window, head], a @ v[window, head], atol=1e-6, rtol=0)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_tokens_are_the_last_block_by_hand(visual, name, arch):
    pixels = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(2)).double()
    last = visual.transformer.resblocks[-1]
    seen = []
    hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    visual(pixels)  # open_clip's own forward up to the last block
    hook.remove()
    tokens = DenseEncoder(visual, Attention(name, arch)).tokens(pixels)
    for window in range(2):
        x = block_by_hand(last, seen[0][window], name, arch, GRID)
        expected = layer_norm(x, visual.ln_post) @ visual.proj
        torch.testing.assert_close(tokens[window], expected, atol=1e-6, rtol=1e-6)


def test_rows_of_csa_sum_to_two():
    q, k = torch.randn(2, 1, 1, 16, 8)
    v = torch.ones(1, 1, 16, 8)
    torch.testing.assert_close(POLICIES["csa"][0](q, k, v, GRID), 2 * v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_keeps_the_dtype(name, dtype):
    q, k, v = torch.randn(3, 1, 1, 16, 8, dtype=dtype)
    assert POLICIES[name][0](q, k, v, GRID).dtype == dtype


def test_a_policy_is_one_function(visual, monkeypatch):
    monkeypatch.setattr("sclip_core.encoder.attention.POLICIES", dict(POLICIES))

    @policy("vv", arch="reduced")
    def vv(q, k, v, grid):
        return torch.nn.functional.scaled_dot_product_attention(v, v, v)

    attention = Attention.parse("vv")
    assert attention == ("vv", "reduced")
    tokens = DenseEncoder(visual, attention).tokens(torch.zeros(1, 3, 96, 160))
    assert tokens.shape == (1, 16, 16)
    assert "vv" not in POLICIES


@pytest.mark.parametrize(
    ("text", "expected", "shortest"),
    [
        ("csa", ("csa", "vanilla"), "csa"),
        ("csa:vanilla", ("csa", "vanilla"), "csa"),
        ("csa:reduced", ("csa", "reduced"), "csa:reduced"),
        ("naclip", ("naclip", "reduced"), "naclip"),
        ("clearclip:reduced", ("clearclip", "reduced"), "clearclip"),
        ("maskclip", ("maskclip", "vanilla"), "maskclip"),
    ],
)
def test_spelling(text, expected, shortest):
    attention = Attention.parse(text)
    assert attention == expected
    assert str(attention) == shortest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nacclip", "Did you mean 'naclip'?"),
        ("CSA", "Did you mean 'csa'?"),
        ("", f"Known: {', '.join(sorted(POLICIES))}"),
        ("csa:reducd", "unknown arch 'reducd' in attention 'csa:reducd'"),
    ],
)
def test_unknown_names(text, says):
    with pytest.raises(UserError) as error:
        Attention.parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
