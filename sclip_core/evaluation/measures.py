"""Numbers of a dataset beside mIoU, and what bootstrap needs of each (docs/metrics.md).

A measure turns the areas of every image into a few numbers, adds these up over the images, and
takes a score of the sums. Sums over the images that were drawn give the score of a draw. The mean
of the worst images is no function of sums: its images are ranked once, and a draw says how often
each counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.scores import dice_scores, mean_defined, percent, weighted

Floats = NDArray[np.float64]
Values = Callable[[Areas], Floats]
Score = Callable[[Floats, Floats], Floats]
Kind = Literal["image_areas", "boundary_areas", "size_areas"]
SIZES = ("small", "medium", "large")  # of objects, as COCO calls them
WORST = 5  # percent


@dataclass(frozen=True, eq=False)
class Measure:
    """A number of a dataset, in percent.

    Attributes:
        label: as it is written in tables.
        values: of the areas (n, C) of images, numbers (n, V) of each, NaN in none.
        score: of their sums (D, V) over the images of D draws, and of those (1, V) of the dataset,
            where a draw has nothing of a class: (D,).
        kind: the table whose areas it is of.
        worst: the percentage of the images of lowest value that count; None: all.
    """

    label: str
    values: Values
    score: Score
    kind: Kind = "image_areas"
    worst: float | None = None


def areas_of(areas: Areas) -> Floats:
    """The three areas of each image side by side, (n, 3C)."""
    return np.hstack(areas).astype(np.float64, copy=False)


def class_scores(areas: Areas) -> Floats:
    """Of each image and class the IoU, and whether the class is there: (n, 2C).

    Only classes that the ground truth of an image has take part (Wang et al. 2023, section 3).

    >>> one = Areas(np.array([[3, 0, 0]]), np.array([[3, 2, 0]]), np.array([[5, 0, 1]]))
    >>> class_scores(one).tolist()
    [[60.0, 0.0, 0.0, 1.0, 0.0, 1.0]]
    """
    there = areas.label > 0
    iou = np.where(there, percent(areas.intersect, areas.union), 0.0)
    return np.hstack([iou, there.astype(np.float64)])


def image_scores(areas: Areas) -> Floats:
    """Of each image the mean IoU of the classes that it has, and whether it has any: (n, 2)."""
    iou, there = np.split(class_scores(areas), 2, axis=1)
    count = there.sum(axis=1)
    return np.stack([iou.sum(axis=1) / np.maximum(count, 1), count > 0], axis=1)


def _summed(sums: Floats) -> Areas:
    return Areas(*np.split(sums, 3, axis=1))  # type: ignore[arg-type]


def _class_mean(of: Callable[[Areas], Floats], chosen: NDArray[np.bool_] | None = None) -> Score:
    """The mean over classes, of which one that no drawn image has counts as in the dataset."""

    def score(sums: Floats, own: Floats) -> Floats:
        found, whole = of(_summed(sums)), of(_summed(own))
        found = np.where(np.isnan(found), whole, found)
        return mean_defined(found if chosen is None else found[:, chosen])

    return score


def _iou(areas: Areas) -> Floats:
    return percent(areas.intersect, areas.union)


def _acc(areas: Areas) -> Floats:
    return percent(areas.intersect, areas.label)


def _precision(areas: Areas) -> Floats:
    return percent(areas.intersect, areas.prediction)


def _fwiou(sums: Floats, own: Floats) -> Floats:
    areas = _summed(sums)
    return weighted(_iou(areas), areas.label)


def _aacc(sums: Floats, own: Floats) -> Floats:
    areas = _summed(sums)
    return percent(areas.intersect.sum(axis=1), areas.label.sum(axis=1))


def _mean(sums: Floats, own: Floats) -> Floats:
    """The mean over all numbers of the means over images: of one number, or of one a class."""
    total, count = np.split(sums, 2, axis=1)
    whole = np.split(own, 2, axis=1)
    mean, known = percent(total / 100, count), percent(whole[0] / 100, whole[1])
    return mean_defined(np.where(np.isnan(mean), known, mean))


def _recall_of(size: int) -> Score:
    """Mean recall over the classes of one size; the sizes' classes stand after one another."""

    def score(sums: Floats, own: Floats) -> Floats:
        found, whole = (np.split(_acc(_summed(s)), len(SIZES), axis=1)[size] for s in (sums, own))
        return mean_defined(np.where(np.isnan(found), whole, found))

    return score


MEASURES: dict[str, Measure] = {
    "miou": Measure("mIoU", areas_of, _class_mean(_iou)),
    "macc": Measure("mAcc", areas_of, _class_mean(_acc)),
    "aacc": Measure("aAcc", areas_of, _aacc),
    "fwiou": Measure("fwIoU", areas_of, _fwiou),
    "mprec": Measure("mPrec", areas_of, _class_mean(_precision)),
    "mdice": Measure("mDice", areas_of, _class_mean(dice_scores)),
    "miou_i": Measure("mIoU-I", image_scores, _mean),
    "miou_i5": Measure("mIoU-I5", image_scores, _mean, worst=WORST),
    "miou_c": Measure("mIoU-C", class_scores, _mean),
    "miou_c5": Measure("mIoU-C5", class_scores, _mean, worst=WORST),
    "biou": Measure("mBIoU", areas_of, _class_mean(_iou), "boundary_areas"),
    **{
        f"acc_{size}": Measure(f"mAcc {size}", areas_of, _recall_of(k), "size_areas")
        for k, size in enumerate(SIZES)
    },
}


def group_measures(groups: Mapping[str, Sequence[int]], num_classes: int) -> dict[str, Measure]:
    """The mIoU of groups of classes: for each the mean over those of its classes that occur.

    Args:
        groups: the classes of each, by name.
        num_classes: C.
    """
    found = {}
    for name, classes in groups.items():
        chosen = np.zeros(num_classes, bool)
        chosen[list(classes)] = True
        found[f"miou:{name}"] = Measure(f"mIoU {name}", areas_of, _class_mean(_iou, chosen))
    return found


def measured(areas: Areas, *names: str) -> dict[str, float]:
    """Numbers of a dataset without intervals.

    Args:
        areas: (N, C) of its images.
        names: of `MEASURES` that are of the areas of images; none: all of these.

    >>> two = Areas(*np.array([[[2, 1], [0, 4]], [[2, 2], [0, 5]], [[3, 1], [1, 4]]]))
    >>> found = measured(two, "fwiou", "miou_i", "miou_c", "miou_i5")
    >>> {name: round(value, 1) for name, value in found.items()}
    {'fwiou': 61.9, 'miou_i': 49.2, 'miou_c': 49.2, 'miou_i5': 40.0}
    """
    from sclip_core.evaluation.resampling import resample

    known = [name for name, each in MEASURES.items() if each.kind == "image_areas"]
    chosen = {name: MEASURES[name] for name in names or known}
    found = resample([areas], chosen, resamples=0)
    return {name: float(values[0, 0]) for name, values in found.items()}
