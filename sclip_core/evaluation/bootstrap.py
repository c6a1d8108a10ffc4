"""How sure a score is: the bootstrap over images (Efron & Tibshirani 1993, chapters 6 and 13).

A dataset is a sample of the images that it could have held. To see how much a score depends on
which ones it holds, as many images are drawn from it, with replacement, again and again, and each
draw is scored like the dataset. Runs that are compared see the same draws, so that images which are
hard for all of them cancel out.

A draw may hold no image of a rare class. A mean without that class would be another quantity, so
the class keeps the score there that it has in the dataset.

Of very many images, groups are drawn instead, each of images that chance has put together: their
sums vary as those of single images do, so that the interval is the same but for the noise of a
sample of that many groups, 1 % of its width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.scores import mean_defined, percent
from sclip_core.evaluation.sparse import SparseAreas

RESAMPLES = 2000
CONFIDENCE = 95.0  # percent
AT_ONCE = 1 << 23  # image weights held at a time: 64 MB
EXACT = 50_000  # images up to which they are drawn one by one
GROUPS = 8192  # that are drawn where there are more


class Interval(NamedTuple):
    """A value and its confidence interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def alone(self) -> Interval:
        """The value, without an interval."""
        return Interval(self.value, float("nan"), float("nan"))

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference has the same sign throughout; False where it is undefined."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores in percent, of the dataset and of R draws from its images, for each of K runs."""

    miou: NDArray[np.float64]  # (K, 1 + R); the dataset's own score comes first, here and below
    macc: NDArray[np.float64]  # (K, 1 + R)
    aacc: NDArray[np.float64]  # (K, 1 + R)
    iou: NDArray[np.float64]  # (K, 1 + R, C); (K, 1 + R, 0) without ``by_class``

    def of(self, score: str, run: int = 0) -> Interval:
        """A run's ``miou``, ``macc`` or ``aacc``."""
        return interval(getattr(self, score)[run])

    def difference(self, score: str, run: int, base: int = 0) -> Interval:
        """A run's score minus that of ``base``, on the same draws."""
        values = getattr(self, score)
        return interval(values[run] - values[base])

    def class_differences(self, run: int, base: int = 0) -> list[Interval]:
        """Each class's IoU minus that in ``base``; NaN where one of the two has none."""
        return [interval(each) for each in (self.iou[run] - self.iou[base]).T]

    def class_ious(self, run: int = 0) -> list[Interval]:
        """The IoU of each class."""
        return [interval(each) for each in self.iou[run].T]


def bootstrap(
    runs: Sequence[Areas | SparseAreas],
    resamples: int = RESAMPLES,
    seed: int = 0,
    by_class: bool = False,
    groups: int | None = None,
) -> Resampled:
    """Score R draws of the images with replacement.

    Args:
        runs: K runs, each the areas (N, C) of the same N images in the same order.
        resamples: R.
        seed: of the draws.
        by_class: keep the IoU of each class too.
        groups: of images, which are drawn in place of single ones; None: `GROUPS` where there are
            more than `EXACT` images.

    Raises:
        ValueError: no run, no image, or runs of different images or classes.
    """
    shapes = {shape for run in runs for shape in _shapes(run)}
    if len(shapes) != 1 or 0 in (shape := next(iter(shapes))) or len(shape) != 2:
        raise ValueError(f"areas of shapes {sorted(shapes)}: expected one (images, classes)")
    images, classes = shape
    groups = groups or drawn_groups(images)
    if groups is not None and groups < images:
        runs, images = [_grouped(run, groups) for run in runs], groups
    kept = classes if by_class else 0
    shape = len(runs), 1 + resamples
    out = Resampled(np.empty(shape), np.empty(shape), np.empty(shape), np.empty((*shape, kept)))
    own: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}  # of the dataset (1, C)
    for draws, weights in draws_of(images, resamples, seed):
        for run, areas in enumerate(runs):
            values = _values(areas)  # not kept: many runs would fill memory
            # exact: the sums are whole numbers below 2^53
            intersect, prediction, label = np.split(weights @ values, 3, axis=1)
            iou = percent(intersect, prediction + label - intersect)
            acc = percent(intersect, label)
            if draws.start == 0:
                own[run] = iou, acc
            out.iou[run, draws] = iou[:, :kept]
            out.miou[run, draws] = mean_defined(np.where(np.isnan(iou), own[run][0], iou))
            out.macc[run, draws] = mean_defined(np.where(np.isnan(acc), own[run][1], acc))
            out.aacc[run, draws] = percent(intersect.sum(axis=1), label.sum(axis=1))
    return out


def drawn_groups(images: int) -> int | None:
    """How many groups of so many images are drawn; None: the images themselves."""
    return GROUPS if images > EXACT else None


def _shapes(run: Areas | SparseAreas) -> list[tuple[int, ...]]:
    return [run.shape] if isinstance(run, SparseAreas) else [np.shape(area) for area in run]


def _grouped(run: Areas | SparseAreas, groups: int) -> Areas:
    """The sums (groups, C) of groups of about as many images each, the same for every run."""
    sparse = run if isinstance(run, SparseAreas) else SparseAreas.of(run)
    return sparse.grouped(groups_by_chance(sparse.shape[0], groups), groups)


def groups_by_chance(images: int, groups: int) -> NDArray[np.int64]:
    """The group (N,) of each image, 0..groups-1: always the same of so many images."""
    by_chance = np.random.default_rng([groups, images]).permutation(images)
    return by_chance % groups


def _values(areas: Areas | SparseAreas) -> NDArray[np.float64]:
    """The three areas of each image side by side, (N, 3C)."""
    if isinstance(areas, Areas):
        return np.hstack(areas).astype(np.float64, copy=False)
    images, classes = areas.shape
    values = np.zeros((images, 3, classes))
    for place, area in enumerate(areas.areas):
        values[areas.image, place, areas.class_id] = area
    return values.reshape(images, 3 * classes)


def draws_of(images: int, resamples: int, seed: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of (draws, N) image counts; the first draw is the dataset itself."""
    rng = np.random.default_rng(seed)
    yield slice(0, 1), np.ones((1, images))
    step = max(1, AT_ONCE // images)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = rng.integers(images, size=(count, images))
        drawn += images * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images)
        yield slice(1 + first, 1 + first + count), weights.astype(np.float64)


def interval(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval:
    """The first value and the percentile interval of the others, NaN left out.

    >>> interval(np.array([5.0, 1.0, 2.0, 3.0, 4.0, np.nan]), 100)
    Interval(value=5.0, low=1.0, high=4.0)
    """
    value, drawn = float(values[0]), values[1:]
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    tail = (100 - confidence) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
