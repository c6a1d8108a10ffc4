"""Scores by class and their means, from summed areas (docs/protocol.md, section 8; metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores in percent; NaN where there is nothing to divide by."""

    miou: float  # mean IoU over classes that were labelled or predicted
    macc: float  # mean accuracy over classes that were labelled
    aacc: float  # share of evaluated pixels that are right
    iou: NDArray[np.float64]  # (C,)
    acc: NDArray[np.float64]  # (C,) which is also recall
    fwiou: float  # IoU weighted by the pixels that a class has (Long et al. 2015, section 5)
    mprec: float  # mean precision over classes that were predicted
    mdice: float  # mean Dice score over classes that were labelled or predicted
    precision: NDArray[np.float64]  # (C,)
    dice: NDArray[np.float64]  # (C,) which is also F1


def scores(areas: Areas) -> Scores:
    """Scores of areas that were summed over the dataset, not means over images.

    A class that is neither labelled nor predicted has no IoU and takes no part in mIoU. One that
    is predicted but never labelled has IoU 0 and takes part; it has no accuracy.

    Args:
        areas: of a dataset (`sum_areas`) or of one image; each (C,).

    >>> three = Areas(np.array([2, 0, 0]), np.array([3, 1, 0]), np.array([4, 0, 0]))
    >>> found = scores(three)
    >>> found.iou.tolist(), found.miou, found.macc, found.aacc
    ([40.0, 0.0, nan], 20.0, 50.0, 50.0)
    >>> found.fwiou, found.precision.round(1).tolist(), found.dice.round(1).tolist()
    (40.0, [66.7, 0.0, nan], [57.1, 0.0, nan])
    """
    iou, acc = percent(areas.intersect, areas.union), percent(areas.intersect, areas.label)
    precision, dice = percent(areas.intersect, areas.prediction), dice_scores(areas)
    return Scores(
        miou=float(mean_defined(iou)),
        macc=float(mean_defined(acc)),
        aacc=float(percent(areas.intersect.sum(), areas.label.sum())),
        iou=iou,
        acc=acc,
        fwiou=float(weighted(iou, areas.label)),
        mprec=float(mean_defined(precision)),
        mdice=float(mean_defined(dice)),
        precision=precision,
        dice=dice,
    )


def dice_scores(areas: Areas) -> NDArray[np.float64]:
    """2 · intersection / (prediction + label) in percent, which is F1: the shape of the areas."""
    return percent(2 * areas.intersect, areas.prediction + areas.label)


def weighted(iou: NDArray[np.float64], label: Any) -> NDArray[np.float64]:
    """Frequency-weighted IoU: the mean over the last axis by the pixels of each class.

    Args:
        iou: (..., C) percent, NaN where a class has none.
        label: (..., C) pixels of each class.

    >>> weighted(np.array([40.0, 0.0, np.nan]), np.array([3, 1, 0])).item()
    30.0
    """
    total = np.where(np.isnan(iou), 0.0, iou) * label
    return percent(total.sum(axis=-1) / 100, np.sum(label, axis=-1))


def percent(part: Any, whole: Any) -> NDArray[np.float64]:
    """100 · part / whole, element by element; NaN where the whole is 0."""
    found = np.full(np.shape(whole), np.nan)
    np.divide(100 * np.asarray(part), whole, out=found, where=np.asarray(whole) > 0)
    return found


def mean_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the last axis, without NaN; NaN, without a warning, where all are NaN."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    found = np.full(total.shape, np.nan)
    count = defined.sum(axis=-1)
    np.divide(total, count, out=found, where=count > 0)
    return found
