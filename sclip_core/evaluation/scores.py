"""Scores of summed areas: IoU and accuracy by class and their means (PROTOCOL.md, section 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything in percent; NaN where there is nothing to divide by."""

    miou: float  # mean IoU over classes that were labelled or predicted
    macc: float  # mean accuracy over classes that were labelled
    aacc: float  # share of evaluated pixels that are right
    iou: NDArray[np.float64]  # (C,)
    acc: NDArray[np.float64]  # (C,)


def scores(areas: Areas) -> Scores:
    """Ratios of areas that were summed over the dataset; the mean over images is another metric.

    A class that is neither labelled nor predicted has no IoU and takes no part in mIoU. One that
    is predicted but never labelled has IoU 0 and takes part; it has no accuracy.

    Args:
        areas: of a dataset (`sum_areas`) or of one image; each (C,).

    >>> three = Areas(np.array([2, 0, 0]), np.array([3, 1, 0]), np.array([4, 0, 0]))
    >>> found = scores(three)
    >>> found.iou.tolist(), found.miou, found.macc, found.aacc
    ([40.0, 0.0, nan], 20.0, 50.0, 50.0)
    """
    iou = _percent(areas.intersect, areas.union)
    acc = _percent(areas.intersect, areas.label)
    aacc = _percent(areas.intersect.sum(keepdims=True), areas.label.sum(keepdims=True))
    return Scores(miou=_mean(iou), macc=_mean(acc), aacc=float(aacc[0]), iou=iou, acc=acc)


def _percent(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    percent = np.full(whole.shape, np.nan)
    np.divide(100 * part, whole, out=percent, where=whole > 0)
    return percent


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of the defined values; unlike nanmean, silent where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
