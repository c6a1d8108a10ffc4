"""What a pixel is and what it was called, against torchmetrics and a plain loop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from sclip_core.evaluation import NO_PREDICTION, areas, image_areas, image_confusion


def drawn(num_classes: int, unlabelled: int | None = None, seed: int = 0):
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, num_classes, (31, 47)).astype(np.int32)
    prediction = rng.integers(0, num_classes, label.shape).astype(np.uint16)
    if unlabelled is not None:
        prediction[rng.random(label.shape) < 0.2] = unlabelled
    return prediction, label


@pytest.mark.parametrize("num_classes", [1, 2, 21, 171, 600])  # 600: pairs are not counted, sorted
def test_pairs_are_those_of_torchmetrics(num_classes):
    prediction, label = drawn(num_classes)
    found = image_confusion(prediction, label, num_classes)
    dense = np.zeros((num_classes, num_classes), np.int64)
    dense[found.label, found.prediction] = found.pixels
    if num_classes == 1:
        assert dense.tolist() == [[(label == 0).sum()]]
        return
    truth, said = torch.from_numpy(label).long(), torch.from_numpy(prediction.astype(np.int64))
    theirs = multiclass_confusion_matrix(said, truth, num_classes, ignore_index=-1)
    np.testing.assert_array_equal(dense, theirs.numpy())
    assert (found.pixels > 0).all()  # only pairs that occur


@pytest.mark.parametrize("num_classes", [3, 600])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_what_was_not_said_is_a_pair_of_its_own(monkeypatch, num_classes, block):
    monkeypatch.setattr(areas, "BLOCK", block)
    prediction, label = drawn(num_classes, unlabelled=65_535)
    counted = Counter(
        (int(truth), NO_PREDICTION if said == 65_535 else int(said))
        for truth, said in zip(label.ravel(), prediction.ravel(), strict=True)
        if truth >= 0
    )
    found = image_confusion(prediction, label, num_classes, 65_535)
    pairs = list(zip(found.label.tolist(), found.prediction.tolist(), strict=True))
    assert dict(zip(pairs, found.pixels.tolist(), strict=True)) == counted
    assert pairs == sorted(pairs, key=lambda pair: (pair[0], pair[1] % (num_classes + 1)))
    by_pairs = found.areas(num_classes)
    for ours, theirs in zip(
        by_pairs, image_areas(prediction, label, num_classes, 65_535), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_evaluated_has_no_pair():
    found = image_confusion(np.zeros((2, 2), np.uint8), np.full((2, 2), -1, np.int32), 3)
    assert [len(column) for column in found] == [0, 0, 0]
    assert found.areas(3).label.tolist() == [0, 0, 0]
