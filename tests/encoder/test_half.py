"""Networks in bf16 on a CPU, and the products that a CPU's networks are made of."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, layer_norm, scaled_dot_product_attention

from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.encoder.second import TAPS, SecondNetwork
from sclip_core.encoder.towers import in_dtype
from sclip_core.masks.sam.encoder import SamEncoder
from sclip_core.tensors import attend, half, linear, products
from sclip_core.tensors.half import advice, cast, normed, product_gain, stream_dtype

from ..masks.sam.models import build as build_sam
from .models import build, small_config
from .test_second import DINOV2, random_vit
from .timm_towers import TRUNKS, timm_tower

BF16 = torch.bfloat16


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def by_onednn(monkeypatch):
    """As on a CPU of AMD's."""
    if not products._has_onednn():
        pytest.skip("this PyTorch has no such operation")
    monkeypatch.setattr(products, "_is_slow_by_mkl", lambda: True)


@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 24), (300, 24)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_by_onednn(by_onednn, monkeypatch, shape, has_bias):
    monkeypatch.setattr(products, "OUTPUT_AT_ONCE", 4 * 10 * 64)  # 64 rows
    x, weight = random(*shape), random(10, 24, seed=1)
    bias = random(10, seed=2) if has_bias else None
    asked = []
    plain = products._by_onednn
    monkeypatch.setattr(products, "_by_onednn", lambda *given: asked.append(1) or plain(*given))
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    found = linear(x, weight, bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=2e-6, rtol=2e-6)
    assert len(asked) == math.ceil(math.prod(shape[:-1]) / 64)


def test_a_row_is_the_same_among_any_others(by_onednn):
    """From a window's on: so a batch size changes nothing, nor does the split into parts."""
    x, weight, bias = random(394, 768), random(256, 768, seed=1), random(256, seed=2)
    whole = linear(x, weight, bias)
    for count in (50, 197, 300):
        assert torch.equal(linear(x[:count], weight, bias), whole[:count])


@pytest.mark.parametrize(
    ("cpuinfo", "asks", "expected"),
    [("AuthenticAMD", None, True), ("GenuineIntel", None, False), ("AuthenticAMD", "AVX2", False)],
)
def test_float32_goes_to_onednn_by_the_maker_alone(monkeypatch, cpuinfo, asks, expected):
    monkeypatch.setattr(products, "_is_amd", lambda: cpuinfo == "AuthenticAMD")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    if asks:
        monkeypatch.setenv("MKL_CBWR", asks)
    products._is_slow_by_mkl.cache_clear()
    try:
        assert products._is_slow_by_mkl() == (expected and torch.backends.mkl.is_available())
    finally:
        products._is_slow_by_mkl.cache_clear()


def exact_attention(q, k, v, mask, scale) -> torch.Tensor:
    scores = q.double() @ k.double().transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores + mask.double()
    return scores.softmax(-1) @ v.double()


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
@pytest.mark.parametrize("at_once", [2**19, 500])
@pytest.mark.parametrize("masked", ["", "all", "each"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_in_bf16(monkeypatch, sharpness, at_once, masked, scale):
    """As near to the exact one as PyTorch's own, which keeps scores in float32."""
    monkeypatch.setattr(products, "has_amx", lambda: False)
    monkeypatch.setattr(products, "SCORES_AT_ONCE", at_once)
    q, k, v = (random(2, 3, 50, 16, seed=seed).mul(sharpness).to(BF16) for seed in range(3))
    q = q[:, :, :41]
    mask = {"": None, "all": random(41, 50), "each": random(2, 1, 41, 50)}[masked]
    mask = None if mask is None else mask.to(BF16)
    exact = exact_attention(q, k, v, mask, scale)
    found = attend(q, k, v, attn_mask=mask, scale=scale)
    theirs = scaled_dot_product_attention(
        q.float(), k.float(), v.float(), None if mask is None else mask.float(), scale=scale
    ).to(BF16)  # one rounding
    assert found.shape == exact.shape
    assert found.dtype == BF16
    error, least = ((one.double() - exact).abs().mean() for one in (found, theirs))
    assert error <= 3 * least  # weights and values are rounded too

    rounded = (q @ k.transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)).float()
    rounded = rounded if mask is None else rounded + mask
    if sharpness > 1:  # what rounding the scores would give
        lost = (rounded.softmax(-1).to(BF16) @ v).double() - exact
        assert error < lost.abs().mean()


def test_where_scores_count_in_bf16(monkeypatch):
    """A mask of truth values is none that is added."""
    monkeypatch.setattr(products, "has_amx", lambda: False)
    q, k, v = (random(2, 3, 20, 16, seed=seed).to(BF16) for seed in range(3))
    below = torch.ones(20, 20, dtype=torch.bool).tril()
    expected = scaled_dot_product_attention(q, k, v, attn_mask=below)
    assert torch.equal(attend(q, k, v, attn_mask=below), expected)


def test_other_dtypes_attend_as_ever():
    q, k, v = (random(2, 3, 20, 16, seed=seed) for seed in range(3))
    assert torch.equal(attend(q, k, v), scaled_dot_product_attention(q, k, v))


def test_only_the_products_of_blocks_are_rounded():
    visual = build(small_config()).visual
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    in_dtype(visual, BF16)
    rounded = set()
    for name, value in visual.state_dict().items():
        if value.dtype == BF16:
            rounded.add(name)
            assert torch.equal(value, before[name].to(BF16))
        else:
            assert torch.equal(value, before[name])
    norms = (".ln_1.", ".ln_2.")
    assert rounded == {
        name for name in before if "resblocks" in name and not any(n in name for n in norms)
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_are_of_the_whole_tower(dtype):
    visual = in_dtype(build(small_config()).visual, dtype)
    assert {parameter.dtype for parameter in visual.parameters()} == {dtype}


def test_a_norm_rounds_once():
    x, norm = random(6, 8) * 3 + 5, torch.nn.LayerNorm(8)
    norm.weight.data, norm.bias.data = random(8, seed=1), random(8, seed=2)
    exact = layer_norm(x.double(), (8,), norm.weight.double(), norm.bias.double())
    assert torch.equal(normed(norm, x, BF16), exact.float().to(BF16))
    of_halves = copy.deepcopy(norm).to(BF16)
    exact = layer_norm(x.double(), (8,), of_halves.weight.double(), of_halves.bias.double())
    found = normed(of_halves, x, torch.float32)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)
    assert normed(torch.nn.Identity(), x, BF16).dtype == BF16


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_bf16_is_nearer_to_float32_than_a_tower_of_halves(quick_gelu):
    visual = build(small_config(quick_gelu=quick_gelu)).visual
    attention, pixels = Attention.parse("csa"), random(3, 3, 64, 96)
    exact = DenseEncoder(visual, attention).patch_features(pixels)
    ours = DenseEncoder(in_dtype(copy.deepcopy(visual), BF16), attention)
    halves = DenseEncoder(copy.deepcopy(visual).to(BF16), attention)
    found, rounded = ours.patch_features(pixels), halves.patch_features(pixels)
    assert ours.dtype == BF16
    assert found.dtype == torch.float32
    near, far = ((one - exact).norm(dim=-1).mean() for one in (found, rounded))
    assert near < far
    assert (found * exact).sum(-1).min() > 0.999


@pytest.mark.parametrize("kind", TRUNKS)
def test_towers_of_timm_in_bf16(kind):
    visual, pixels = timm_tower(kind), random(2, 3, 64, 96)
    attention = Attention.parse("csa")
    exact = DenseEncoder(visual, attention)
    half_tower = DenseEncoder(in_dtype(copy.deepcopy(visual), BF16), attention)
    halves = DenseEncoder(copy.deepcopy(visual).to(BF16), attention)
    assert half_tower.dtype == BF16
    for ask in (DenseEncoder.patch_features, DenseEncoder.image_features):
        expected, found, rounded = (ask(one, pixels) for one in (exact, half_tower, halves))
        assert found.dtype == torch.float32
        near, far = ((one - expected).norm(dim=-1).mean() for one in (found, rounded))
        assert near < 0.05
        assert near < 1.5 * far


def test_a_second_network_in_bf16():
    vit, pixels = random_vit(**DINOV2, init_values=0.5), random(2, 3, 56, 70)
    half_vit = copy.deepcopy(vit)
    cast(half_vit, half_vit.blocks, BF16)
    exact, found = SecondNetwork(vit), SecondNetwork(half_vit)
    assert (found.dtype, exact.dtype) == (BF16, torch.float32)
    given, expected = found.taps(pixels, TAPS), exact.taps(pixels, TAPS)
    for name in TAPS:
        assert given[name].dtype == torch.float32
        assert cosine_similarity(given[name], expected[name], dim=-1).min() > 0.999
    last, x = found.last, expected["penultimate"]
    for one, other in zip(last.qkv(x), exact.last.qkv(x), strict=True):
        assert cosine_similarity(one, other, dim=-1).min() > 0.999
    torch.testing.assert_close(last.mlp(x), exact.last.mlp(x), atol=5e-2, rtol=5e-2)


def test_sams_encoder_in_bf16():
    sam = build_sam().image_encoder.eval().requires_grad_(False)
    pixels = random(1, 3, sam.img_size, sam.img_size)
    half_sam = copy.deepcopy(sam)
    cast(half_sam, half_sam.blocks, BF16)
    expected, found = (SamEncoder(one)(pixels) for one in (sam, half_sam))
    assert found.dtype == torch.float32
    assert cosine_similarity(found, expected, dim=1).min() > 0.999


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_tower_by_onednn_is_the_same_within_rounding(by_onednn, monkeypatch, quick_gelu):
    """In float32, whole and in parts; blocks, projection and all."""
    visual = build(small_config(quick_gelu=quick_gelu)).visual
    pixels, attention = random(3, 3, 64, 96), Attention.parse("csa")
    found = DenseEncoder(visual, attention).patch_features(pixels)
    monkeypatch.setattr(products, "OUTPUT_AT_ONCE", 4 * 128 * 8)  # a few rows
    parts = DenseEncoder(visual, attention).patch_features(pixels)
    monkeypatch.undo()
    expected = DenseEncoder(visual, attention).patch_features(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(parts, expected, atol=1e-5, rtol=0)


def test_parts_of_bf16_are_the_whole(monkeypatch):
    encoder = DenseEncoder(in_dtype(build(small_config()).visual, BF16), Attention.parse("csa"))
    pixels = random(3, 3, 64, 96)
    whole = encoder.patch_features(pixels)
    monkeypatch.setattr(products, "OUTPUT_AT_ONCE", 4 * 128 * 8)
    torch.testing.assert_close(encoder.patch_features(pixels), whole, atol=2e-2, rtol=0)
    assert (encoder.patch_features(pixels) * whole).sum(-1).min() > 0.9999


def test_what_is_kept_of_the_stream_is_exact():
    encoder = DenseEncoder(in_dtype(build(small_config()).visual, BF16), Attention.parse("csa"))
    pixels = random(2, 3, 64, 96)
    kept = encoder.trunk(pixels)
    assert kept.dtype == torch.float32
    (again,) = encoder.features_from(kept, (2, 3), [encoder.attention])
    assert torch.equal(again, encoder.patch_features(pixels))


def test_the_stream_is_of_the_weights_elsewhere():
    assert stream_dtype(torch.zeros(1, dtype=BF16)) == torch.float32
    assert stream_dtype(torch.zeros(1, dtype=torch.float16)) == torch.float16
    assert stream_dtype(torch.zeros(1, dtype=BF16, device="meta")) == BF16


def test_what_bf16_would_save_is_said_where_it_would(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(half, "has_bf16", lambda: True)
    monkeypatch.setattr(half, "product_gain", lambda: 3.0)
    line = advice("auto", cpu)
    assert line is not None
    assert "3.0 times" in line
    assert "--dtype bf16" in line
    assert "40%" in line
    assert advice("fp32", cpu) is None  # somebody has chosen
    assert advice("auto", torch.device("cuda")) is None
    monkeypatch.setattr(half, "product_gain", lambda: 1.2)
    assert advice("auto", cpu) is None
    monkeypatch.setattr(half, "has_bf16", lambda: False)
    assert advice("auto", cpu) is None


def test_the_gain_is_measured():
    assert 0 < product_gain() < 100
