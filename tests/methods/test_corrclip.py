"""CorrCLIP: the golden arrays of the public code, its identities, its edges."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from sclip_core import Protocol
from sclip_core.methods.corrclip import CorrCLIP
from sclip_core.methods.regions import region_windows, scoped_weights

from ..conftest import IMAGES
from .scenes_corr import drawn, protocol_of, quarters, scene_of, voted, words_of
from .scenes_proxy import assert_labels, assert_logits, close, features_of, logits_of, rgb

SETTINGS = {  # sets with the same windows
    "g336": ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff164k"),
    "city": ("cityscapes",),
    "ade": ("ade20k",),
}
# The panorama is 2,048 pixels wide by every setting: its windows by ADE20K's are those by g336.
CASES = [(image, tag) for tag in SETTINGS for image in IMAGES][:-1]
METHOD = CorrCLIP()
SMALL = Protocol(short_side=64, slide_crop=64, slide_stride=32, window_multiple=56)


@pytest.fixture(scope="module")
def scenes(tiny12_head, golden, arrays):
    """The scene of an image by a setting."""

    @cache
    def made(image: str, tag: str):
        ids = arrays("corrclip", image)["ids"]
        protocol = protocol_of(CorrCLIP, SETTINGS[tag][0])
        return scene_of(tiny12_head, METHOD, rgb(golden(image)), ids, protocol)

    return made


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("tag", ["g336", "city"])
def test_first_window(scenes, arrays, image, tag):
    expected, scene = arrays("corrclip", image), scenes(image, tag)
    step = 8 if tag == "city" else 16
    padded = expected[f"window_ids_{tag}"].astype(np.int64)
    padded[padded == 10000] = expected["ids"].max() + 1
    assert (region_windows(scene.regions, scene.geometry)[0].numpy() == padded).all()

    similar = METHOD.similarity(scene)
    patches, ids = similar[0].flatten(0, 1), METHOD.ids(scene, similar)[0].flatten()
    close(patches[::step], expected[f"dino_{tag}"], 2e-6)
    weights = scoped_weights(patches, ids, METHOD.scale)
    support = (weights > 0).sum(dim=1).numpy()
    assert (support == expected[f"support_{tag}"]).all()
    close(weights[:: 2 * step], expected[f"A_{tag}"], 2e-6)
    close(weights.sum(dim=1), 1, 1e-5)

    main, spatial, semantic = (branch[0].flatten(0, 1)[::step] for branch in METHOD.branches(scene))
    close(main, expected[f"main_{tag}"], 2e-5)
    close(spatial, expected[f"spatial_{tag}"], 2e-5)
    close(semantic, expected[f"semantic_{tag}"], 1e-4)


@pytest.mark.parametrize(("image", "tag"), CASES)
def test_logits_and_labels(scenes, golden, arrays, image, tag):
    expected, scene = arrays("corrclip", image), scenes(image, tag)
    features = features_of(METHOD, scene)
    for key in SETTINGS[tag]:
        logits = logits_of(METHOD, scene, features, words_of(golden, key))
        golden_logits = expected.get(f"logits16_corrclip_{key}")
        if golden_logits is not None:
            assert_logits(logits[:: 5 if key == "coco_stuff164k" else 1], golden_logits, 1)
        protocol = protocol_of(CorrCLIP, key)
        name = f"labels_corrclip_{key}"
        assert_labels(voted(logits, key, protocol, expected["ids"]), expected[name])
        if protocol.prob_thd:
            free = protocol.replace(prob_thd=0.0)
            labels = voted(logits, key, free, expected["ids"])
            assert_labels(labels, expected[f"{name}_thd0"])


def test_only_the_order_of_ids_matters(tiny12_head):
    image, ids = drawn(64, 96), quarters(64, 96)
    both = [
        METHOD.features(scene_of(tiny12_head, METHOD, image, map_, SMALL))
        for map_ in (ids, ids * 10000 - 7)
    ]
    assert torch.equal(*both)


def test_one_id(tiny12_head):
    """Without masks the scope is that of positions above the mean, and the token is CLS's."""
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), np.full((64, 96), 3), SMALL)
    similar = METHOD.similarity(scene)
    ids = METHOD.ids(scene, similar)
    assert scene.geometry.padding == (24, 24, 24, 24)
    inner = ids[:, 3:-3, 3:-3]
    assert (inner == 0).all()
    assert len(ids.unique()) == 2  # the padding is a region too
    semantic = METHOD.branches(scene).semantic
    assert torch.equal(semantic[:, 5:9, 5:9], semantic[:, 5:6, 5:6].expand(-1, 4, 4, -1))
    features_of(METHOD, scene)


def test_regions_mix_within(tiny12_head):
    """What lies in one region does not reach another, but through patches that none covers."""
    unpadded = SMALL.replace(window_multiple=0, slide_crop=0)
    ids = 1 + (np.arange(96)[None] >= 48) + np.zeros((64, 1), int)
    ids[:8, :8] = 0
    scene = scene_of(tiny12_head, CorrCLIP(eps=0), drawn(64, 96), ids, unpadded)
    similar = METHOD.similarity(scene)
    merged = CorrCLIP(eps=0).ids(scene, similar)[0]
    assert merged.unique().tolist() == [0, 1, 2]
    weights = scoped_weights(similar[0].flatten(0, 1), merged.flatten(), 4.0).view(8, 12, 8, 12)
    assert (weights[1:, :6, :, 6:] == 0).all()
    assert (weights[1:, :6, 1:, :6] > 0).all()


@pytest.mark.parametrize("size", [(64, 96), (10, 300), (300, 12), (1, 1)])
@pytest.mark.parametrize("image", [np.zeros, drawn])
def test_flat_and_tiny(tiny12_head, size, image):
    pixels = image((*size, 3), np.uint8) if image is np.zeros else image(*size)
    protocol = SMALL.replace(short_side=32)
    for ids in (np.zeros(size, int), quarters(*size)):
        features_of(METHOD, scene_of(tiny12_head, METHOD, pixels, ids, protocol))


def test_shares(tiny12_head):
    """The branches' shares are parameters; without the two others the main branch is left."""
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), quarters(64, 96), SMALL)
    alone = CorrCLIP(spatial=0, semantic=0)
    expected = scene.tower.features(METHOD.branches(scene).main)
    torch.testing.assert_close(alone.features(scene), expected)
    assert (METHOD.features(scene) - expected).abs().max() > 1e-3


def test_without_regions(tiny12_head):
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), quarters(64, 96), SMALL)
    object.__setattr__(scene, "regions", None)
    with pytest.raises(ValueError, match="reads masks"):
        METHOD.features(scene)
