"""SAM's image encoder against segment_anything's ImageEncoderViT."""

from __future__ import annotations

import pytest
import torch

from sclip_core.masks.sam import encoder as sam_encoder
from sclip_core.masks.sam.encoder import SamEncoder

from .models import PATCH, SIDE, make

# 8 x 8 tokens: windows of 4 fit, of 3 and 5 need padding, one of 14 is wider than the image.
SHAPES = {
    "as SAM's own": {},
    "windows that fit": {"window_size": 4},
    "windows with padding": {"window_size": 5},
    "a window wider than the image": {"window_size": 14},
    "windows of one token": {"window_size": 1},
    "no windows": {"window_size": 0},
    "windows only": {"global_attn_indexes": ()},
    "no relative positions": {"use_rel_pos": False},
    "no relative positions, no windows": {"use_rel_pos": False, "window_size": 0},
    "no positions": {"use_rel_pos": False, "use_abs_pos": False},
    "no absolute positions": {"use_abs_pos": False},
    "no biases": {"qkv_bias": False},
    "one head": {"num_heads": 1},
    "another MLP": {"mlp_ratio": 2.5, "act_layer": torch.nn.ReLU},
    "one block": {"depth": 1},
    "another side": {"img_size": 7 * PATCH},
    "one patch": {"img_size": PATCH},
}


def pixels_of(side: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_is_the_module(shape):
    module = make(seed=1, **shape).image_encoder
    pixels = pixels_of(module.img_size)
    with torch.no_grad():
        expected = module(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(SamEncoder(module)(pixels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads_at_once", [1, 3, 100])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_many_heads_and_windows_at_once(monkeypatch, shape, heads_at_once):
    """The way of a GPU."""
    module = make(seed=1, **shape).image_encoder
    pixels = pixels_of(module.img_size, batch=2)
    bytes_of_head = 4 * (module.img_size // PATCH) ** 4
    monkeypatch.setitem(sam_encoder.POSITION_BYTES, "cpu", heads_at_once * bytes_of_head)
    monkeypatch.delitem(sam_encoder.WINDOW_ROWS, "cpu")
    with torch.no_grad():
        expected = module(pixels)
    torch.testing.assert_close(SamEncoder(module)(pixels), expected, atol=1e-5, rtol=1e-5)


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    device = torch.device("cuda")


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4), (1, 6), (6, 1)])
def test_positions_of_half_precision_are_a_product_on_a_gpu(monkeypatch, rows, columns):
    """The same as the sum of what a key's row and its column add."""
    generator = torch.Generator().manual_seed(rows)
    by_row = torch.randn(2, rows, columns, rows, generator=generator).bfloat16()
    by_column = torch.randn(2, rows, columns, columns, generator=generator).bfloat16()
    asked, here = [], sam_encoder._places_of_keys

    def places(rows, columns, device, dtype):
        asked.append(device.type)
        return here(rows, columns, torch.device("cpu"), dtype)

    expected = sam_encoder._bias(by_row, by_column)
    monkeypatch.setattr(sam_encoder, "_places_of_keys", places)
    found = sam_encoder._bias(by_row.as_subclass(OnGpu), by_column.as_subclass(OnGpu))
    assert asked == ["cuda"]
    assert found.shape == (2, rows * columns, rows * columns)
    torch.testing.assert_close(found.as_subclass(torch.Tensor), expected, atol=0, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_is_the_module_in_double_precision(shape):
    """Where rounding hides nothing."""
    module = make(seed=2, **shape).image_encoder.double()
    pixels = pixels_of(module.img_size).double()
    with torch.no_grad():
        expected = module(pixels)
    ours = SamEncoder(module)(pixels)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("window", [0, 3, 4])
def test_images_of_a_batch(window):
    module = make(seed=3, window_size=window).image_encoder
    pixels = pixels_of(SIDE, batch=2)
    with torch.no_grad():
        expected = module(pixels)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(SamEncoder(module)(pixels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("queries", [1, 8, 24, 40, 64, 1000])
def test_queries_at_once(monkeypatch, queries):
    """Rows of 8 tokens: 24 are three of them, and two stay for the last turn."""
    module = make(seed=4).image_encoder
    pixels = pixels_of(SIDE)
    with torch.no_grad():
        expected = module(pixels)
    monkeypatch.setitem(sam_encoder.QUERIES_AT_ONCE, "cpu", queries)
    torch.testing.assert_close(SamEncoder(module)(pixels), expected, atol=1e-5, rtol=1e-5)


def test_an_embedding_outlives_the_next(sam):
    """Buffers are shared; what is handed out is not."""
    encoder, other = SamEncoder(sam.image_encoder), SamEncoder(make(depth=1).image_encoder)
    first, second = pixels_of(SIDE, seed=1), pixels_of(SIDE, seed=2)
    embedding, kept = encoder(first), first.clone()
    before = embedding.clone()
    encoder(second)
    other(second)
    assert torch.equal(embedding, before)
    assert torch.equal(first, kept)
    assert torch.equal(encoder(first), before)


def test_weights_that_want_gradients():
    module = make(seed=5).image_encoder.requires_grad_()
    assert not SamEncoder(module)(pixels_of(SIDE)).requires_grad


def test_precision_is_that_of_the_weights():
    module = make(seed=6).image_encoder
    expected = SamEncoder(module)(pixels_of(SIDE))
    ours = SamEncoder(module.bfloat16())(pixels_of(SIDE))
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - expected).abs().mean() < 0.05 * expected.std()
