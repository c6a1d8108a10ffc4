"""NaN and infinity are named; none becomes the label of class 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sclip_core import UserError, pamr
from sclip_core.config import Protocol
from sclip_core.masks import Evidence
from sclip_core.masks.fill import by_scores
from sclip_core.segmentation import Refiner

from ..masks.conftest import encoded
from .test_refiner import WORDS, refiner

PROTOCOLS = [
    Protocol(short_side=112),
    Protocol(short_side=112, slide_crop=0),
    Protocol(short_side=112, prob_thd=0.4),
    Protocol(short_side=112, pamr_steps=2, pamr_dilations=(1, 2)),
    Protocol(short_side=112, pamr_steps=2, pamr_dilations=(1, 2), prob_thd=0.4, area_thd=0.25),
]
BAD = (torch.nan, torch.inf, -torch.inf)


def planted(which: str, protocol: Protocol, value: float) -> Refiner:
    """A refiner with one number that is none."""
    ours = refiner(protocol)
    if which == "pixels":
        assert ours.pixels is not None
        pixels = ours.pixels().clone()
        pixels[1, 3, 4] = value
        return replace(ours, pixels=lambda: pixels)
    tensor = getattr(ours, which).clone()
    tensor.view(-1)[5] = value
    return replace(ours, **{which: tensor})


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=range(len(PROTOCOLS)))
@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("features", r"the vectors of 1 of \d+ patches hold NaN"),
        ("embeddings", "the vectors of 1 of [37] words hold NaN"),
        ("pixels", "the image's normalised pixels hold NaN"),
    ],
)
def test_planted_numbers(which, says, protocol, value):
    ours = planted(which, protocol, value)
    if which == "pixels" and not protocol.pamr_steps:
        ours.labels(WORDS, 4)  # which are not looked at
        return
    for ask in (
        lambda: ours.labels(WORDS, 4),
        ours.logits,
        lambda: ours.best_of([[0, 1], [3]]),
    ):
        with pytest.raises(UserError, match=says):
            ask()


def test_says_how_many():
    ours = refiner(PROTOCOLS[0])
    features = ours.features.clone()
    features[0, 0, :2] = torch.nan
    rows = features[..., 0].numel()
    with pytest.raises(UserError, match=f"the vectors of 2 of {rows} patches hold NaN"):
        replace(ours, features=features).labels(WORDS, 4)


def test_products_that_overflow():
    ours = refiner(PROTOCOLS[0])
    large = replace(ours, features=ours.features * 1e30, embeddings=ours.embeddings * 1e30)
    with pytest.raises(UserError, match="overflow float32"):
        large.labels(WORDS, 4)


@pytest.mark.parametrize("scale", [1e-30, 65.0, 1e4, 1e30])
@pytest.mark.parametrize("steps", [0, 2])
def test_any_scale_that_is_taken_gives_probabilities(scale, steps):
    """The softmax neither overflows nor underflows: against one in float64."""
    protocol = Protocol(
        short_side=112, pamr_steps=steps, pamr_dilations=(1, 2), logit_scale=scale, prob_thd=0.3
    )
    ours = refiner(protocol)
    logits = ours.logits().double() * scale
    chance, word = (logits - logits.amax(dim=0)).softmax(dim=0).max(dim=0)
    expected = WORDS[word].masked_fill(chance < 0.3, 0).numpy()
    sure = ((chance - 0.3).abs() > 1e-4).numpy()
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(ours.labels(WORDS, 4)[sure], expected[sure])


def test_a_scale_that_float32_cannot_hold():
    with pytest.raises(UserError, match="logit_scale"):
        Protocol.checked({"logit_scale": 1e39})


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("which", ["image", "logits"])
def test_pamr(which, steps, value):
    generator = torch.Generator().manual_seed(0)
    given = {
        "image": torch.randn(3, 9, 11, generator=generator),
        "logits": torch.randn(5, 9, 11, generator=generator),
    }
    given[which][2, 4, 5] = value
    with pytest.raises(UserError, match=f"pamr: the {which} hold"):
        pamr(**given, steps=steps, dilations=(1, 2))


@pytest.mark.parametrize("value", BAD)
def test_scores_of_masks(value):
    masks = np.zeros((2, 6, 5), bool)
    masks[0, :3], masks[1, 2:, 2:] = True, True
    scores = torch.tensor([[0.1, 0.2], [0.3, value]])
    evidence = Evidence(
        encoded(masks), np.ones((6, 5), np.uint8), torch.arange(2), 2, Protocol(), lambda: scores
    )
    with pytest.raises(UserError, match="scores of masks and words hold NaN"):
        by_scores(evidence)
