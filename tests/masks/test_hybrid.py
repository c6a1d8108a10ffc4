"""Filling masks against loops over pixels and a slow restatement of the rules."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sclip_core.config import Geometry, Protocol
from sclip_core.masks import RULES, Evidence, painted, pooled_logits
from sclip_core.masks.fill import by_scores, vote
from sclip_core.segmentation import Stitcher

from ..segmentation.test_stitch import PATCH, random_features
from .conftest import SIZES, encoded, random_masks

UNLABELLED = 255


def on_top(masks, row: int, column: int) -> int | None:
    """The mask that is seen: the smallest there, of equal ones the first."""
    there = [(int(mask.sum()), n) for n, mask in enumerate(masks) if mask[row, column]]
    return min(there)[1] if there else None


def painted_slowly(masks, values, base) -> np.ndarray:
    kept = [(mask, value) for mask, value in zip(masks, values, strict=True) if value >= 0]
    seen = [mask for mask, _ in kept]
    out = base.copy()
    for row, column in np.ndindex(base.shape):
        number = on_top(seen, row, column)
        if number is not None:
            out[row, column] = kept[number][1]
    return out


def voted_slowly(masks, base, num_classes: int) -> np.ndarray:
    values = []
    for mask in masks:
        votes = Counter(int(label) for label in base[mask] if label < num_classes)
        values.append(min(votes, key=lambda label: (-votes[label], label)) if votes else -1)
    return painted_slowly(masks, values, base)


def decided_slowly(logits, masks, base, query_class, num_classes: int, protocol) -> np.ndarray:
    """Section 6 of docs/protocol.md for masks instead of pixels, number by number."""
    chances = []
    for words in logits.tolist():
        powers = [math.exp(protocol.logit_scale * logit) for logit in words]
        best = [0.0] * num_classes
        for power, label in zip(powers, query_class.tolist(), strict=True):
            best[label] = max(best[label], power / sum(powers))
        chances.append(best)

    def winners(classes):
        return [max(classes, key=lambda label: (chance[label], -label)) for chance in chances]

    allowed = list(range(num_classes))
    values = winners(allowed)
    if protocol.area_thd > 0:
        first = painted_slowly(masks, values, base).ravel().tolist()
        foreground = sum(0 < label < num_classes for label in first)
        allowed = [
            label
            for label in allowed
            if label == 0 or first.count(label) > protocol.area_thd * foreground
        ]
        values = winners(allowed)
    for number, label in enumerate(values):
        if chances[number][label] < protocol.prob_thd:
            values[number] = 0
    return painted_slowly(masks, values, base)


def random_base(height: int, width: int, classes: int, seed: int, dtype="uint8") -> np.ndarray:
    """Labels, a tenth of them of no class."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, classes, (height, width)).astype(dtype)
    base[rng.random(base.shape) < 0.1] = np.iinfo(dtype).max
    return base


def random_logits(masks: int, words: int, seed: int = 0) -> torch.Tensor:
    """Cosines as CLIP gives them, some words stronger than others."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.randn(words, generator=generator)
    return 0.2 + 0.03 * (strength + torch.randn(masks, words, generator=generator))


def evidence(masks, base, num_classes: int, logits=None, query_class=None, **protocol) -> Evidence:
    return Evidence(
        proposals=encoded(np.asarray(masks)),
        base=base,
        query_class=torch.arange(num_classes) if query_class is None else query_class,
        num_classes=num_classes,
        protocol=Protocol(**protocol),
        scores=None if logits is None else lambda: torch.as_tensor(logits),
    )


def boxes(*places: tuple[slice, slice], size: tuple[int, int] = (6, 8)) -> np.ndarray:
    masks = np.zeros((len(places), *size), np.bool_)
    for mask, place in zip(masks, places, strict=True):
        mask[place] = True
    return masks


ALL, LEFT, RIGHT = np.s_[:, :], np.s_[:, :4], np.s_[:, 4:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_painted_is_a_plain_loop(size, dtype):
    for seed in range(3):
        masks = random_masks(15, *size, seed)
        rng = np.random.default_rng(seed)
        values = rng.integers(-1, 2 if dtype == "bool" else 20, 15)
        base = rng.integers(0, 2, size).astype(dtype)
        before = base.copy()
        found = painted(encoded(masks), values, base)
        np.testing.assert_array_equal(found, painted_slowly(masks, values, base))
        assert found.dtype == dtype
        np.testing.assert_array_equal(base, before)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_smaller_masks_are_on_top(order):
    masks = boxes(ALL, LEFT, np.s_[2:3, 1:3])[order]
    found = painted(encoded(masks), np.array([1, 2, 3])[order], np.zeros((6, 8), np.uint8))
    assert (found[:, 4:] == 1).all()
    assert (found[2, 1:3] == 3).all()
    assert (found == 2).sum() == 6 * 4 - 2


def test_of_equal_masks_the_earlier_is_on_top():
    masks = boxes(np.s_[:, :3], np.s_[:, 1:4], np.s_[:, 2:5])
    found = painted(encoded(masks), np.array([7, 8, 9]), np.zeros((6, 8), np.uint8))
    assert found[0].tolist() == [7, 7, 7, 8, 9, 0, 0, 0]


def test_a_mask_that_is_left_out_hides_no_other():
    masks = boxes(ALL, LEFT)
    found = painted(encoded(masks), np.array([4, -1]), np.zeros((6, 8), np.uint8))
    assert (found == 4).all()


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 12),
    classes=st.integers(1, 5),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_vote_is_a_plain_loop(seed, count, classes, height, width):
    masks = random_masks(count, height, width, seed)
    base = random_base(height, width, classes, seed)
    found = vote(evidence(masks, base, classes))
    assert found.dtype == base.dtype
    np.testing.assert_array_equal(found, voted_slowly(masks, base, classes))


def test_vote_with_more_classes_than_a_byte_holds():
    masks, base = random_masks(20, 13, 17), random_base(13, 17, 300, 0, "uint16")
    found = vote(evidence(masks, base, 300))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, voted_slowly(masks, base, 300))
    assert found.max() == 65_535
    assert found[found < 65_535].max() > 255


def test_a_tie_goes_to_the_lower_class():
    base = np.full((6, 8), 5, np.uint8)
    base[:, ::2] = 3
    assert (vote(evidence(boxes(ALL), base, 6)) == 3).all()
    base[0, 0] = 5
    assert (vote(evidence(boxes(ALL), base, 6)) == 5).all()


def test_pixels_without_a_label_have_no_vote():
    base = np.full((6, 8), UNLABELLED, np.uint8)
    base[0, 0] = 1
    found = vote(evidence(boxes(LEFT, RIGHT), base, 3))
    assert (found[:, :4] == 1).all()
    assert (found[:, 4:] == UNLABELLED).all()


def test_votes_are_of_the_dense_labels_and_not_of_other_masks():
    base = np.zeros((6, 8), np.uint8)
    base[:, :3] = 1
    found = vote(evidence(boxes(ALL, LEFT), base, 2))
    assert (found[:, :4] == 1).all()
    assert (found[:, 4:] == 0).all()


def test_vote_asks_for_no_scores():
    asked = evidence(boxes(ALL), np.zeros((6, 8), np.uint8), 2)
    with_scores = Evidence(**{**asked.__dict__, "scores": lambda: 1 / 0})
    assert (vote(with_scores) == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_no_masks_leave_the_map_as_it_is(rule):
    base = random_base(6, 8, 3, 0)
    none = evidence(np.zeros((0, 6, 8), np.bool_), base, 3, torch.zeros(0, 3), area_thd=0.9)
    found = RULES[rule](none)
    np.testing.assert_array_equal(found, base)
    found[:] = 0
    np.testing.assert_array_equal(base, random_base(6, 8, 3, 0))


@pytest.mark.parametrize("rule", RULES)
def test_empty_masks_leave_the_map_as_it_is(rule):
    base = random_base(6, 8, 3, 0)
    masks = np.zeros((2, 6, 8), np.bool_)
    np.testing.assert_array_equal(
        RULES[rule](evidence(masks, base, 3, torch.eye(3)[:2], prob_thd=0.9)), base
    )


PROTOCOLS = {
    "plain": {},
    "background by probability": {"prob_thd": 0.4},
    "small classes go": {"area_thd": 0.17},
    "both": {"area_thd": 0.17, "prob_thd": 0.4, "logit_scale": 50},
    "most classes go": {"area_thd": 0.22, "prob_thd": 0.2},
    "all classes go": {"area_thd": 1.0},
}
WORDS = {"one each": [0, 1, 2, 3, 4, 5], "several": [0, 0, 1, 2, 2, 2, 3, 4, 4, 5]}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("words", WORDS)
def test_by_scores_is_the_protocol_in_plain_loops(name, words):
    query_class = torch.tensor(WORDS[words])
    for seed, size in enumerate(SIZES * 3):
        masks, base = random_masks(14, *size, seed), random_base(*size, 6, seed)
        logits = random_logits(14, len(query_class), seed)
        found = by_scores(evidence(masks, base, 6, logits, query_class, **PROTOCOLS[name]))
        expected = decided_slowly(logits, masks, base, query_class, 6, Protocol(**PROTOCOLS[name]))
        assert found.dtype == base.dtype
        np.testing.assert_array_equal(found, expected)


def test_the_thresholds_do_something():
    """Else the test above could not fail on them."""
    masks, base = random_masks(14, 13, 17), random_base(13, 17, 6, 0)
    query_class = torch.tensor(WORDS["several"])
    logits = random_logits(14, len(query_class))
    plain, *others = (
        decided_slowly(logits, masks, base, query_class, 6, Protocol(**protocol))
        for protocol in PROTOCOLS.values()
    )
    assert all((other != plain).mean() > 0.01 for other in others)


def test_scores_of_more_classes_than_a_byte_holds():
    masks, base = random_masks(20, 13, 17), random_base(13, 17, 300, 0, "uint16")
    logits = random_logits(20, 300)
    query_class = torch.arange(300)
    for protocol in PROTOCOLS.values():
        found = by_scores(evidence(masks, base, 300, logits, **protocol))
        expected = decided_slowly(logits, masks, base, query_class, 300, Protocol(**protocol))
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, expected)
    masks = boxes(LEFT)
    unlabelled = np.full((6, 8), 65_535, np.uint16)
    found = by_scores(evidence(masks, unlabelled, 300, torch.eye(300)[[299]]))
    assert np.unique(found).tolist() == [299, 65_535]


def test_an_unsure_mask_gets_class_0_and_hides_the_masks_below():
    base = np.full((6, 8), 2, np.uint8)
    logits = [[0.0, 0.5, 0.0], [0.20, 0.20, 0.21], [0.0, 0.0, 0.0]]
    masks = boxes(np.s_[:, :6], LEFT, np.s_[0:0, :])
    found = by_scores(evidence(masks, base, 3, logits, prob_thd=0.5))
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:6] == 1).all()
    assert (found[:, 6:] == 2).all()  # no mask there, no doubt


def test_a_sure_mask_on_an_unsure_one_is_kept():
    logits = [[0.20, 0.20, 0.21], [0.0, 0.5, 0.0]]
    base = np.full((6, 8), 2, np.uint8)
    found = by_scores(evidence(boxes(ALL, LEFT), base, 3, logits, prob_thd=0.5))
    assert (found[:, :4] == 1).all()
    assert (found[:, 4:] == 0).all()


def test_masks_of_a_small_class_get_their_next_best():
    masks = boxes(np.s_[:, :7], np.s_[0, 7:], np.s_[1:, 7:])
    logits = [[0.0, 0.3, 0.1, 0.0], [0.0, 0.1, 0.3, 0.2], [0.3, 0.1, 0.0, 0.0]]
    base = np.zeros((6, 8), np.uint8)
    found = by_scores(evidence(masks, base, 4, logits, area_thd=0.1))
    assert (found[:, :7] == 1).all()
    assert found[:, 7].tolist() == [1, 0, 0, 0, 0, 0]  # not 3, which has no pixel either


def test_areas_are_of_the_whole_map():
    """Also of the pixels without a mask: they keep a class small, or make it large."""
    masks, logits = boxes(np.s_[0, :]), [[0.0, 0.2, 0.3]]
    base = np.full((6, 8), 1, np.uint8)
    assert (by_scores(evidence(masks, base, 3, logits, area_thd=0.2)) == 1).all()
    base[1:4] = 2
    assert (by_scores(evidence(masks, base, 3, logits, area_thd=0.2))[0] == 2).all()


def test_pixels_without_a_label_are_no_area():
    base = np.full((6, 8), UNLABELLED, np.uint8)
    found = by_scores(evidence(boxes(np.s_[0, :2]), base, 3, [[0.0, 0.2, 0.3]], area_thd=0.9))
    assert (found[0, :2] == 2).all()
    assert (found == UNLABELLED).sum() == 46


def test_the_best_word_speaks_for_its_class_and_synonyms_stay_in_the_softmax():
    masks, base = boxes(ALL), np.zeros((6, 8), np.uint8)
    words = [[0.20, 0.21, 0.21]]
    query_class = torch.tensor([0, 1, 1])
    assert (by_scores(evidence(masks, base, 2, words, query_class)) == 1).all()
    assert (by_scores(evidence(masks, base, 2, words, query_class, prob_thd=0.45)) == 0).all()
    alone = evidence(masks, base, 2, [[0.20, 0.21]], prob_thd=0.45)
    assert (by_scores(alone) == 1).all()


def test_a_rule_by_scores_needs_them():
    with pytest.raises(ValueError, match="needs scores"):
        by_scores(evidence(boxes(ALL), np.zeros((6, 8), np.uint8), 2))


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(short_side=100, slide_crop=64, slide_stride=32),
        Protocol(short_side=131, slide_crop=75, slide_stride=31),
        Protocol(short_side=112, slide_crop=0),
    ],
    ids=["windows", "odd numbers", "whole image"],
)
@pytest.mark.parametrize("size", [(60, 90), (130, 45), (20, 20)])
def test_pooled_logits_are_the_mean_of_the_pixels(size, protocol):
    geometry = Geometry.of(*size, protocol, PATCH)
    assert geometry.num_windows > 3 or geometry.whole
    features, embeddings = random_features(geometry, 5, seed=7)
    masks = np.concatenate(
        [random_masks(10, *size, seed=1), np.ones((1, *size)), np.zeros((1, *size))]
    ).astype(np.bool_)
    stitcher = Stitcher(geometry)
    logits = stitcher.stitch(stitcher.side_by_side(features, embeddings)).double()
    found = pooled_logits(encoded(masks), stitcher, features, embeddings)
    assert found.dtype == torch.float32
    assert found.shape == (12, 5)
    for mask, pooled in zip(masks, found.double(), strict=True):
        pixels = [logits[:, row, column] for row, column in np.argwhere(mask)]
        mean = torch.stack(pixels).mean(0) if pixels else torch.zeros(5, dtype=torch.float64)
        torch.testing.assert_close(pooled, mean, atol=1e-5, rtol=0)
    assert found[:-1].std(dim=0).min() > 1e-3  # the masks differ, so the test can


def test_pooled_logits_of_no_mask():
    geometry = Geometry.of(60, 90, Protocol(), PATCH)
    features, embeddings = random_features(geometry, 5, seed=7)
    none = encoded(np.zeros((0, 60, 90), np.bool_))
    assert pooled_logits(none, Stitcher(geometry), features, embeddings).shape == (0, 5)
