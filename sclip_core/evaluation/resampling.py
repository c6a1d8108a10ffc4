"""Measures of the dataset and of draws from its images: the bootstrap of ``bootstrap.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.bootstrap import (
    RESAMPLES,
    drawn_groups,
    draws_of,
    groups_by_chance,
)
from sclip_core.evaluation.measures import Floats, Measure, Values
from sclip_core.evaluation.scores import mean_defined
from sclip_core.evaluation.sparse import SparseAreas


def resample(
    runs: Sequence[Areas | SparseAreas],
    measures: Mapping[str, Measure],
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: int | None = None,
) -> dict[str, Floats]:
    """Score R draws of the images with replacement, those of ``bootstrap`` with the same seed.

    Args:
        runs: K runs, each the areas (N, C) of the same N images in the same order.
        measures: by name, of these areas.
        resamples: R.
        seed: of the draws.
        groups: of images, which are drawn in place of single ones; None: as ``bootstrap`` does.
            The worst images of so many are given without draws, which are NaN.

    Returns:
        Of each measure (K, 1 + R) percent, the dataset's own first.
    """
    sparse = [run if isinstance(run, SparseAreas) else SparseAreas.of(run) for run in runs]
    images = sparse[0].shape[0]
    groups = groups or drawn_groups(images)
    groups = None if groups is None or groups >= images else groups
    out = {name: np.full((len(runs), 1 + resamples), np.nan) for name in measures}
    ranked = {name: each for name, each in measures.items() if each.worst is not None}
    summed = {name: each for name, each in measures.items() if each.worst is None}
    for place, run in enumerate(sparse):
        _add_sums(out, summed, run, place, groups, (resamples, seed))
        for name, each in ranked.items():
            ranks = _Ranked(run, each)
            draws = draws_of(images, 0 if groups else resamples, seed)
            for some, weights in draws:
                out[name][place, some] = ranks.score(weights)
    return out


def _add_sums(
    out: dict[str, Floats],
    measures: Mapping[str, Measure],
    run: SparseAreas,
    place: int,
    groups: int | None,
    drawn: tuple[int, int],
) -> None:
    """Fill in the scores of one run; measures of the same values share their sums."""
    for values_of in dict.fromkeys(each.values for each in measures.values()):
        of_these = {name: each for name, each in measures.items() if each.values is values_of}
        values = _values(run, values_of, groups)
        own = values.sum(axis=0, keepdims=True)
        for some, weights in draws_of(len(values), *drawn):
            sums = own if some.start == 0 else weights @ values
            for name, each in of_these.items():
                out[name][place, some] = each.score(sums, own)


def _values(run: SparseAreas, values_of: Values, groups: int | None) -> Floats:
    """The numbers of each image, or their sums over each group of images."""
    blocks = map(values_of, run.blocks())
    if groups is None:
        return np.concatenate(list(blocks))
    group = groups_by_chance(run.shape[0], groups)
    total: Floats | None = None
    for first, block in _counted(blocks):
        if total is None:
            total = np.zeros((groups, block.shape[1]))
        np.add.at(total, group[first : first + len(block)], block)
    assert total is not None
    return total


def _counted(blocks: Iterator[Floats]) -> Iterator[tuple[int, Floats]]:
    """Blocks of rows, with the number of the first of each."""
    first = 0
    for block in blocks:
        yield first, block
        first += len(block)


class _Ranked:
    """The mean of the lowest values: of the images, or for each class of those that have it.

    Of n images, ``max(1, int(n · worst / 100))`` count (Wang et al. 2023, section 3.2).
    """

    def __init__(self, run: SparseAreas, measure: Measure) -> None:
        """Rank the images once.

        Args:
            run: the areas.
            measure: whose values are (n, 2C): numbers, and whether each is there.
        """
        self._share = (measure.worst or 100) / 100
        columns: list[tuple[list[Floats], list[NDArray[np.int64]]]] = []
        for first, block in _counted(map(measure.values, run.blocks())):
            values, there = np.split(block, 2, axis=1)
            columns = columns or [([], []) for _ in range(values.shape[1])]
            for k, (found, images) in enumerate(columns):
                rows = np.flatnonzero(there[:, k])
                found.append(values[rows, k])
                images.append(rows + first)
        self._columns = []
        for found, images in columns:
            every, places = np.concatenate(found), np.concatenate(images)
            order = np.argsort(every, kind="stable")
            if len(order):
                self._columns.append((every[order], places[order]))
        self._own = [_worst(v, np.ones((1, len(v))), self._share) for v, _ in self._columns]

    def score(self, weights: Floats) -> Floats:
        """Of D draws (D, N), the mean over the columns; one that is not drawn keeps its own."""
        means = [_worst(v, weights[:, at], self._share) for v, at in self._columns]
        filled = [np.where(np.isnan(m), own, m) for m, own in zip(means, self._own, strict=True)]
        return mean_defined(np.stack(filled, axis=1)) if filled else np.full(len(weights), np.nan)


def _worst(values: Floats, weights: Floats, share: float) -> Floats:
    """The mean of the first values, of which each counts as often as its weight says: (D,).

    >>> _worst(np.array([1.0, 3.0, 8.0]), np.array([[1.0, 0.0, 3.0], [2.0, 1.0, 1.0]]), 0.5)
    array([4.5, 1. ])
    """
    total = weights.sum(axis=1)
    counted = np.maximum(1, np.floor(total * share + 1e-9))
    before = np.cumsum(weights, axis=1) - weights
    taken = np.clip(counted[:, None] - before, 0, weights)
    found = np.full(len(weights), np.nan)
    np.divide(taken @ values, counted, out=found, where=total > 0)
    return found
