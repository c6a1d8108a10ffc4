"""ResCLIP against the golden arrays, and what its parts have to satisfy: docs/methods.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sclip_core.config import Protocol
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.encoder.attention import Attention
from sclip_core.methods.feedback import connected, feedback_matrix, patch_words
from sclip_core.methods.resclip import ResCLIP, middle_attention

from ..conftest import IMAGES
from .scenes_rescl import decided, first_window, logits_of, scene_of, settings

BENCHMARK = {"coco_stuff164k": "coco_stuff", "voc21spread": "voc21"}


def rgb(arrays):
    return np.ascontiguousarray(arrays["image_bgr"][..., ::-1])


def assert_features(tiny12, golden, arrays, name, key):
    """Logits and labels of an image are the expected ones."""
    found, spread = arrays("clip_only", name), key == "voc21spread"
    words = found["text_spread"] if spread else golden(IMAGES[0])[f"text_{key}"]
    words = torch.from_numpy(words)
    benchmark = BENCHMARK.get(key, key)
    method, protocol = settings(ResCLIP, benchmark)
    scene = scene_of(tiny12, method, protocol, rgb(golden(name)), words)
    logits = logits_of(scene.geometry, method.features(scene), words)
    step, ending = (4, ".every4") if spread else (1, "")
    expected = found.get(f"logits16_resclip_{key}{ending}")
    if expected is not None:
        ours = logits[::step, ::16, ::16]
        np.testing.assert_allclose(ours, expected, atol=6e-6, rtol=0)
    labels = decided(logits, Vocabulary.named(benchmark).query_class, protocol)
    assert (labels != found[f"labels_resclip_{key}"]).mean() <= 1e-4


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("key", ["cityscapes", "voc21spread"])
def test_logits_and_labels(tiny12, golden, arrays, name, key):
    assert_features(tiny12, golden, arrays, name, key)


@pytest.mark.parametrize(
    "key",
    ["voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff164k", "ade20k"],
)
@pytest.mark.slow
def test_other_settings(tiny12, golden, arrays, key):
    assert_features(tiny12, golden, arrays, IMAGES[1], key)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("part", ["crop0", "whole", "spread"])
def test_parts(tiny12, golden, arrays, name, part):
    found = arrays("clip_only", name).renamed(f"resclip.{part}.")
    method, protocol = settings(ResCLIP, "coco_stuff" if part == "crop0" else "voc21")
    key = "coco_stuff164k" if part == "crop0" else "voc21"
    words = golden(IMAGES[0])[f"text_{key}"]
    if part == "spread":
        words = arrays("clip_only", name)["text_spread"]
    scene = scene_of(tiny12, method, protocol, rgb(golden(name)), torch.from_numpy(words))
    scene = first_window(scene)
    tower, last = tiny12.encoder.tower, tiny12.encoder.tower.layers - 1
    _, k, v = tower.heads(last, scene.h(last))
    middle = middle_attention(scene, v, slice(None))
    first = method.first_pass(scene, k, v, middle)
    labelled = tower.features(first[0, 1:]).unflatten(0, scene.geometry.tokens)
    of_patches = method.words_of_patches(scene, 0, labelled)
    np.testing.assert_array_equal(of_patches, found["patch_words"])
    assert_every(feedback_matrix(of_patches), found, "sfr", 1e-7)
    if part == "spread":
        return
    eye = torch.eye(k.shape[2]).expand(1, k.shape[1], -1, -1)
    matrix = middle_attention(scene, eye, slice(None))[0]
    assert_every(matrix.transpose(0, 1), found, "rcs", 1e-5)
    assert_every(first[0], found, "first_out", 2e-5)
    second = method.second_pass(scene, k, v, middle, of_patches[None])
    tokens = tower.final(second)[0]
    assert_every(tokens, found, "tokens", 2e-5)
    features = method.features(scene)[0].flatten(0, 1)
    torch.testing.assert_close(features, torch.nn.functional.normalize(tokens[1:], dim=-1))


def assert_every(ours, found, name, tolerance):
    """Rows 0, K, 2K, … of ours are the array's."""
    (key,) = (key for key in found if key.startswith(f"{name}.every"))
    expected = found[key] if name != "rcs" else found[key].swapaxes(0, 1)
    rows = ours[:: int(key.rpartition("every")[2])]
    np.testing.assert_allclose(rows, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("grid", "step"), [("14x14", 14), ("21x29", 56), ("8x14", 14)])
def test_feedback_of_drawn_labels(arrays, grid, step):
    found = arrays("clip_only", IMAGES[1])
    labels = torch.from_numpy(found[f"resclip.sfr_{grid}.labels"])
    rows = found[f"resclip.sfr_{grid}.rows.every{step}"]
    np.testing.assert_allclose(feedback_matrix(labels)[::step], rows, atol=1e-7, rtol=0)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 1), (5, 7), (6, 4), (3, 11)])
@pytest.mark.parametrize("words", [1, 2, 5])
def test_connected_by_a_slow_loop(grid, words):
    labels = torch.randint(words, grid, generator=torch.Generator().manual_seed(1))
    assert torch.equal(connected(labels), slow_connected(labels.numpy()))


def slow_connected(labels):
    """Every pair of patches by itself."""
    points = list(np.ndindex(labels.shape))
    m = max(labels.shape) - 1
    shares = torch.linspace(0, 1, m + 1).numpy()
    joined = torch.zeros(len(points), len(points), dtype=torch.bool)
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            steps = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
            line = [
                tuple(int(np.round(np.float32(p) * (1 - t) + np.float32(q) * t)) for p, q in both)
                for t in shares[: steps + 1]
                for both in [list(zip(a, b, strict=True))]
            ]
            joined[i, j] = bool(
                labels[a] == labels[b] and all(labels[p] == labels[a] for p in line)
            )
    return joined


def test_one_word_gives_equal_rows():
    rows = feedback_matrix(torch.zeros(14, 14, dtype=torch.long))
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    middle = rows[0, 15:-15]
    torch.testing.assert_close(middle, torch.full_like(middle, middle[0]))
    assert middle[0] > rows[0, 0] > 0.4 * middle[0]
    assert 1 / 196 < middle[0] < 1.1 / 196


def test_patches_that_all_differ_attend_to_a_gaussian():
    rows = feedback_matrix(torch.arange(196).view(14, 14))
    distance = torch.arange(-15.0, 16)
    gaussian = torch.exp(-distance.square() / 50)
    torch.testing.assert_close(rows[98, 83:114], gaussian / gaussian.sum())
    assert rows[98, :83].abs().max() == rows[98, 114:].abs().max() == 0


def test_most_frequent_word_and_the_first_of_equals():
    labels = torch.zeros(37, 34, dtype=torch.long)
    labels[:16, :16] = 3
    labels[:8, :16] = 2  # half of the block: 2 is the first of two
    labels[:16, 16:32] = 1
    labels[:7, 16:32] = 0
    labels[32:] = labels[:, 32:] = 4  # what remains below and on the right
    np.testing.assert_array_equal(patch_words(labels, 5, 16), [[2, 1], [0, 0]])


def test_without_its_additions_it_is_naclip(tiny12, golden):
    method = ResCLIP(tau_r=1, l_r=0, tau_s=1, l_s=0)
    protocol = settings(ResCLIP, "coco_stuff")[1]
    words = torch.from_numpy(golden(IMAGES[0])["text_cityscapes"])
    scene = scene_of(tiny12, method, protocol, rgb(golden(IMAGES[1])), words)
    naclip = tiny12.encoder.features_of(scene.pixels(), [Attention.parse("naclip")])[0]
    torch.testing.assert_close(method.features(scene), naclip, atol=2e-6, rtol=0)


def test_windows_by_themselves_and_together_are_equal(tiny12, golden, monkeypatch):
    method, protocol = settings(ResCLIP, "cityscapes")
    words = torch.from_numpy(golden(IMAGES[0])["text_cityscapes"])
    scene = scene_of(tiny12, method, protocol, rgb(golden(IMAGES[2])), words)
    together = method.features(scene)
    monkeypatch.setattr("sclip_core.methods.resclip.MASKS_AT_ONCE", 1)
    torch.testing.assert_close(method.features(scene), together, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (20, 90), (300, 16)])
def test_flat_and_tiny_images(tiny12, golden, size):
    method = ResCLIP()
    words = torch.from_numpy(golden(IMAGES[0])["text_voc20"])
    tiny = Protocol(short_side=16, slide_crop=16, slide_stride=16)
    for protocol in (settings(ResCLIP, "coco_stuff")[1], tiny):
        scene = scene_of(tiny12, method, protocol, np.full((*size, 3), 90, np.uint8), words)
        features = method.features(scene)
        assert torch.isfinite(features).all()
        assert features.shape[:3] == (scene.geometry.num_windows, *scene.geometry.tokens)


def test_taps_are_counted_from_the_end():
    assert [tap.first for tap in ResCLIP().taps(12)] == [5, 6, 7, 8, 11]
    assert [tap.first for tap in ResCLIP().taps(24)] == [17, 18, 19, 20, 23]
    assert [tap.first for tap in ResCLIP().taps(2)] == [0, 1]
