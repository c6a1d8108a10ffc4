"""Trident against the golden arrays, and what its parts have to satisfy: docs/methods.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sclip_core.config import Geometry, Protocol
from sclip_core.config.geometry import enlarged_size
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.encoder.second_loading import find_second, load_second
from sclip_core.masks.sam.frames import valid_grid
from sclip_core.masks.sam.last_block import SamAttention
from sclip_core.masks.sam.trunk_loading import find_trunk, load_trunk
from sclip_core.methods import trident
from sclip_core.methods.trident import Trident, stitched

from ..conftest import GOLDEN, IMAGES
from .scenes_rescl import decided, logits_of, scene_of, settings

BENCHMARK = {"coco_stuff164k": "coco_stuff"}
FEATURES: dict[object, torch.Tensor] = {}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dino16():
    files = (str(GOLDEN / f"tiny_dino16.{kind}") for kind in ("json", "safetensors"))
    return load_second(find_second(*files), CPU)


@pytest.fixture(scope="module")
def sam():
    files = (str(GOLDEN / f"tiny_sam.{kind}") for kind in ("json", "safetensors"))
    return load_trunk(find_trunk(*files), CPU)


@pytest.fixture(scope="module")
def scenes(tiny12_head, golden, dino16, sam):
    """The scene of an image by the settings of a benchmark, and these; the networks run once."""
    made = {}

    def scene(name, benchmark):
        method, protocol = settings(Trident, benchmark)
        image = np.ascontiguousarray(golden(name)["image_bgr"][..., ::-1])
        key = name, protocol.short_side, protocol.slide_stride
        if key not in made:
            made[key] = scene_of(tiny12_head, method, protocol, image, sam=sam)
            tokens = dino16.taps(dino16.prepare(made[key].pixels()), ["tokens"])
            made[key].second.update(tokens, sam=sam.input(image, method.halves))
        return made[key], method, protocol

    return scene


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("key", ["voc21", "voc20", "coco_object", "coco_stuff164k", "cityscapes"])
def test_logits_and_labels(scenes, golden, arrays, name, key):
    found, benchmark = arrays("trident", name), BENCHMARK.get(key, key)
    scene, method, protocol = scenes(name, benchmark)
    words = normalize(torch.from_numpy(golden(IMAGES[0])[f"text_{key}"]), dim=-1)
    layout = method.layout(scene.geometry, 16)
    key_of_features = name, method, protocol.short_side
    if key_of_features not in FEATURES:  # of several sets
        FEATURES[key_of_features] = method.features(scene)
    logits = logits_of(layout, FEATURES[key_of_features], words)
    expected = found.get(f"logits16_trident_{key}")
    if expected is not None:
        step = 5 if key == "coco_stuff164k" else 1
        difference = np.abs(logits[::step, ::16, ::16].numpy() - expected)
        assert np.quantile(difference, 0.99) <= 5e-6
        assert difference.max() <= 1e-3
    query_class = Vocabulary.named(benchmark).query_class
    for ending, prob_thd in (("", protocol.prob_thd), ("_thd0", 0.0)):
        if f"labels_trident_{key}{ending}" in found:
            rule = protocol.model_copy(update={"prob_thd": prob_thd})
            labels = decided(logits, query_class, rule)
            assert (labels != found[f"labels_trident_{key}{ending}"]).mean() <= 1e-4


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(
    ("tag", "benchmark"), [("g448", "coco_stuff"), ("voc20", "voc20"), ("city", "cityscapes")]
)
def test_parts(scenes, arrays, name, tag, benchmark):
    found = arrays("trident", name).renamed(end=f"_{tag}")
    scene, method, _ = scenes(name, benchmark)
    tokens = method.tokens(scene)
    assert_rows(tokens.flatten(0, 1)[::32], found["tokens"], 2e-5)
    if tag == "voc20":
        return
    grid = valid_grid(*scene.geometry.original, halves=method.halves)
    assert grid == tuple(found["grid"])  # of one half
    assert method.layout(scene.geometry, 16).tokens == tokens.shape[:2]
    unit = normalize(scene.second["tokens"].flatten(1, 2), dim=-1)
    mean = (unit @ unit.mT).mean()
    attention = method.attention(unit[0], mean)
    # Two entries of a row may lie within rounding of the cut.
    support = np.abs((attention > 0).sum(dim=1).numpy() - found["support"])
    assert (support > 0).mean() <= 0.01
    assert support.max() <= 2
    np.testing.assert_allclose(attention.sum(dim=1), 1, atol=1e-5)
    equal = support[::8] == 0
    np.testing.assert_allclose(attention[::8][equal], found["A"][equal], atol=2e-6, rtol=0)
    of_window = method.window_tokens(scene)[0].flatten(0, 1)
    np.testing.assert_allclose(of_window[::16], found["window_tokens"], atol=2e-5, rtol=0)
    sam = scene.sam.attention(scene.second["sam"][0])
    matrix = torch.cat(list(method.correlation(sam, grid)))
    np.testing.assert_allclose(matrix.sum(dim=1), 1, atol=1e-5)
    assert_rows(matrix[::512], found["A_sam"], 2e-6)


def assert_rows(ours, expected, tolerance):
    """Rows are equal, but for one where an entry is at its threshold."""
    difference = np.abs(np.asarray(ours) - expected).max(axis=1)
    assert (difference > tolerance).sum() <= 1 + len(expected) // 100
    assert difference.max() <= 1e-2


def slow_correlation(sam, grid, method):
    """SAM's mixing matrix with all of its heads' matrices as a whole."""
    rows, columns = grid
    heads, side = sam.values.shape[:2]
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[:rows, :columns] = True
    inside = inside.flatten()
    q, k, v = (part.flatten(1, 2).double() for part in (sam.queries, sam.keys, sam.values))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    positions = sam.by_row[..., :, None].double() + sam.by_column[..., None, :]
    weights = (scores + positions.reshape(heads, side**2, side**2)).softmax(dim=-1)
    weights = weights[:, inside][:, :, inside]
    v = normalize(v[:, inside], dim=-1)
    cosines = v @ v.mT
    thresholds = method.cos_fac * cosines.mean(dim=(0, 2))
    if not method.refine_neg_cos:
        thresholds[thresholds < 0] = 0.6
    thresholds = thresholds.clamp(max=0.9)
    kept = (weights * (cosines > thresholds[:, None])).mean(dim=0)
    return kept / kept.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("cos_fac", [0, 1.2, 100])
@pytest.mark.parametrize("refine", [True, False])
def test_correlation_by_a_slow_formula(cos_fac, refine):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(3, 7, 7, 4, generator=generator) for _ in range(3)]
    positions = [torch.randn(3, 7, 7, 7, generator=generator) for _ in range(2)]
    sam, method = SamAttention(*drawn, *positions, 0.5), Trident(cos_fac=cos_fac)
    method = method.model_copy(update={"refine_neg_cos": refine})
    matrix = torch.cat(list(method.correlation(sam, (5, 4))))
    expected = slow_correlation(sam, (5, 4), method)
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert (matrix.diagonal() > 0).all()


def test_rows_at_once_change_nothing(monkeypatch, sam):
    x = torch.randn(64, 64, 48, generator=torch.Generator().manual_seed(0))
    whole = torch.cat(list(Trident().correlation(sam.attention(x), (10, 7))))
    monkeypatch.setitem(trident.QUERIES_AT_ONCE, "cpu", 21)
    parts = list(Trident().correlation(sam.attention(x), (10, 7)))
    assert [len(part) for part in parts] == [21, 21, 21, 7]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_values_without_a_direction_give_no_nan():
    zeros, positions = torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4, 4)
    sam = SamAttention(zeros, zeros, zeros, positions, positions, 1.0)
    assert torch.isfinite(torch.cat(list(Trident().correlation(sam, (4, 3))))).all()


def test_stitched_is_the_mean_of_the_windows_there():
    image = torch.randn(25, 30, 2, generator=torch.Generator().manual_seed(0))
    protocol = Protocol(short_side=400, slide_crop=336, slide_stride=112, image_multiple=16)
    geometry = Geometry.of(400, 480, protocol, 16)
    windows = [
        image[y // 16 : y // 16 + 21, x // 16 : x // 16 + 21]
        for y in geometry.tops
        for x in geometry.lefts
    ]
    assert len(windows) > 2
    torch.testing.assert_close(stitched(torch.stack(windows), geometry), image)


@pytest.mark.parametrize(
    ("size", "benchmark"),
    [((64, 64), "voc21"), ((20, 700), "voc20"), ((336, 352), "voc21"), ((40, 80), "cityscapes")],
)
def test_flat_and_long_images(tiny12_head, dino16, sam, size, benchmark):
    method, protocol = settings(Trident, benchmark)
    image = np.full((*size, 3), 90, np.uint8)
    scene = scene_of(tiny12_head, method, protocol, image, sam=sam)
    scene.second.update(dino16.taps(dino16.prepare(scene.pixels()), ["tokens"]))
    scene.second["sam"] = sam.input(image, method.halves)
    features = method.features(scene)
    assert torch.isfinite(features).all()
    assert features.shape[:3] == (1, *method.layout(scene.geometry, 16).tokens)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (300, 420, (45, 64)),  # 304×432
        (1024, 2048, (32, 64)),
        (16, 16, (64, 64)),
        (16, 4000, (1, 64)),
    ],
)
def test_grid_of_an_image(height, width, expected):
    assert valid_grid(height, width) == expected


def test_enlarged_only_where_a_side_is_no_multiple():
    assert enlarged_size((137, 2048), 16, 336) == (336, 2048)  # a panorama is stretched
    assert enlarged_size((320, 640), 16, 336) == (320, 640)
    assert enlarged_size((448, 627), 16, 336) == (464, 640)
