"""The decision against the reference's own way: a softmax over all words, then classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from sclip_core.config import Protocol
from sclip_core.segmentation import decide
from sclip_core.segmentation.decision import class_scores


def reference(logits, query_class, num_classes: int, protocol: Protocol) -> np.ndarray:
    """Section 6 of docs/protocol.md as the public code does it, in float64."""
    scores = (protocol.logit_scale * logits.double()).softmax(dim=0)
    membership = one_hot(query_class, num_classes).T[:, :, None, None]
    scores = (scores[None] * membership).max(dim=1).values
    if protocol.area_thd > 0:
        areas = one_hot(scores.argmax(dim=0), num_classes)[:, :, 1:].sum(dim=(0, 1))
        scores[1:] *= (areas > protocol.area_thd * areas.sum())[:, None, None]
    best, labels = scores.max(dim=0)
    labels[best < protocol.prob_thd] = 0
    return labels.numpy()


def random_logits(words: int, height: int = 40, width: int = 30, seed: int = 0) -> torch.Tensor:
    """Cosines as CLIP gives them, some words stronger than others, in patches of 5×5."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(words, height // 5, width // 5, generator=generator)
    coarse += torch.randn(words, 1, 1, generator=generator)
    fine = torch.randn(words, height, width, generator=generator)
    return 0.2 + 0.03 * (coarse.repeat_interleave(5, 1).repeat_interleave(5, 2) + 0.2 * fine)


def random_classes(words: int, classes: int, seed: int = 0) -> torch.Tensor:
    """A class for each word, ascending, no class without a word."""
    generator = torch.Generator().manual_seed(seed)
    more = torch.randint(0, classes, (words - classes,), generator=generator)
    return torch.cat([torch.arange(classes), more]).sort().values


def ours(logits, query_class, num_classes: int, protocol: Protocol, rows: int = 11) -> np.ndarray:
    return decide(lambda: iter(logits.split(rows, dim=1)), query_class, num_classes, protocol)


PROTOCOLS = {
    "plain": Protocol(),
    "background by probability": Protocol(prob_thd=0.3, logit_scale=50),
    "high threshold": Protocol(prob_thd=0.5, logit_scale=65),
    "small classes go": Protocol(area_thd=0.1, logit_scale=65),
    "voc21": Protocol.named("voc21"),
    "most classes go": Protocol(area_thd=0.3, prob_thd=0.2),
    "all classes go": Protocol(area_thd=1.0),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("words", "classes"), [(9, 9), (23, 9), (113, 81), (300, 300), (2, 1)])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_is_the_reference(name, words, classes, seed):
    size = (40, 30) if words < 100 else (20, 15)  # the reference's one-hot product is slow
    logits, query_class = random_logits(words, *size, seed), random_classes(words, classes, seed)
    labels = ours(logits, query_class, classes, PROTOCOLS[name])
    expected = reference(logits, query_class, classes, PROTOCOLS[name])
    np.testing.assert_array_equal(labels, expected)


def test_the_thresholds_do_something():
    """Else the test above could not fail on them."""
    logits, query_class = random_logits(23), random_classes(23, 9)
    maps = [reference(logits, query_class, 9, protocol) for protocol in PROTOCOLS.values()]
    plain, *others, none = maps
    assert all((other != plain).mean() > 0.01 for other in others)
    assert len(np.unique(plain)) > len(np.unique(maps[3])) > 1
    assert (none == 0).all()


@pytest.mark.parametrize(("classes", "kind"), [(1, "uint8"), (256, "uint8"), (257, "uint16")])
def test_labels_are_as_small_as_can_be(classes, kind):
    logits = torch.zeros(classes, 2, 3)
    logits[-1] = 1
    labels = ours(logits, torch.arange(classes), classes, Protocol())
    assert labels.dtype == kind
    assert (labels == classes - 1).all()


def test_ties_go_to_the_first_class():
    logits = torch.full((6, 4, 4), 0.25)
    logits[5] = 0.2
    query_class = torch.tensor([0, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(ours(logits, query_class, 4, Protocol()), 0)
    logits[0] = 0.2
    np.testing.assert_array_equal(ours(logits, query_class, 4, Protocol()), 1)
    assert (reference(logits, query_class, 4, Protocol()) == 1).all()


def test_the_best_word_speaks_for_its_class():
    """Not the sum of its words: two halves do not beat one whole."""
    logits = torch.tensor([0.30, 0.29, 0.29, 0.29])[:, None, None]
    assert ours(logits, torch.tensor([0, 1, 1, 1]), 2, Protocol()).item() == 0


def test_synonyms_stay_in_the_softmax():
    """Each takes of the winner's probability, which prob_thd looks at."""
    protocol = Protocol(prob_thd=0.45)
    alone = torch.tensor([0.20, 0.21])[:, None, None]
    assert ours(alone, torch.tensor([0, 1]), 2, protocol).item() == 1
    among = torch.tensor([0.20, 0.21, 0.21])[:, None, None]
    assert ours(among, torch.tensor([0, 1, 1]), 2, protocol).item() == 0


def test_removed_classes_stay_in_the_softmax():
    logits = torch.zeros(3, 10, 10)
    logits[1] = 0.10
    logits[2, 0, 0] = 0.12  # one pixel: too small
    labels = ours(logits, torch.arange(3), 3, Protocol(area_thd=0.1))
    assert (labels == 1).all()
    labels = ours(logits, torch.arange(3), 3, Protocol(area_thd=0.1, prob_thd=0.4))
    assert labels[0, 0] == 0  # class 2 still has most of the probability there
    assert (labels.ravel()[1:] == 1).all()


def test_a_second_pass_only_where_a_class_goes():
    passes = []

    def blocks(logits):
        def give():
            passes.append(1)
            return iter([logits])

        return give

    half = torch.zeros(3, 10, 10)
    half[1, :5], half[2, 5:] = 1, 1
    decide(blocks(half), torch.arange(3), 3, Protocol(area_thd=0.1))
    assert len(passes) == 1
    half[2, :, 1:] = 0
    half[0, 5:, 1:] = 1
    half[1, :, 1:] += 3
    decide(blocks(half), torch.arange(3), 3, Protocol(area_thd=0.1))
    assert len(passes) == 3


def test_pieces_make_no_difference(monkeypatch):
    logits, query_class = random_logits(23), random_classes(23, 9)
    whole = ours(logits, query_class, 9, Protocol.named("voc21"), rows=40)
    monkeypatch.setattr("sclip_core.segmentation.decision.PART_ELEMENTS", {"cpu": 1})  # row by row
    pieces = ours(logits, query_class, 9, Protocol.named("voc21"), rows=40)
    np.testing.assert_array_equal(whole, pieces)


def test_class_scores():
    logits = torch.arange(12.0).view(4, 1, 3)
    scores = class_scores(logits, torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(scores, logits[[1, 3]])
    assert class_scores(logits, torch.arange(4), 4) is logits
