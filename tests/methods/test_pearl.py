"""PEARL and TLP: the golden arrays, and what has to hold for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, normalize

from sclip_core import Protocol, UserError
from sclip_core.config import Geometry
from sclip_core.encoder.attention import Attention
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.methods import pearl
from sclip_core.methods.pearl import PEARL, centred, joined, rotation
from sclip_core.segmentation import Stitcher
from sclip_core.segmentation.tlp import TLP

from ..conftest import IMAGES
from .scenes_pearl import (
    VOCABULARIES,
    at_original_size,
    bank_of,
    close,
    crop0,
    labels_of,
    resized,
    scene_of,
)

WINDOWS = Protocol(short_side=336)
WHOLE = Protocol(short_side=336, slide_crop=2048, slide_stride=2048)
SETS = {  # protocol, alpha and grid of each set in the arrays
    "voc21": (WHOLE.replace(prob_thd=0.1), 0.08, 80),
    "voc21spread": (WHOLE.replace(prob_thd=0.1), 0.08, 80),
    "voc20": (WHOLE, 0.08, 80),
    "context60": (WINDOWS.replace(prob_thd=0.1), 0.08, 80),
    "context59": (WINDOWS, 0.08, 80),
    "coco_object": (WINDOWS.replace(prob_thd=0.1), 0.08, 80),
    "coco_stuff164k": (WINDOWS, 0.08, 80),
    "ade20k": (WINDOWS, 0.3, 80),
    "cityscapes": (WINDOWS.replace(short_side=560), 0.3, 224),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(
    ("tag", "protocol", "rows", "tokens"), [("crop0", WINDOWS, 14, 4), ("whole", WHOLE, 224, 8)]
)
def test_golden_attention(tiny12, golden, arrays, name, tag, protocol, rows, tokens):
    pixels, geometry = resized(golden(name)["image_bgr"], protocol)
    if tag == "crop0":
        pixels, geometry = crop0(pixels, geometry)
    scene, expected = scene_of(tiny12, PEARL(), pixels, geometry), arrays("clip_only", name)
    heads = scene.tower.heads(-1, scene.h(11))
    close(rotation(*centred(heads.q, heads.k))[0], expected[f"pearl.{tag}.R"], 5e-6)
    queries, keys = joined(heads.q, heads.k, 0.08)
    attention = (queries @ keys.mT / 8).softmax(dim=-1)[0]
    close(attention[:, ::rows], expected[f"pearl.{tag}.attn.every{rows}"], 2e-5)
    # The array's tokens are those before normalisation, whose length is 5 to 7.
    found = torch.cat([torch.zeros(1, 32), PEARL().features(scene)[0].flatten(0, 1)])[::tokens]
    wanted = normalize(torch.from_numpy(expected[f"pearl.{tag}.tokens.every{tokens}"]), dim=-1)
    close(found[1:], wanted[1:], 4e-6)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("key", SETS)
def test_golden_logits_and_labels(tiny12, golden, arrays, name, key):
    protocol, alpha, grid = SETS[key]
    expected = arrays("clip_only", name)
    pixels, geometry = resized(golden(name)["image_bgr"], protocol)
    method, words = PEARL(alpha=alpha), bank_of(golden, expected, key)
    stitcher = Stitcher(geometry)
    features = method.features(scene_of(tiny12, method, pixels, geometry))
    cosines = stitcher.side_by_side(features, words)
    before = f"logits16_pearl_before_tlp_{key}.every4"
    if before in expected:
        close(stitcher.stitch(cosines)[::4, ::16, ::16], expected[before], 5e-6)
    image = at_original_size(pixels, geometry)
    solved, rows, columns = TLP(tlp_grid=grid).propagate(
        cosines, stitcher.rows, stitcher.columns, image, words
    )
    logits = rows @ solved @ columns.T
    if f"logits16_pearl_{key}" in expected:
        close(logits[:, ::16, ::16], expected[f"logits16_pearl_{key}"], 5e-5)
    if key == "voc21spread":
        close(logits[::4, ::16, ::16], expected[f"logits16_pearl_{key}.every4"], 5e-5)
    labels = labels_of(logits, VOCABULARIES.get(key, key), protocol)
    assert (labels == expected[f"labels_pearl_{key}"]).mean() >= 0.9999


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("key", ["voc21", "cityscapes"])
def test_golden_grid(tiny12, golden, arrays, name, key):
    protocol, alpha, grid = SETS[key]
    everything = arrays("clip_only", name)
    expected = everything.renamed(f"pearl.tlp_{key}.")
    pixels, geometry = resized(golden(name)["image_bgr"], protocol)
    method, words = PEARL(alpha=alpha), bank_of(golden, everything, key)
    tlp, stitcher = TLP(tlp_grid=grid), Stitcher(geometry)
    features = method.features(scene_of(tiny12, method, pixels, geometry))
    cosines = stitcher.side_by_side(features, words)
    image, cell = at_original_size(pixels, geometry), tlp.cell(*geometry.original)
    around = (stitcher.rows, stitcher.columns)
    solved, _, _ = tlp.propagate(cosines, *around, image, words)
    unchanged, _, _ = tlp.replace(tlp_steps=0).propagate(cosines, *around, image, words)
    assert solved.shape[1:] == tuple(expected["grid"])
    every = int(expected["step"])
    graph = tlp.graph(unchanged, avg_pool2d(image, cell), words)
    close(unchanged[::8, ::8, ::8], expected["pooled.every8"], 5e-6)
    close(graph.confidence[::every, ::every], expected["confidence"], 1e-6)
    close(graph.right[::every, ::every], expected["w_right"], 2e-3)
    close(graph.down[::every, ::every], expected["w_down"], 2e-3)
    close(solved[::8, ::8, ::8], expected["solved.every8"], 3e-4)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_its_terms_it_is_clip_reduced(tiny12, golden, monkeypatch):
    pixels, geometry = resized(golden(IMAGES[0])["image_bgr"], WINDOWS)
    scene = scene_of(tiny12, PEARL(), pixels, geometry)
    monkeypatch.setattr(pearl, "rotation", lambda q, k: torch.eye(64).expand(*q.shape[:2], 64, 64))
    encoder = DenseEncoder(tiny12.encoder.visual, Attention.parse("vanilla:reduced"))
    expected = encoder.patch_features(scene.pixels())
    close(PEARL(alpha=0).features(scene), expected, 1e-5)
    assert (PEARL(alpha=1).features(scene) - expected).abs().max() > 1e-3


def test_centring():
    q, k = drawn(1, 2, 9, 4), drawn(1, 2, 9, 4, seed=1)
    q_c, k_c = centred(q, k)
    for head in range(2):
        lengths = [0.0, *(float(row.norm()) for row in q[0, head, 1:])]
        share = [length / (sum(lengths) + 1e-6) for length in lengths]
        for whole, found in ((q, q_c), (k, k_c)):
            mean = sum(w * row for w, row in zip(share, whole[0, head], strict=True))
            close(found[0, head], whole[0, head] - mean, 1e-6)


def test_many_steps_reach_the_polar_factor_and_five_do_not(monkeypatch):
    q, k = drawn(1, 1, 40, 8), drawn(1, 1, 40, 8, seed=1)
    k = k + 2 * q  # so that no singular value is near 0
    u, _, vh = torch.linalg.svd(k.mT @ q)
    assert (rotation(q, k) - u @ vh).abs().max() > 1e-3
    monkeypatch.setattr(pearl, "STEPS", 30)
    close(rotation(q, k), u @ vh, 1e-4)


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (37, 52), (224, 224)])
def test_flat_images_and_tiny_windows(tiny12, size):
    geometry = Geometry.of(*size, Protocol(short_side=min(size), slide_crop=224), patch=16)
    for pixels in (torch.zeros(3, *size), drawn(3, *size)):
        features = PEARL().features(scene_of(tiny12, PEARL(), pixels, geometry))
        assert features.shape == (1, *geometry.tokens, 32)
        close(features.norm(dim=-1), np.ones((1, *geometry.tokens)), 1e-5)


def test_equal_queries_give_no_rotation():
    equal = torch.ones(1, 2, 9, 4)
    q_c, k_c = centred(equal, equal)
    found = rotation(q_c, k_c)
    assert found.abs().max() < 1e-2  # and no NaN
    assert joined(torch.zeros(1, 2, 9, 4), equal, 0.08)[0].isfinite().all()


def test_windows_do_not_see_each_other(tiny12, golden):
    pixels, geometry = resized(golden(IMAGES[0])["image_bgr"], WINDOWS)
    features = PEARL().features(scene_of(tiny12, PEARL(), pixels, geometry))
    first, small = crop0(pixels, geometry)
    close(features[:1], PEARL().features(scene_of(tiny12, PEARL(), first, small)), 1e-5)


@pytest.mark.parametrize("value", [-0.1, float("nan"), "much", 1e9])
def test_alpha_is_checked(value):
    with pytest.raises(UserError, match="alpha"):
        PEARL.checked({"alpha": value})
