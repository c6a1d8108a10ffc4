"""ProxyCLIP: the golden arrays of the public code, its identities, its edges."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from sclip_core import Protocol
from sclip_core.methods.mixing import resampled, softmax_of_positive, values_on
from sclip_core.methods.proxyclip import ProxyCLIP

from ..conftest import IMAGES
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

SETTINGS = {  # sets with the same windows
    "g336": ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff164k"),
    "city": ("cityscapes",),
    "ade": ("ade20k",),
}
METHOD = ProxyCLIP()


@pytest.fixture(scope="module")
def scenes(tiny12_head, golden):
    """The scene of an image by a setting, and its features."""

    @cache
    def made(image: str, tag: str):
        protocol = protocol_of(ProxyCLIP, SETTINGS[tag][0])
        scene = scene_of(tiny12_head, METHOD, rgb(golden(image)), protocol)
        return scene, features_of(METHOD, scene)

    return made


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("tag", ["g336", "city"])
def test_first_window(scenes, arrays, image, tag):
    expected = arrays("proxyclip", image)
    scene, _ = scenes(image, tag)
    patches = scene.second["tokens"][0].flatten(0, 1)
    attention = METHOD.attention(patches)
    step = 8 if tag == "city" else 16
    close(patches[::step], expected[f"dino_{tag}"], 2e-5)
    support = (attention > 0).sum(dim=-1).numpy()
    changed = support != expected[f"support_{tag}"]
    assert changed.mean() <= 0.01
    rows = slice(None, None, 2 * step)
    close(attention[rows][~changed[rows]], expected[f"A_{tag}"][~changed[rows]], 2e-6)
    kept = ~changed[::step]
    close(METHOD.tokens(scene)[0, ::step][kept], expected[f"tokens_{tag}"][kept], 2e-5)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("tag", SETTINGS)
def test_logits_and_labels(scenes, golden, arrays, image, tag):
    expected = arrays("proxyclip", image)
    scene, features = scenes(image, tag)
    for key in SETTINGS[tag]:
        words = torch.from_numpy(golden("shapes_300x420")[f"text_{key}"])
        logits = logits_of(METHOD, scene, features, words)
        if f"logits16_proxyclip_{key}" in expected:
            every = 5 if key == "coco_stuff164k" else 1
            assert_logits(logits, expected[f"logits16_proxyclip_{key}"], every)
        protocol = protocol_of(ProxyCLIP, key)
        assert_labels(labels_of(logits, key, protocol), expected[f"labels_proxyclip_{key}"])
        if protocol.prob_thd:
            without = labels_of(logits, key, protocol.model_copy(update={"prob_thd": 0}))
            assert_labels(without, expected[f"labels_proxyclip_{key}_thd0"])


def test_the_wide_image_is_padded(scenes):
    """Windows of 137×336 to 168×336: 10 rows of CLIP's patches are stretched over 21 of DINO's."""
    scene, features = scenes("shapes_wide_100x1500", "g336")
    assert scene.geometry.window == (137, 336)
    assert scene.geometry.frame == (168, 336)
    assert scene.geometry.tokens == (10, 21)
    assert features.shape[1:3] == (21, 42)


@pytest.fixture(scope="module")
def small(tiny12_head, golden):
    """A scene of two windows of 224×224."""
    image = rgb(golden("shapes_300x420"))[:224, :300]
    protocol = Protocol(short_side=224, slide_crop=224, slide_stride=112)
    return scene_of(tiny12_head, METHOD, image, protocol)


def test_mixing_commutes_with_out_and_upsampling(small):
    """Rows of both sum to 1 and out is affine: reduced MaskCLIP tokens, upsampled and mixed."""
    x = small.h(small.tower.layers - 1)
    masked = small.tower.out(-1, small.tower.values(-1, x)[:, 1:])
    upsampled = resampled(masked, (14, 14), (28, 28))
    tokens = METHOD.tokens(small)
    for window, patches in enumerate(small.second["tokens"]):
        attention = METHOD.attention(patches.flatten(0, 1))
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(784))
        close(tokens[window], attention @ upsampled[window], 2e-5)


def test_each_patch_alone_is_maskclip(small):
    """With beta 100 no cosine is kept, and every row is given its diagonal."""
    x = small.h(small.tower.layers - 1)
    alone = ProxyCLIP(beta=100)
    identity = alone.attention(small.second["tokens"][0].flatten(0, 1))
    assert torch.equal(identity, torch.eye(784))
    values = values_on(small.tower, x, (14, 14), (28, 28))
    close(alone.tokens(small), small.tower.out(-1, values), 1e-5)


def test_gamma_0_with_full_support_is_one_mean():
    patches = normalize(torch.rand(30, 8, generator=torch.Generator().manual_seed(0)) + 0.1, dim=-1)
    torch.testing.assert_close(
        ProxyCLIP(beta=0, gamma=0).attention(patches), torch.full((30, 30), 1 / 30)
    )


def test_lengths_and_order_of_channels_change_nothing(small):
    patches = small.second["tokens"][0].flatten(0, 1)
    random = torch.Generator().manual_seed(0)
    lengths = torch.rand(784, 1, generator=random) + 0.5
    order = torch.randperm(patches.shape[1], generator=random)
    expected = METHOD.attention(patches)
    torch.testing.assert_close(METHOD.attention(patches * lengths), expected)
    torch.testing.assert_close(METHOD.attention(patches[:, order]), expected)


def test_equal_patches_look_at_themselves():
    """Every cosine is 1, below 1.2 times the mean: the published code gives NaN."""
    assert torch.equal(METHOD.attention(torch.ones(6, 4)), torch.eye(6))
    assert torch.equal(METHOD.attention(torch.zeros(6, 4)), torch.full((6, 6), 1 / 6))


def test_a_score_of_0_stays():
    scores = torch.tensor([[0.0, -1e-9, 0.0], [-1.0, -1.0, -2.0], [-1.0, 3.0, -0.1]])
    expected = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(softmax_of_positive(scores), expected)


@pytest.mark.parametrize("shape", [(224, 224), (16, 300), (60, 224)])
def test_flat_images_and_tiny_windows(tiny12_head, shape):
    image = np.full((*shape, 3), 90, np.uint8)
    short = min(shape)
    for multiple in (0, 56):
        protocol = Protocol(
            short_side=short, slide_crop=224, slide_stride=112, window_multiple=multiple
        )
        features_of(METHOD, scene_of(tiny12_head, METHOD, image, protocol))


def test_parameters_are_checked():
    with pytest.raises(ValidationError):
        ProxyCLIP(beta=-1)
    with pytest.raises(ValidationError):
        ProxyCLIP(gama=3)
