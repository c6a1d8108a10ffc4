"""SC-CLIP against its public code's arrays, and against what its formulas say of simple cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sclip_core import Protocol
from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.encoder.taps import Tap
from sclip_core.methods import sc_clip
from sclip_core.methods.sc_clip import (
    SCCLIP,
    attend,
    attention_matrix,
    averaging,
    cosine_matrix,
    find_outliers,
    outlier_factors,
    repair,
    shared_attention,
)
from sclip_core.segmentation import Stitcher
from sclip_core.segmentation.decision import decide

from ..conftest import IMAGES
from ..test_golden import rgb
from .scenes_scclip import one_window, scene_from, scene_of

SETS = {  # what the public code sets of the decision: logit_scale, prob_thd, area_thd
    "voc21": (50, 0.15, 0.1),
    "voc20": (40, 0, 0),
    "context60": (40, 0.15, 0),
    "context59": (40, 0, 0),
    "coco_object": (55, 0.35, 0),
    "coco_stuff164k": (40, 0, 0),
    "ade20k": (40, 0, 0),
    "cityscapes": (40, 0, 0),
}
PUBLIC = SCCLIP()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difference(ours: torch.Tensor, expected: np.ndarray) -> float:
    assert tuple(ours.shape) == expected.shape
    return float((ours - torch.from_numpy(expected)).abs().max())


def protocol_of(name: str) -> Protocol:
    scale, prob, area = SETS[name]
    short = 560 if name == "cityscapes" else 336
    return Protocol(short_side=short, logit_scale=scale, prob_thd=prob, area_thd=area)


@pytest.fixture(scope="module")
def stitched(tiny12, golden):
    """The stitcher and the features of an image at a short side."""
    made: dict[tuple[str, int], tuple[Stitcher, torch.Tensor]] = {}

    def make(image: str, short: int) -> tuple[Stitcher, torch.Tensor]:
        if (image, short) not in made:
            scene = scene_of(tiny12, PUBLIC, rgb(golden(image)), Protocol(short_side=short))
            made[image, short] = Stitcher(scene.geometry), PUBLIC.features(scene)
        return made[image, short]

    return make


@pytest.mark.parametrize("image", IMAGES)
def test_every_step_of_the_first_window(image, tiny12, arrays, golden):
    expected = arrays("clip_only", image).renamed("scclip.crop0.")
    scene = scene_of(tiny12, PUBLIC, rgb(golden(image)))
    tower, grid = scene.tower, scene.geometry.tokens
    early, middle, last, mean = (scene.taps[tap][:1].float() for tap in PUBLIC.taps(12))
    summed = mean * 7

    factors = outlier_factors(last[:, 1:], 30)
    np.testing.assert_allclose(factors[0], expected["lof"], rtol=1e-3)
    anomalous = find_outliers(factors, 0.05)
    outliers = np.flatnonzero(anomalous[0])
    np.testing.assert_array_equal(outliers, expected["outliers"])

    x, h9 = (repair(tokens[:, 1:], anomalous, grid) for tokens in (last, middle))
    assert difference(x[0, outliers], expected["x_repaired"]) < 3e-5
    assert difference(h9[0, outliers], expected["h9_repaired"]) < 3e-5

    cosines = cosine_matrix(h9)
    assert difference(cosines[0, ::14], expected["cos9.every14"]) < 5e-6
    aggregated = averaging(cosines, 0.4) @ x
    assert difference(aggregated[0, ::7], expected["x_aggregated.every7"]) < 3e-5

    shared = shared_attention(cosines, 3.0)
    matrix = attention_matrix(tower.heads(-1, aggregated).k, shared)
    assert difference(matrix[0, :, ::14], expected["attn.every14"]) < 5e-6
    first, second = attend(tower, aggregated, shared), attend(tower, summed[:, 1:], shared)
    assert difference(first[0, ::7], expected["out1.every7"]) < 1e-5
    smooth = averaging(cosine_matrix(early[:, 1:]), 0.4)
    for attended, cls, name in ((first, last, "smoothed1"), (second, summed, "smoothed2")):
        result = smooth @ (attended + 0.3 * cls[:, :1])
        assert difference(result[0, ::7], expected[f"{name}.every7"]) < 5e-5

    tokens = torch.from_numpy(expected["tokens"])
    features = PUBLIC.features(scene)[0].flatten(0, 1)
    lengths = tokens.norm(dim=1, keepdim=True)
    assert ((features * lengths - tokens).abs().max()) < 1e-5


@pytest.mark.parametrize("image", IMAGES)
def test_logits(image, stitched, arrays, golden):
    for name in ("voc21", "coco_stuff164k", "cityscapes"):
        stitcher, features = stitched(image, protocol_of(name).short_side)
        words = torch.from_numpy(golden("shapes_300x420")[f"text_{name}"])
        logits = stitcher.stitch(stitcher.side_by_side(features, words))[:, ::16, ::16]
        assert difference(logits, arrays("clip_only", image)[f"logits16_scclip_{name}"]) < 6e-6


@pytest.mark.parametrize("image", IMAGES)
def test_labels(image, stitched, arrays, golden):
    for name in SETS:
        protocol, vocabulary = protocol_of(name), Vocabulary.named(name)
        stitcher, features = stitched(image, protocol.short_side)
        words = torch.from_numpy(golden("shapes_300x420")[f"text_{name}"])
        side_by_side = stitcher.side_by_side(features, words)
        labels = decide(
            lambda stitcher=stitcher, logits=side_by_side: [stitcher.stitch(logits)],
            torch.tensor(vocabulary.query_class),
            len(vocabulary.class_names),
            protocol,
        )
        expected = arrays("clip_only", image)[f"labels_scclip_{name}"]
        assert (labels != expected).mean() <= 1e-4, name


@pytest.mark.parametrize("image", IMAGES)
def test_words_that_differ(image, stitched, arrays):
    """With a text bank of vectors far apart, labels are of many classes and thresholds matter."""
    expected = arrays("clip_only", image)
    stitcher, features = stitched(image, 336)
    words = torch.from_numpy(expected["text_spread"])
    logits = stitcher.stitch(stitcher.side_by_side(features, words))
    every4 = expected["logits16_scclip_voc21spread.every4"]
    assert difference(logits[::4, ::16, ::16], every4) < 6e-6
    classes = torch.tensor(Vocabulary.named("voc21").query_class)
    labels = decide(lambda: [logits], classes, 21, protocol_of("voc21"))
    assert len(np.unique(labels)) >= 3
    assert (labels != expected["labels_scclip_voc21spread"]).mean() <= 1e-4


def test_what_is_read_of_towers_of_other_depths():
    of, taps = Tap.of, PUBLIC.taps
    assert taps(12) == (of(4), of(9), of(11), Tap(4, 10))
    assert taps(24) == (of(16), of(21), of(23), Tap(16, 22))
    assert taps(3) == (of(1), of(1), of(2), of(1))
    assert taps(1) == (of(0),) * 4


def slow_factors(patches: np.ndarray, k: int) -> list[float]:
    """The formula as it is written, patch by patch, in float64."""
    points = patches.astype(float)
    squared = ((points[:, None] - points) ** 2).sum(-1)
    nearest = [[j for j in np.argsort(row) if j != i][:k] for i, row in enumerate(squared)]
    reach = [squared[i, j[-1]] for i, j in enumerate(nearest)]
    return [reach[i] * np.mean([1 / reach[j] for j in js]) for i, js in enumerate(nearest)]


@pytest.mark.parametrize("count", [8, 31, 50])
def test_outlier_factors_of_few_patches(count):
    patches = random(2, count, 6)
    ours = outlier_factors(patches, 30)
    k = min(30, count - 1)
    for factors, window in zip(ours, patches.numpy(), strict=True):
        np.testing.assert_allclose(factors, slow_factors(window, k), rtol=1e-4)


def test_outliers_are_above_the_quantile():
    factors = torch.arange(196.0).flip(0)[None]
    assert find_outliers(factors, 0.05).sum() == 10
    assert find_outliers(factors[:, :112], 0.05).sum() == 6
    assert not find_outliers(torch.ones(1, 196), 0.05).any()  # equal: none is above
    assert not find_outliers(torch.tensor([[1.0, 2.0, 9.0]]), 0.05).any()  # too few


def test_repair_takes_the_mean_of_sound_neighbours():
    grid = (3, 4)
    patches = random(2, 12, 5)
    anomalous = torch.zeros(2, 12, dtype=torch.bool)
    anomalous[0, [0, 1]] = True  # two in a row, at a corner
    anomalous[1, [1, 4, 5, 0]] = True  # the corner has no sound neighbour
    repaired = repair(patches, anomalous, grid)
    for window in range(2):
        for i in range(12):
            y, x = divmod(i, 4)
            around = [
                j
                for j in range(12)
                if max(abs(j // 4 - y), abs(j % 4 - x)) == 1 and not anomalous[window, j]
            ]
            expected = patches[window, i]
            if anomalous[window, i] and around:
                expected = patches[window, around].mean(dim=0)
            torch.testing.assert_close(repaired[window, i], expected)
    torch.testing.assert_close(repaired[1, 0], patches[1, 0], rtol=0, atol=0)


def test_rows_of_the_attention_sum_to_one():
    cosines = cosine_matrix(random(2, 30, 8))
    shared = shared_attention(cosines, 3.0)
    keys = random(2, 3, 30, 4, seed=1)
    for matrix in (shared, attention_matrix(keys, shared), averaging(cosines, 0.4)):
        torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(matrix.shape[:-1]))


def test_shared_attention_leaves_out_what_is_below_the_mean():
    cosines = cosine_matrix(random(1, 20, 8))
    shared = shared_attention(cosines, 3.0)
    torch.testing.assert_close(shared > 0, cosines >= cosines.mean())
    kept = (cosines[0, 0] >= cosines.mean()).nonzero()[:, 0]
    expected = (3 * cosines[0, 0, kept]).softmax(dim=0)  # the mean cancels in a row
    torch.testing.assert_close(shared[0, 0, kept], expected)


def test_a_patch_unlike_all_others_attends_to_itself():
    """Also where its cosine with itself is below the mean: of a token of zeros it is 0."""
    tokens = torch.ones(1, 9, 8)
    tokens[0, 4] = 0
    shared = shared_attention(cosine_matrix(tokens), 3.0)
    torch.testing.assert_close(shared[0, 4], torch.eye(9)[4])
    assert shared.isfinite().all()


def test_a_beta_above_all_cosines():
    """Above 1 the diagonal is cut too, and nothing is left; else it alone is."""
    cosines = cosine_matrix(random(1, 20, 64))
    assert not averaging(cosines, 1.1).any()
    highest = float((cosines - 2 * torch.eye(20)).max())
    torch.testing.assert_close(
        averaging(cosines, highest + 1e-3)[0], torch.eye(20), atol=2e-6, rtol=0
    )


def test_features_where_nothing_is_averaged(tiny12, golden):
    """A beta that only a patch itself reaches: attention of the repaired tokens, and of the sum."""
    scene = scene_of(tiny12, PUBLIC, rgb(golden("shapes_300x420")))
    of4, of9, last, mean = PUBLIC.taps(12)
    h4, h9 = (random(*scene.taps[of4].shape, seed=seed) for seed in (0, 1))  # cosines below 0.5
    apart = replace(scene, taps={**scene.taps, of4: h4, of9: h9})
    last, mean = scene.taps[last], scene.taps[mean]
    anomalous = find_outliers(outlier_factors(last[:, 1:], 30), 0.05)
    x, h9 = (repair(tokens[:, 1:], anomalous, (14, 14)) for tokens in (last, h9))
    shared = shared_attention(cosine_matrix(h9), 3.0)
    z = attend(scene.tower, x, shared) + attend(scene.tower, 7 * mean[:, 1:], shared)
    z += 0.3 * (last[:, :1] + 7 * mean[:, :1])
    expected = scene.tower.features(z).unflatten(1, (14, 14))
    torch.testing.assert_close(SCCLIP(beta=0.9).features(apart), expected, atol=2e-5, rtol=0)


def test_windows_are_each_for_themselves(tiny12, golden, monkeypatch):
    scene = scene_of(tiny12, PUBLIC, rgb(golden("shapes_300x420")))
    together = PUBLIC.features(scene)
    monkeypatch.setattr(sc_clip, "AT_ONCE", 3 * tiny12.encoder.tower.num_heads * 196**2)
    torch.testing.assert_close(PUBLIC.features(scene), together, atol=1e-5, rtol=0)
    monkeypatch.setattr(sc_clip, "AT_ONCE", 1)
    torch.testing.assert_close(PUBLIC.features(scene), together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(224, 224), (16, 16), (16, 48), (32, 32), (48, 80), (16, 512)])
def test_flat_and_small_windows(tiny12, size):
    geometry = one_window(*size)
    scene = scene_from(tiny12, PUBLIC, torch.zeros(1, 3, *geometry.window), geometry)
    features = PUBLIC.features(scene)
    assert features.shape == (1, size[0] // 16, size[1] // 16, 32)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:-1]))


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 1e-20])
def test_equal_tokens(tiny12, value):
    """A window without differences of position, too: no factor is a number, nothing is repaired."""
    geometry = one_window(224, 224)
    scene = scene_from(tiny12, PUBLIC, torch.zeros(1, 3, 224, 224), geometry)
    token = value * random(128)
    taps = {tap: token.expand(1, 197, 128).clone() for tap in PUBLIC.taps(12)}
    features = PUBLIC.features(replace(scene, taps=taps))
    assert features.isfinite().all()
    first = features[:, :1, :1].expand_as(features)
    torch.testing.assert_close(features, first, atol=1e-4, rtol=0)


def test_a_tower_of_three_blocks(tiny, golden):
    scene = scene_of(tiny, PUBLIC, rgb(golden("shapes_300x420")))
    features = PUBLIC.features(scene)
    torch.testing.assert_close(features, normalize(features, dim=-1))


@pytest.mark.parametrize("wrong", [{"beta": 1.0}, {"neighbours": 0}, {"outliers": 1.5}])
def test_parameters_out_of_range(wrong):
    with pytest.raises(UserError):
        SCCLIP.checked(wrong)
