"""The baseline computes the same as the library, so that their times can be compared."""

from __future__ import annotations

import pytest
import torch

from benchmarks import eager
from benchmarks.cases import Case
from sclip_core import pamr
from sclip_core.config import Protocol
from sclip_core.segmentation import backends

WORDS = (0, 0, 1, 2, 2, 3)
PLAIN = Protocol(short_side=70, slide_crop=48, slide_stride=32)
PROTOCOLS = {
    "plain": PLAIN,
    "whole image": PLAIN.replace(slide_crop=0),
    "prob_thd": PLAIN.replace(prob_thd=0.4),
    "area_thd": PLAIN.replace(area_thd=0.3, prob_thd=0.2),
    "one dilation": PLAIN.replace(pamr_steps=2, pamr_dilations=(1,)),
    "PAMR": PLAIN.replace(pamr_steps=10, pamr_dilations=(8, 16)),
    "dilation beyond the image": PLAIN.replace(pamr_steps=3, pamr_dilations=(2, 70)),
}


@pytest.fixture(autouse=True)
def _portable(monkeypatch):
    """Use the portable path, with which tests/segmentation compares the kernels."""
    monkeypatch.setattr(backends, "numba_available", lambda: False)


def eager_logits(case: Case) -> torch.Tensor:
    refiner, protocol = case.refiner, case.refiner.protocol
    logits = eager.slide_logits(refiner.features, refiner.embeddings, refiner.geometry)
    return eager.pamr(case.image(), logits, protocol.pamr_steps, protocol.pamr_dilations)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_logits_and_labels_are_those_of_the_library(name):
    case, protocol = Case.of(PROTOCOLS[name], (60, 80), WORDS), PROTOCOLS[name]
    logits = eager_logits(case)
    torch.testing.assert_close(logits, case.refiner.logits(), atol=2e-6, rtol=0)
    thresholds = protocol.logit_scale, protocol.prob_thd, protocol.area_thd
    labels = eager.decide(logits, case.query_class, case.num_classes, *thresholds)
    assert len(labels.unique()) > 1
    assert (labels.numpy() == case.labels()).mean() > 0.999


@pytest.mark.parametrize("name", ["prob_thd", "area_thd"])
def test_the_thresholds_take_something_away(name):
    """Otherwise the comparison above would not test them."""
    with_it, without = (
        Case.of(protocol, (60, 80), WORDS).labels() for protocol in (PROTOCOLS[name], PLAIN)
    )
    assert (with_it != without).mean() > 0.01


def test_a_word_for_each_class():
    case = Case.of(PLAIN, (60, 80), range(5))
    labels = eager.decide(eager_logits(case), case.query_class, 5, 40.0, 0.0)
    assert (labels.numpy() == case.labels()).mean() > 0.999


@pytest.mark.parametrize("size", [(1, 40), (33, 7)])
@pytest.mark.parametrize("dilations", [(1, 2), (8, 16)])
def test_pamr_on_odd_sizes(size, dilations):
    draw = torch.Generator().manual_seed(1)
    image, logits = (torch.randn(planes, *size, generator=draw) for planes in (3, 4))
    expected = pamr(image, logits, 4, dilations)
    found = eager.pamr(image, logits, 4, dilations)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
