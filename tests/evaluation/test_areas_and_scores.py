"""Areas and scores against torchmetrics, a plain loop and an example worked out by hand."""

from __future__ import annotations

import doctest
import importlib
import math
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from sclip_core.config import ImageError, UserError
from sclip_core.evaluation import Areas, areas, image_areas, scores, sum_areas

Maps = list[tuple[NDArray[np.unsignedinteger], NDArray[np.int32]]]


def random_maps(num_classes: int, present: int, seed: int = 0, dtype: type = np.uint8) -> Maps:
    """Prediction and label of four images; the classes from `present` on never occur."""
    rng = np.random.default_rng(seed)
    maps = []
    for n, size in enumerate([(7, 9), (1, 1), (33, 20), (5, 64)]):
        label = rng.integers(-1, present, size).astype(np.int32)
        guess = rng.integers(0, present, size)
        right = rng.random(size) < (0.9 if n == 0 else 0.4)  # so that the images differ
        maps.append((np.where(right, label.clip(0), guess).astype(dtype), label))
    return maps


def summed(maps: Maps, num_classes: int) -> Areas:
    return sum_areas(image_areas(prediction, label, num_classes) for prediction, label in maps)


def counted_one_by_one(maps: Maps, num_classes: int) -> list[list[int]]:
    intersect, predicted, labelled = ([0] * num_classes for _ in range(3))
    for prediction, label in maps:
        for guess, truth in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
            if truth == -1:
                continue
            predicted[guess] += 1
            labelled[truth] += 1
            intersect[truth] += guess == truth
    return [intersect, predicted, labelled]


def test_an_example_by_hand() -> None:
    label = np.array([[0, 0, 1], [1, 2, -1]], np.int32)
    prediction = np.array([[0, 1, 1], [1, 0, 3]], np.uint8)
    found = image_areas(prediction, label, 5)
    assert found.intersect.tolist() == [1, 2, 0, 0, 0]
    assert found.prediction.tolist() == [2, 3, 0, 0, 0]  # the 3 lies on an ignored pixel
    assert found.label.tolist() == [2, 2, 1, 0, 0]
    assert found.union.tolist() == [3, 3, 1, 0, 0]
    result = scores(found)
    np.testing.assert_allclose(result.iou, [100 / 3, 200 / 3, 0, np.nan, np.nan])
    np.testing.assert_allclose(result.acc, [50, 100, 0, np.nan, np.nan])
    assert result.miou == pytest.approx(100 / 3)
    assert result.macc == pytest.approx(50)
    assert result.aacc == pytest.approx(60)


@pytest.mark.parametrize(("num_classes", "present"), [(2, 2), (6, 4), (171, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_areas_are_those_of_a_plain_loop(num_classes: int, present: int, dtype: type) -> None:
    maps = random_maps(num_classes, present, dtype=dtype)
    total = summed(maps, num_classes)
    assert [part.tolist() for part in total] == counted_one_by_one(maps, num_classes)
    assert all(part.dtype == np.int64 and part.shape == (num_classes,) for part in total)


def test_counting_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = random_maps(6, 4)
    for block in (1, 100, 10**6):
        monkeypatch.setattr(areas, "BLOCK", block)
        total = summed(maps, 6)
        assert [part.tolist() for part in total] == counted_one_by_one(maps, 6)


@pytest.mark.parametrize(("num_classes", "present"), [(3, 3), (6, 4), (171, 30)])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_torchmetrics(num_classes: int, present: int, seed: int) -> None:
    maps = random_maps(num_classes, present, seed)
    jaccard = MulticlassJaccardIndex(num_classes, ignore_index=255, average="none")
    recall = MulticlassAccuracy(num_classes, ignore_index=255, average="none")
    right = MulticlassAccuracy(num_classes, ignore_index=255, average="micro")
    for prediction, label in maps:
        guess = torch.from_numpy(prediction.astype(np.int64))[None]
        truth = torch.from_numpy(np.where(label < 0, 255, label).astype(np.int64))[None]
        for metric in (jaccard, recall, right):
            metric.update(guess, truth)

    total = summed(maps, num_classes)
    result = scores(total)
    # torchmetrics says 0 for a class that never occurs; here it is undefined.
    np.testing.assert_array_equal(np.isnan(result.iou), total.union == 0)
    np.testing.assert_array_equal(np.isnan(result.acc), total.label == 0)
    np.testing.assert_allclose(np.nan_to_num(result.iou), 100 * jaccard.compute(), atol=1e-4)
    np.testing.assert_allclose(np.nan_to_num(result.acc), 100 * recall.compute(), atol=1e-4)
    assert result.aacc == pytest.approx(100 * float(right.compute()), abs=1e-4)
    assert result.miou == pytest.approx(np.nanmean(result.iou))
    assert result.macc == pytest.approx(np.nanmean(result.acc))


def test_a_class_only_predicted_counts_for_miou_but_not_for_macc() -> None:
    label = np.zeros((2, 2), np.int32)
    result = scores(image_areas(np.array([[0, 0], [0, 1]], np.uint8), label, 3))
    assert (result.miou, result.macc, result.aacc) == (37.5, 75.0, 75.0)


def test_the_score_of_the_dataset_is_not_the_mean_over_its_images() -> None:
    maps = random_maps(6, 4)
    per_image = [scores(image_areas(prediction, label, 6)).miou for prediction, label in maps]
    assert abs(scores(summed(maps, 6)).miou - np.nanmean(per_image)) > 1


def test_nothing_evaluated_is_nan_without_a_warning() -> None:
    empty = image_areas(np.zeros((3, 4), np.uint8), np.full((3, 4), -1, np.int32), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = scores(empty)
    assert all(math.isnan(value) for value in (result.miou, result.macc, result.aacc))
    assert np.isnan(result.iou).all()
    assert np.isnan(result.acc).all()


def test_areas_beyond_32_bits_keep_their_ratio() -> None:
    big = np.array([6 * 10**15], np.int64)  # 5,000 images of 12000x9000 are 5e11 pixels
    assert scores(Areas(big // 2, big // 2, big)).miou == 50


def test_summing_leaves_its_input_alone() -> None:
    one = image_areas(*random_maps(3, 3)[0], 3)
    before = [part.copy() for part in one]
    sum_areas([one, one])
    assert all((a == b).all() for a, b in zip(one, before, strict=True))


@pytest.mark.parametrize("bad", [5, 254, -2])
def test_a_label_outside_the_vocabulary_is_named(bad: int) -> None:
    label = np.array([[0, 4, -1, bad]], np.int32)
    with pytest.raises(ImageError, match=rf"value {bad}, but there are 5 classes"):
        image_areas(np.zeros((1, 4), np.uint8), label, 5)


def test_a_label_map_of_another_size_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"\(3, 4\).*\(4, 3\)"):
        image_areas(np.zeros((4, 3), np.uint8), np.zeros((3, 4), np.int32), 5)


def test_a_prediction_outside_the_classes_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="highest is 7"):
        image_areas(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.int32), 5)


def test_sums_need_images_of_the_same_classes() -> None:
    with pytest.raises(ValueError, match="no areas"):
        sum_areas([])
    zeros = [Areas(*np.zeros((3, n), np.int64)) for n in (2, 3)]
    with pytest.raises(ValueError, match="3 classes after 2"):
        sum_areas(zeros)


@pytest.mark.parametrize(
    "name",
    [
        "evaluation.areas",
        "evaluation.bootstrap",
        "evaluation.scores",
        "drawing.colours",
        "drawing.text",
    ],
)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"sclip_core.{name}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def with_gaps(maps: Maps, unlabelled: int, seed: int = 0) -> Maps:
    """The same where a third of the prediction says nothing."""
    rng = np.random.default_rng(seed)
    return [
        (np.where(rng.random(label.shape) < 0.3, np.uint16(unlabelled), prediction), label)
        for prediction, label in maps
    ]


def counted_with_gaps(maps: Maps, num_classes: int, unlabelled: int) -> list[list[int]]:
    intersect, predicted, labelled = ([0] * num_classes for _ in range(3))
    for prediction, label in maps:
        for guess, truth in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
            if truth == -1:
                continue
            labelled[truth] += 1
            if guess != unlabelled:
                predicted[guess] += 1
                intersect[truth] += guess == truth
    return [intersect, predicted, labelled]


@pytest.mark.parametrize(("num_classes", "present"), [(2, 2), (6, 4), (171, 30)])
@pytest.mark.parametrize("unlabelled", [171, 255, 65_535])
def test_pixels_without_a_prediction_are_those_of_a_plain_loop(
    num_classes: int, present: int, unlabelled: int
) -> None:
    maps = with_gaps(random_maps(num_classes, present), unlabelled)
    total = sum_areas(image_areas(*one, num_classes, unlabelled) for one in maps)
    expected = counted_with_gaps(maps, num_classes, unlabelled)
    assert [part.tolist() for part in total] == expected
    assert all(part.dtype == np.int64 and part.shape == (num_classes,) for part in total)
    assert total.prediction.sum() < total.label.sum()


def test_a_pixel_without_a_prediction_is_wrong_by_hand() -> None:
    label = np.array([[0, 0, 1, 1, -1, -1]], np.int32)
    prediction = np.array([[0, 255, 255, 0, 255, 1]], np.uint8)
    found = image_areas(prediction, label, 2, unlabelled=255)
    assert (found.intersect.tolist(), found.prediction.tolist()) == ([1, 0], [2, 0])
    assert found.label.tolist() == [2, 2]
    assert scores(found).aacc == 25


def test_a_prediction_that_says_nothing_scores_0() -> None:
    label = np.array([[0, 1, 1]], np.int32)
    result = scores(image_areas(np.full((1, 3), 255, np.uint8), label, 3, unlabelled=255))
    assert (result.miou, result.macc, result.aacc) == (0, 0, 0)


def test_a_prediction_without_gaps_counts_as_ever() -> None:
    for prediction, label in random_maps(6, 4):
        plain = image_areas(prediction, label, 6)
        allowed = image_areas(prediction, label, 6, unlabelled=255)
        assert [part.tolist() for part in allowed] == [part.tolist() for part in plain]


def test_only_the_value_that_was_named_says_nothing() -> None:
    prediction = np.array([[255, 254]], np.uint8)
    with pytest.raises(ValueError, match="highest is 254"):
        image_areas(prediction, np.zeros((1, 2), np.int32), 5, unlabelled=255)
    with pytest.raises(ValueError, match="highest is 255"):
        image_areas(prediction, np.zeros((1, 2), np.int32), 5)
