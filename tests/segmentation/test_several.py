"""Several protocols in one pass: each gives the labels, to the last one, that it gives alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sclip_core.config import Protocol
from sclip_core.datasets import Vocabulary
from sclip_core.segmentation import decision

from .test_decision import random_classes, random_logits, reference
from .test_refiner import PROTOCOLS, WORDS, refiner

compiled = pytest.importorskip("sclip_core.segmentation.backends.numba_decision")

SMALL = Protocol(short_side=112, slide_crop=64, slide_stride=32, pamr_dilations=(1, 4))
# Of the foreground some 14.1 % are of class 1, 14.5 % of class 3: the thresholds take 2, 0, 1 away.
GRID = [
    SMALL.replace(pamr_steps=steps, logit_scale=scale, prob_thd=prob, area_thd=area)
    for steps, scale, prob, area in product((4, 0, 1), (5, 40), (0, 0.3, 0.6), (0.25, 0, 0.143))
]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("block", [2**28, 1])
def test_several_numbers_of_steps_are_each_alone(monkeypatch, name, block):
    monkeypatch.setattr("sclip_core.segmentation.refiner.BLOCK_ELEMENTS", block)
    several = [PROTOCOLS[name].replace(pamr_steps=steps) for steps in (5, 0, 1, 2, 5)]
    together = refiner(PROTOCOLS[name]).labels_at(several, WORDS, 4)
    for protocol, labels in zip(several, together, strict=True):
        np.testing.assert_array_equal(labels, refiner(protocol).labels(WORDS, 4))
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("room", ["one pass", "block by block"])
def test_every_point_of_a_grid_is_alone(monkeypatch, room):
    grid = GRID
    if room != "one pass":
        monkeypatch.setattr("sclip_core.segmentation.refiner.BLOCK_ELEMENTS", 1)
        monkeypatch.setattr(compiled, "PASS_BYTES", 1)
        grid = GRID[::5]
    together = refiner(SMALL).labels_at(grid, WORDS, 4)
    alone = [refiner(protocol).labels(WORDS, 4) for protocol in grid]
    for labels, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(labels, expected)
        assert labels.dtype == expected.dtype
    assert len({labels.tobytes() for labels in alone}) > len(grid) / 3  # else it could not fail
    together[0][:] = 3
    np.testing.assert_array_equal(together[1], alone[1])


def test_what_one_asks_changes_no_label_of_another():
    """Words that win nowhere are left out, but they count in the sums of who asks for them."""
    given = refiner(SMALL)
    likes_all = normalize(given.features.abs(), dim=-1)
    dominated = torch.isin(WORDS, torch.tensor([2, 3]))
    words = torch.where(dominated[:, None], -1, 1) * given.embeddings.abs()
    ours = replace(given, features=likes_all, embeddings=words)
    left_out = compiled.dominated((likes_all @ words.T)[0].numpy())
    assert left_out[dominated].all()
    silent, asking = (
        SMALL.replace(pamr_steps=3, prob_thd=prob, logit_scale=2) for prob in (0, 0.32)
    )
    alone = {p.prob_thd: replace(ours, protocol=p).labels(WORDS, 4) for p in (silent, asking)}
    for several in ([silent, asking], [asking, silent], [asking, asking]):
        found = ours.labels_at(several, WORDS, 4)
        for protocol, labels in zip(several, found, strict=True):
            np.testing.assert_array_equal(labels, alone[protocol.prob_thd])
    without = replace(ours, embeddings=words[~dominated], protocol=asking)
    few = without.labels(WORDS[~dominated], 2)
    assert not np.array_equal(few, alone[0.32])  # they do count


def decide_all(blocks, classes, protocols) -> list[np.ndarray]:
    """Labels of 9 classes by the portable decision."""
    each = decision.decisions(blocks, classes, 9, protocols)
    return [decision.apply_thresholds(w, 9, p) for w, p in zip(each, protocols, strict=True)]


def test_of_a_benchmark():
    """voc21's own protocol among others, with its words and thresholds, against the reference."""
    voc21 = Protocol.named("voc21")
    logits, classes = random_logits(23), random_classes(23, 9)
    several = [
        voc21.replace(logit_scale=scale, prob_thd=prob, area_thd=area)
        for scale, prob, area in product((65, 40), (0.1, 0, 0.3), (0.1, 0.2, 0))
    ]
    for labels, protocol in zip(
        decide_all(lambda: [logits], classes, several), several, strict=True
    ):
        np.testing.assert_array_equal(labels, reference(logits, classes, 9, protocol))


def test_the_logits_are_made_once():
    passes = []
    logits, classes = random_logits(23), random_classes(23, 9)

    def blocks():
        passes.append(1)
        return iter([logits])

    several = [Protocol(logit_scale=s, prob_thd=p) for s, p in product((20, 40, 65), (0, 0.1, 0.3))]
    decide_all(blocks, classes, several)
    assert len(passes) == 1
    passes.clear()
    small = [Protocol(area_thd=0.1, prob_thd=p) for p in (0, 0.1, 0.2)]
    decide_all(blocks, classes, small)
    assert len(passes) == 2  # the same classes go for all


def test_pamr_is_run_once(monkeypatch, path):
    """As many words are stitched for the whole grid as for its largest number of steps alone."""
    if path != "compiled":
        pytest.skip("of the compiled kernels")
    stitched = []
    accumulate_refined = compiled._accumulate_refined

    def counted(weighted, candidates, outer, inner, chunk, stops):
        stitched.append(chunk.stop - chunk.start)
        accumulate_refined(weighted, candidates, outer, inner, chunk, stops)

    monkeypatch.setattr(compiled, "_accumulate_refined", counted)
    several = [protocol for protocol in GRID if not protocol.area_thd]
    refiner(SMALL).labels_at(several, WORDS, 4)
    grid = sum(stitched)
    stitched.clear()
    refiner(max(several, key=lambda p: (p.pamr_steps, p.prob_thd))).labels(WORDS, 4)
    assert grid == sum(stitched) > 0


@pytest.mark.parametrize("steps", [0, 3])
def test_scale_is_for_prob_thd_alone(steps):
    """The reason why scales without prob_thd are one run, area_thd or not."""
    for area in (0, 0.1, 0.25):
        plain = SMALL.replace(pamr_steps=steps, area_thd=area)
        small, large = (plain.replace(logit_scale=scale) for scale in (0.5, 200))
        one, other = (refiner(protocol).labels(WORDS, 4) for protocol in (small, large))
        np.testing.assert_array_equal(one, other)
        small, large = (protocol.replace(prob_thd=0.4) for protocol in (small, large))
        one, other = (refiner(protocol).labels(WORDS, 4) for protocol in (small, large))
        assert not np.array_equal(one, other)


def test_of_the_golden_image(tiny, golden):
    """voc21 as it is gives the golden labels, whatever else is decided in the same pass."""
    arrays = golden("shapes_300x420")
    voc21 = Protocol.named("voc21")
    bank = tiny.text_bank(Vocabulary.named("voc21"))
    image = np.ascontiguousarray(arrays["image_bgr"][..., ::-1])
    ours = tiny.refiner(image, bank, voc21)
    several = [voc21.replace(prob_thd=0.3, pamr_steps=2), voc21, voc21.replace(prob_thd=0)]
    several += [voc21.replace(logit_scale=40), voc21.replace(area_thd=0.02, pamr_steps=2)]
    found = ours.labels_at(several, bank.query_class, bank.num_classes)
    assert (found[1] == arrays["labels_voc21"]).mean() >= 0.9999
    for protocol, labels in zip(several, found, strict=True):
        alone = replace(ours, protocol=protocol).labels(bank.query_class, bank.num_classes)
        np.testing.assert_array_equal(labels, alone)
    assert len({labels.tobytes() for labels in found}) == 5
