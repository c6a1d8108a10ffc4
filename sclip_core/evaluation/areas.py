"""Pixel areas of one image, class by class, and their sums (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError

IGNORED = -1  # in a label map: a pixel that is not evaluated
NO_PREDICTION = -1  # in a confusion: pixels that the prediction gave no class
BLOCK = 1 << 20  # pixels counted at a time: bincount needs 8 bytes for each
COUNTED = 1 << 18  # pairs of classes up to which each has a counter


class Areas(NamedTuple):
    """Areas by class in pixels, over evaluated pixels only; each (C,) int64.

    Add with `sum_areas`: ``+`` is a tuple's, and puts two end to end.
    """

    intersect: NDArray[np.int64]  # predicted and labelled as the class
    prediction: NDArray[np.int64]  # predicted as the class
    label: NDArray[np.int64]  # labelled as the class

    @property
    def union(self) -> NDArray[np.int64]:
        """Predicted or labelled as the class: (C,) int64 pixels."""
        return self.prediction + self.label - self.intersect


class Confusion(NamedTuple):
    """How many evaluated pixels each pair of label and prediction has, for pairs that occur.

    Each (P,) int64, ordered by label, then by prediction.
    """

    label: NDArray[np.int64]  # the class in the label map
    prediction: NDArray[np.int64]  # the predicted class, or `NO_PREDICTION`
    pixels: NDArray[np.int64]

    def areas(self, num_classes: int) -> Areas:
        """The areas of C classes."""
        predicted, right = self.prediction != NO_PREDICTION, self.prediction == self.label
        chosen = (
            (self.label[right], self.pixels[right]),
            (self.prediction[predicted], self.pixels[predicted]),
            (self.label, self.pixels),
        )
        total = _zeros(num_classes)
        for area, (classes, pixels) in zip(total, chosen, strict=True):
            np.add.at(area, classes, pixels)
        return total


def image_confusion(
    prediction: NDArray[np.unsignedinteger[Any]],
    label: NDArray[np.int32],
    num_classes: int,
    unlabelled: int | None = None,
) -> Confusion:
    """Count the pairs of label and prediction in one image; arguments as for `image_areas`.

    >>> found = image_confusion(np.uint8([[0, 1, 1]]), np.int32([[0, 0, -1]]), 2)
    >>> found.label.tolist(), found.prediction.tolist(), found.pixels.tolist()
    ([0, 0], [0, 1], [1, 1])
    """
    check_maps(prediction, label, num_classes, unlabelled)
    width = num_classes + 1  # the last column: pixels without a prediction
    codes: list[NDArray[np.intp]] = []
    counts: list[NDArray[np.intp]] = []
    for rows in _row_blocks(label.shape):
        evaluated = label[rows] != IGNORED
        truth = label[rows][evaluated].astype(np.intp)
        guess = prediction[rows][evaluated].astype(np.intp)
        if unlabelled is not None:
            guess[guess == unlabelled] = num_classes
        code = truth * width + guess
        if num_classes * width <= COUNTED:
            count = np.bincount(code)
            codes.append(np.flatnonzero(count))
            counts.append(count[codes[-1]])
        else:
            found = np.unique(code, return_counts=True)
            codes.append(found[0])
            counts.append(found[1])
    pairs, places = np.unique(np.concatenate([*codes, np.zeros(0, np.intp)]), return_inverse=True)
    pixels = np.zeros(len(pairs), np.int64)
    np.add.at(pixels, places, np.concatenate([*counts, np.zeros(0, np.intp)]))
    labels, guesses = np.divmod(pairs.astype(np.int64), width)
    return Confusion(labels, np.where(guesses == num_classes, NO_PREDICTION, guesses), pixels)


def image_areas(
    prediction: NDArray[np.unsignedinteger[Any]],
    label: NDArray[np.int32],
    num_classes: int,
    unlabelled: int | None = None,
) -> Areas:
    """Areas of one image.

    Args:
        prediction: (H, W), classes 0..C-1.
        label: (H, W) int32, classes 0..C-1; -1 is not evaluated, whatever is predicted there.
        num_classes: C.
        unlabelled: C or more, the prediction of pixels that were given no class. Such a pixel is
            wrong, and counts only for the class in ``label``.

    Raises:
        ImageError: the label map has another size than the prediction, or a value outside -1..C-1.
        ValueError: a prediction outside 0..C-1.

    >>> areas = image_areas(np.uint8([[0, 1, 1]]), np.int32([[0, 0, -1]]), 2)
    >>> areas.intersect.tolist(), areas.prediction.tolist(), areas.label.tolist()
    ([1, 0], [1, 1], [2, 0])
    """
    return image_confusion(prediction, label, num_classes, unlabelled).areas(num_classes)


def sum_areas(areas: Iterable[Areas]) -> Areas:
    """Areas of a dataset: the sums over its images, which section 8 takes before any ratio.

    Raises:
        ValueError: nothing to sum, or images counted with different numbers of classes.
    """
    total: Areas | None = None
    for one in areas:
        total = total or _zeros(len(one.label))
        if len(one.label) != len(total.label):
            raise ValueError(f"areas of {len(one.label)} classes after {len(total.label)} classes")
        for area, part in zip(total, one, strict=True):
            area += part
    if total is None:
        raise ValueError("no areas to sum: expected those of at least one image")
    return total


def class_shares(labels: NDArray[np.integer[Any]], num_classes: int) -> NDArray[np.float64]:
    """The share of all pixels that each class covers, 0..1; the rest is ignored.

    Args:
        labels: (H, W), classes 0..C-1 or -1.
        num_classes: C.

    Returns:
        (C,) float64.
    """
    counts = np.zeros(num_classes, np.int64)
    for rows in _row_blocks(labels.shape):
        block = labels[rows]
        counts += np.bincount(block[block != IGNORED].astype(np.intp), minlength=num_classes)
    return counts / max(labels.size, 1)


def _zeros(num_classes: int) -> Areas:
    return Areas(*np.zeros((3, num_classes), np.int64))


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of whole rows, about `BLOCK` pixels each."""
    height, width = shape
    step = max(1, BLOCK // max(1, width))
    return (slice(top, top + step) for top in range(0, height, step))


def check_maps(
    prediction: NDArray[np.unsignedinteger[Any]],
    label: NDArray[np.int32],
    num_classes: int,
    unlabelled: int | None,
) -> None:
    """Refuse maps that are not of one size or hold other values, as ``image_areas`` says."""
    if prediction.ndim != 2 or label.shape != prediction.shape:
        raise ImageError(
            f"a label map of shape {label.shape} for a prediction of shape {prediction.shape}: "
            "both should be (height, width), the size of the image"
        )
    lowest, highest = int(label.min(initial=IGNORED)), int(label.max(initial=IGNORED))
    if lowest < IGNORED or highest >= num_classes:
        bad = lowest if lowest < IGNORED else highest
        raise ImageError(
            f"the label map holds the value {bad}, but there are {num_classes} classes "
            f"(0..{num_classes - 1}): name the values to leave out as ignore_label, "
            "or check that the vocabulary belongs to these labels"
        )
    if unlabelled is not None:
        prediction = prediction[prediction != unlabelled]
    highest = int(prediction.max(initial=0))
    if highest >= num_classes or int(prediction.min(initial=0)) < 0:
        raise ValueError(f"a prediction outside 0..{num_classes - 1}: highest is {highest}")
