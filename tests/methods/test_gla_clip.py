"""GLA-CLIP: the golden arrays of the public code, its identities, its edges."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sclip_core import Protocol
from sclip_core.methods import gla_clip
from sclip_core.methods.gla_clip import GLACLIP, scoped_softmax
from sclip_core.methods.proxyclip import ProxyCLIP

from .scenes_proxy import (
    assert_labels,
    assert_logits,
    close,
    features_of,
    labels_of,
    logits_of,
    protocol_of,
    rgb,
    scene_of,
)

IMAGES = ("shapes_300x420", "shapes_portrait_360x230")  # the published code stops on the wide one
SETS = ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff164k", "ade20k")
METHOD = GLACLIP()


@pytest.fixture(scope="module")
def scenes(tiny12_head, golden):
    """The scene of an image, and what ln_post reads."""

    @cache
    def made(image: str):
        protocol = protocol_of(GLACLIP, "voc21")
        scene = scene_of(tiny12_head, METHOD, rgb(golden(image)), protocol)
        return scene, METHOD.tokens(scene)

    return made


def keys_of(scene) -> torch.Tensor:
    return normalize(scene.second["tokens"].flatten(0, 2), dim=-1)


@pytest.mark.parametrize("image", IMAGES)
def test_matrix_and_tokens(scenes, arrays, image):
    expected = arrays("glaclip", image)
    scene, tokens = scenes(image)
    attention = METHOD.attention(keys_of(scene), slice(0, 784), scene.geometry.num_windows)
    support = (attention > 0).sum(dim=-1).numpy()
    difference = np.abs(support - expected["support_g336"])
    changed = difference > 0
    assert changed.mean() <= 0.01
    assert difference.max() <= 20
    kept = ~changed[::64]
    close(attention[::64][kept], expected["A_g336"][kept], 2e-6)
    kept = ~changed[::16]
    close(tokens[:784:16][kept], expected["tokens_g336"][kept], 2e-5)
    last = np.abs(tokens[-784::16].numpy() - expected["tokens_last_g336"])
    assert np.quantile(last, 0.97) <= 2e-5  # its rows' support is not in the arrays
    assert last.max() <= 1e-3


@pytest.mark.parametrize("image", IMAGES)
def test_logits_and_labels(scenes, golden, arrays, image):
    expected = arrays("glaclip", image)
    scene, tokens = scenes(image)
    features = scene.tower.features(tokens).unflatten(0, scene.second["tokens"].shape[:3])
    for key in SETS:
        words = torch.from_numpy(golden("shapes_300x420")[f"text_{key}"])
        logits = logits_of(METHOD, scene, features, words)
        if f"logits16_glaclip_{key}" in expected:
            every = 5 if key == "coco_stuff164k" else 1
            assert_logits(logits, expected[f"logits16_glaclip_{key}"], every)
        protocol = protocol_of(GLACLIP, key)
        assert_labels(labels_of(logits, key, protocol), expected[f"labels_glaclip_{key}"])
        if protocol.prob_thd:
            without = labels_of(logits, key, protocol.model_copy(update={"prob_thd": 0}))
            assert_labels(without, expected[f"labels_glaclip_{key}_thd0"])


@pytest.fixture
def keys() -> torch.Tensor:
    """300 patches around a few directions."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(7, 16, generator=random)
    which = torch.randint(7, (300,), generator=random)
    return normalize(centres[which] + 0.6 * torch.randn(300, 16, generator=random), dim=-1)


def slowly(keys: np.ndarray, windows: int) -> np.ndarray:
    """The matrix, patch by patch, in float64."""
    rows = []
    for i, key in enumerate(keys):
        similarity = keys @ key
        for _ in range(2):
            like = similarity > 0.55
            if not like.any():
                like[i] = True
            proxy = keys[like].sum(axis=0) / (like.sum() + 1e-6)
            similarity = keys @ (proxy / np.linalg.norm(proxy))
        beta = 1 + 0.3 * math.log(1 + windows)
        scores = (similarity - beta * max(similarity.mean(), 0)) * (1 + 30 / like.sum())
        weights = np.where(scores < min(scores.max(), 0), 0, np.exp(scores - scores.max()))
        rows.append(weights / weights.sum())
    return np.stack(rows)


def test_against_a_slow_loop(keys):
    close(METHOD.attention(keys, slice(0, 300), 3), slowly(keys.double().numpy(), 3), 2e-6)


def test_rows_do_not_depend_on_their_block(keys):
    whole = METHOD.attention(keys, slice(0, 300), 3)
    for start in (0, 100, 299):
        part = METHOD.attention(keys, slice(start, start + 100), 3)
        close(part, whole[start : start + 100], 1e-6)


def test_features_do_not_depend_on_the_blocks(small, monkeypatch):
    expected = METHOD.features(small)
    monkeypatch.setattr(gla_clip, "CHUNK_ELEMENTS", 500 * 2 * 784)
    close(METHOD.features(small), expected, 1e-5)


@pytest.fixture(scope="module")
def small(tiny12_head, golden):
    """A scene of two windows of 224×224."""
    image = rgb(golden("shapes_300x420"))[:224, :300]
    protocol = Protocol(short_side=224, slide_crop=224, slide_stride=112)
    return scene_of(tiny12_head, METHOD, image, protocol)


def test_one_window_without_proxies_is_proxyclip(small):
    patches = small.second["tokens"][0].flatten(0, 1)
    keys = normalize(patches, dim=-1)
    cosines = keys @ keys.T
    least, scale = 1.2 * cosines.mean().expand(784, 1), torch.full((784, 1), 3.0)
    close(scoped_softmax(cosines, least, scale), ProxyCLIP().attention(patches), 1e-6)


def test_one_mean_of_all_makes_every_row_the_same(keys):
    attention = GLACLIP(threshold=-1).attention(keys, slice(0, 300), 1)
    close(attention, attention[:1].expand(300, -1), 1e-6)


def test_a_window_twice(keys):
    """Every weight is halved: the proxies have twice the patches, and beta counts no windows."""
    one = GLACLIP(beta_alpha=0, gamma_alpha=15).attention(keys, slice(0, 300), 1)
    twice = GLACLIP(beta_alpha=0).attention(torch.cat([keys, keys]), slice(0, 300), 2)
    close(twice[:, :300], one / 2, 1e-6)
    close(twice[:, 300:], one / 2, 1e-6)


def test_a_row_below_its_bound_keeps_its_largest():
    similarity = torch.tensor([[0.1, 0.3, 0.2], [0.5, 0.9, 0.5]])
    found = scoped_softmax(similarity, torch.full((2, 1), 0.5), torch.ones(2, 1))
    kept = torch.tensor([0.0, 0.4, 0.0]).softmax(dim=0)
    close(found, torch.stack([torch.tensor([0.0, 1.0, 0.0]), kept]), 1e-7)


@pytest.mark.parametrize("patches", [torch.ones(6, 4), torch.zeros(6, 4), -torch.eye(6)])
def test_patches_that_are_equal_or_alike_to_none(patches):
    attention = METHOD.attention(normalize(patches, dim=-1), slice(0, 6), 1)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(6))


@pytest.mark.parametrize("shape", [(224, 224), (16, 300), (60, 224)])
def test_flat_images_and_tiny_windows(tiny12_head, shape):
    image = np.full((*shape, 3), 90, np.uint8)
    protocol = Protocol(short_side=min(shape), slide_crop=224, slide_stride=112, window_multiple=56)
    features_of(METHOD, scene_of(tiny12_head, METHOD, image, protocol))


def test_windows_lower_than_the_crop(tiny12_head, golden):
    """The published code stops on them; 137×224 is padded to 168×224 here."""
    image = rgb(golden("shapes_wide_100x1500"))[:, :400]
    protocol = protocol_of(GLACLIP, "voc21").model_copy(update={"short_side": 137})
    scene = scene_of(tiny12_head, METHOD, image, protocol)
    assert scene.geometry.tokens == (10, 14)
    assert features_of(METHOD, scene).shape[1:3] == (21, 28)


def test_a_patch_alike_to_none_is_its_own_proxy():
    """Also where the rows do not begin with the first patch."""
    found = GLACLIP(threshold=1).proxies(torch.eye(6), slice(2, 6))
    assert torch.equal(found.similarity, torch.eye(6)[2:])
    assert torch.equal(found.sizes, torch.ones(4, 1))
