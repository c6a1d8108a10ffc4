"""OV-Stitcher: the golden arrays of the public code, its identities, its edges."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sclip_core.methods.ov_stitcher import OVStitcher
from sclip_core.methods.regions import scoped_weights

from .scenes_corr import drawn, protocol_of, quarters, scene_of, voted, words_of
from .scenes_proxy import assert_labels, assert_logits, close, features_of, logits_of, rgb
from .test_corrclip import SMALL

SETTINGS = {  # sets with the same windows
    "g448": ("voc21", "voc20", "context60", "context59", "coco_object", "ade20k"),
    "stuff": ("coco_stuff164k",),
    "city": ("cityscapes",),
}
STEPS = {"g448": 32, "city": 64}
METHOD = OVStitcher()
LANDSCAPE, PORTRAIT = "shapes_300x420", "shapes_portrait_360x230"
CASES = [(LANDSCAPE, "g448"), (LANDSCAPE, "city"), (PORTRAIT, "stuff")]


@pytest.fixture(scope="module")
def scenes(tiny12_head, golden, arrays):
    """The scene of an image by a setting, and the branches."""

    @cache
    def made(image: str, tag: str):
        ids = arrays("corrclip", image)["ids"]
        protocol = protocol_of(OVStitcher, SETTINGS[tag][0])
        scene = scene_of(tiny12_head, METHOD, rgb(golden(image)), ids, protocol)
        return scene, METHOD.branches(scene)

    return made


@pytest.mark.parametrize(("image", "tag"), CASES[:2])
def test_whole_image(scenes, arrays, image, tag):
    expected, step = arrays("ovstitcher", image), STEPS[tag]
    scene, branches = scenes(image, tag)
    similar = METHOD.similarity(scene)
    assert similar.shape[:2] == tuple(expected[f"grid_{tag}"])
    patches, ids = similar.flatten(0, 1), METHOD.ids(scene, similar).flatten()
    close(patches[::step], expected[f"dino_{tag}"], 2e-6)

    parts = [(i, i + 500) for i in range(0, len(patches), 500)]
    counts = [(scoped_weights(patches, ids, 4.0, *part) > 0).sum(dim=1) for part in parts]
    off = np.abs(torch.cat(counts).numpy() - expected[f"support_{tag}"])
    assert (off > 0).mean() <= 0.01
    assert off.max() <= 2
    rows = range(0, len(patches), 8 * step)
    weights = torch.cat([scoped_weights(patches, ids, 4.0, row, row + 1) for row in rows])
    same = off[:: 8 * step] == 0
    close(weights[same], expected[f"A_{tag}"][same], 2e-6)

    same = off[::step] == 0
    for name, found in branches._asdict().items():
        bound = 1e-4 if name == "semantic" else 2e-5
        close(found.flatten(0, 1)[::step][same], expected[f"{name}_{tag}"][same], bound)


@pytest.mark.parametrize(("image", "tag"), CASES)
def test_logits_and_labels(scenes, golden, arrays, image, tag):
    expected, ids = arrays("ovstitcher", image), arrays("corrclip", image)["ids"]
    scene, branches = scenes(image, tag)
    features = METHOD.total(branches, scene.tower)[None]  # as ``features``, of branches at hand
    for key in SETTINGS[tag]:
        logits = logits_of(METHOD, scene, features, words_of(golden, key))
        golden_logits = expected.get(f"logits16_ovstitcher_{key}")
        if golden_logits is not None:
            assert_logits(logits[:: 5 if key == "coco_stuff164k" else 1], golden_logits, 1)
        protocol = protocol_of(OVStitcher, key)
        name = f"labels_ovstitcher_{key}"
        assert_labels(voted(logits, key, protocol, ids), expected[name])
        if protocol.prob_thd:
            labels = voted(logits, key, protocol.replace(prob_thd=0.0), ids)
            assert_labels(labels, expected[f"{name}_thd0"])


def test_one_window_is_the_networks_own_block(tiny12_head):
    """With one window nothing is stitched: the last block of the network without its CLS."""
    whole = SMALL.replace(slide_crop=2048, slide_stride=2048, window_multiple=0)
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), quarters(64, 96), whole)
    last, x = scene.network.last, scene.second["penultimate"].flatten(1, 2)
    q, k, v = (part.unflatten(-1, (last.num_heads, -1)).transpose(1, 2) for part in last.qkv(x))
    attended = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
    tokens = last.mlp(last.norm(x) + last.project(attended.transpose(1, 2).flatten(2)))
    expected = normalize(tokens, dim=-1)[0].unflatten(0, (8, 12))
    torch.testing.assert_close(METHOD.similarity(scene), expected, atol=1e-5, rtol=1e-5)


def test_only_the_order_of_ids_matters(tiny12_head):
    image, ids = drawn(64, 96), quarters(64, 96)
    both = [
        METHOD.features(scene_of(tiny12_head, METHOD, image, map_, SMALL))
        for map_ in (ids, ids * 10000 - 7)
    ]
    assert torch.equal(*both)


@pytest.mark.parametrize("size", [(64, 96), (10, 300), (300, 12), (1, 1)])
@pytest.mark.parametrize("image", [np.zeros, drawn])
def test_flat_and_tiny(tiny12_head, size, image):
    """Images smaller than a window too, where the public code stops: they are padded."""
    pixels = image((*size, 3), np.uint8) if image is np.zeros else image(*size)
    protocol = SMALL.replace(short_side=32)
    for ids in (np.zeros(size, int), quarters(*size)):
        scene = scene_of(tiny12_head, METHOD, pixels, ids, protocol)
        features = features_of(METHOD, scene)
        logits = logits_of(METHOD, scene, features, features[0, 0, :1])
        assert logits.shape == (1, *size)
        assert logits.isfinite().all()


def test_padded_panorama(tiny12_head, golden, arrays):
    """The grid covers the padded image; its padding is cut off the logits."""
    image, ids = golden("shapes_wide_100x1500"), arrays("corrclip", "shapes_wide_100x1500")["ids"]
    protocol = protocol_of(OVStitcher, "cityscapes")
    scene = scene_of(tiny12_head, METHOD, rgb(image), ids, protocol)
    assert scene.geometry.padding == (15, 16, 0, 0)
    layout = METHOD.layout(scene.geometry, 8)
    assert (layout.tokens, layout.frame) == ((21, 256), (168, 2048))
    assert (layout.window, layout.num_windows) == ((137, 2048), 1)
    features = features_of(METHOD, scene)
    assert logits_of(METHOD, scene, features, features[0, 0, :1]).shape == (1, 100, 1500)
