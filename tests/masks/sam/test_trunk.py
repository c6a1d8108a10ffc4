"""SAM's encoder up to its last block, against segment_anything's own modules."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything.utils.transforms import ResizeLongestSide

from sclip_core.config import UserError
from sclip_core.masks.sam import trunk_loading
from sclip_core.masks.sam.frames import framed, parts
from sclip_core.masks.sam.trunk_loading import find_trunk, load_trunk

from ...conftest import GOLDEN

CPU = torch.device("cpu")
JSON, WEIGHTS = (str(GOLDEN / f"tiny_sam.{kind}") for kind in ("json", "safetensors"))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(256, size=(50, 83, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def trunk():
    return load_trunk(find_trunk(JSON, WEIGHTS), CPU)


@pytest.fixture(scope="module")
def own():
    """segment_anything's encoder, and what its last block and that block's softmax get."""
    encoder = trunk_loading._built(find_trunk(JSON, WEIGHTS)).eval()
    encoder.load_state_dict(load_file(WEIGHTS), assign=True)
    return encoder.requires_grad_(False)


def test_pixels_are_those_of_the_predictor(image):
    (part,) = parts(image)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(part, expected)
    resized = ResizeLongestSide(1024).apply_image(expected)
    pixels = framed(part)
    assert resized.shape == (683, 1024, 3)
    centre, scale = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    inside = pixels[:, :683].permute(1, 2, 0)
    np.testing.assert_allclose(inside, (resized - centre) / scale, atol=1e-6)
    assert pixels.shape == (3, 1024, 1024)
    assert not pixels[:, 683:].any()


def test_multiples_are_left_alone_and_halves_are_cut_after_the_resize(image):
    assert parts(image[:48, :80])[0].shape == (48, 80, 3)
    left, right = parts(image, halves=True)
    np.testing.assert_array_equal(np.concatenate([left, right], axis=1), parts(image)[0])
    assert left.shape == right.shape == (64, 48, 3)


@pytest.mark.slow
def test_input_and_attention_are_those_of_segment_anything(image, trunk, own):
    x = trunk.input(image)
    seen = {}
    hook = own.blocks[-1].register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    own(framed(parts(image)[0])[None])
    hook.remove()
    torch.testing.assert_close(x, seen["x"], atol=2e-5, rtol=1e-5)
    attention = trunk.attention(x[0])
    weights = torch.cat(
        [attention.weights(3, slice(top, top + 8), 64).flatten(0, 1) for top in range(0, 64, 8)]
    )
    mixed = weights.flatten(1) @ attention.values[3].flatten(0, 1)
    with torch.no_grad():
        block = own.blocks[-1]
        block.attn.proj = torch.nn.Identity()
        expected = block.attn(block.norm1(seen["x"]))[0].reshape(4096, 12, 4)[:, 3]
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


def test_some_rows_and_columns_are_those_of_the_whole(image, trunk):
    attention = trunk.attention(trunk.input(image)[0])
    part = attention.weights(0, slice(5, 7), 9)
    assert part.shape == (2, 9, 64, 64)
    whole = attention.weights(0, slice(4, 8), 64)
    torch.testing.assert_close(part, whole[1:3, :9])
    torch.testing.assert_close(part.sum(dim=(2, 3)), torch.ones(2, 9))


def test_weights_of_a_whole_sam_are_taken_by_their_prefix(image, trunk, tmp_path):
    state = {f"image_encoder.{name}": value for name, value in load_file(WEIGHTS).items()}
    save_file(state | {"mask_decoder.x": torch.zeros(2)}, tmp_path / "whole.safetensors")
    loaded = load_trunk(find_trunk(JSON, str(tmp_path / "whole.safetensors")), CPU)
    assert torch.equal(loaded.input(image), trunk.input(image))


def test_halves_are_two_inputs(image, trunk):
    both = trunk.input(image, halves=True)
    assert both.shape == (2, 64, 64, 48)
    assert torch.equal(both[:1], trunk.input(parts(image, halves=True)[0]))
    assert trunk.valid((50, 83), halves=True) == (64, 48)


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("vit_x", None, "unknown size of SAM 'vit_x'"),
        (JSON, None, "names no weights"),
        (JSON, "/no/such.safetensors", "is no file"),
        ("/no/such.json", WEIGHTS, "cannot be read"),
        ("vit_b", "/no/such.pth", "does not exist"),
    ],
)
def test_what_is_not_there(model, weights, words):
    with pytest.raises(UserError, match=words):
        find_trunk(model, weights, download=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not valid JSON"),
        ("[]", "lacks the section"),
        ({"depth": 2, "wide": 3}, "is no image encoder"),
        ({"depth": 3, "embed_dim": 48, "num_heads": 12, "out_chans": 8}, "does not fit broken"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, content, words):
    path = tmp_path / "broken.json"
    if isinstance(content, dict):
        content = json.dumps({trunk_loading.JSON_KEY: content})
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=words):
        load_trunk(find_trunk(str(path), WEIGHTS), CPU)
