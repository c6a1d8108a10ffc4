"""Differences between runs, with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.evaluation.bootstrap import (
    EXACT,
    RESAMPLES,
    Interval,
    Resampled,
    bootstrap,
    drawn_groups,
    interval,
)
from sclip_core.results.files import ARTIFACTS
from sclip_core.results.measured import FEWEST as FEWEST  # others have it from here
from sclip_core.results.measured import Draws, drawn_measures, measures_of
from sclip_core.results.tables import Paired, paired

SCORES = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}  # columns of ``runs``, as written
FEW = 30  # images; with fewer an interval says little
SCHEMA = pa.schema(
    {
        "run_id": pa.string(),
        "score": pa.string(),  # of a dataset: miou, ..., miou:GROUP; or iou, which is of one class
        "class_id": pa.int32(),
        "class_name": pa.string(),
        "images": pa.int64(),  # that have the class; for the other scores all images compared
        "base": pa.float64(),  # percent, of the base run
        "value": pa.float64(),  # percent
        "difference": pa.float64(),  # percentage points
        "low": pa.float64(),  # of the difference's interval
        "high": pa.float64(),
    }
)


def compare(
    base: str,
    *others: str,
    artifacts: Place | str = ARTIFACTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    scores: str | Iterable[str] = tuple(SCORES),
    groups: str | Path | None = None,
) -> pa.Table:
    """Differences from a base run, with 95 % intervals by paired bootstrap over images.

    Args:
        base: the run that the others are compared with, as ``find_run`` takes it.
        *others: one or more runs over the same classes.
        artifacts: the folder of all artifacts.
        resamples: how often the images are drawn.
        seed: of the draws.
        scores: of datasets, by name, as ``sclip_core.results.scores`` takes them.
        groups: of classes, whose mIoU follows those scores, as it takes them.

    Returns:
        For each other run a row of each score (``miou``, ``macc``, ``aacc``), then one for each
        class (``iou``), those with the largest difference first. Values in percent, differences in
        percentage points; null where neither run has the class, intervals also where fewer than
        five images have it. Only images that all runs share are counted.

    Raises:
        UserError: no such run, fewer than two, or runs that cannot be compared.
    """
    pairs = paired_runs(base, *others, artifacts=artifacts)
    measures = measures_of(scores, groups, pairs.class_names)
    drawn = drawn_measures(pairs, measures, artifacts, resamples, seed)
    return compare_paired(pairs, resamples, seed, drawn)


def paired_runs(base: str, *others: str, artifacts: Place | str = ARTIFACTS) -> Paired:
    """The common images of two or more different runs.

    Raises:
        UserError: no such run, fewer than two, or runs that cannot be compared.
    """
    pairs = paired([base, *others], artifacts)
    twice = {run_id for run_id in pairs.run_ids if pairs.run_ids.count(run_id) > 1}
    if len(pairs.run_ids) < 2 or twice:
        found = f"{min(twice)} twice" if twice else f"{pairs.run_ids[0]} alone"
        raise UserError(f"{found}: a comparison needs two or more different runs")
    return pairs


def few_images(count: int) -> str | None:
    """A warning where intervals of so few images say little."""
    if count >= FEW:
        return None
    return f"{count} image{'s' if count > 1 else ''}: intervals of so few say little"


def groups_note(count: int) -> str | None:
    """A line where intervals are by groups of images, as there are very many."""
    groups = drawn_groups(count)
    if groups is None:
        return None
    return (
        f"intervals by {groups:,} groups of images that chance has put together, as there are "
        f"more than {EXACT:,}"
    )


def sure(each: Interval, images: int) -> Interval:
    """A value with its interval, or without where that would be of too few images."""
    return each if images >= FEWEST else each.alone()


def compare_paired(
    pairs: Paired, resamples: int = RESAMPLES, seed: int = 0, scores: Draws | None = None
) -> pa.Table:
    """The table of ``compare`` for images that were paired before.

    Args:
        pairs: the runs.
        resamples: how often the images are drawn.
        seed: of the draws.
        scores: of datasets, by ``drawn_measures`` with the same draws; None: mIoU, mAcc, aAcc.
    """
    drawn = bootstrap(pairs.sparse, resamples, seed, by_class=True)
    scores = {name: getattr(drawn, name) for name in SCORES} if scores is None else scores
    others = range(1, len(pairs.run_ids))
    rows = [row for run in others for row in _rows(pairs, drawn, run, scores)]
    return pa.Table.from_pylist(rows, SCHEMA)


def _rows(pairs: Paired, drawn: Resampled, run: int, scores: Draws) -> list[dict[str, object]]:
    """The rows of one of the other runs."""
    count = len(pairs)
    rows = [
        _row(pairs, run, score, interval(of[0]), interval(of[run]), gain, images=count)
        for score, of in scores.items()
        for gain in [interval(of[run] - of[0])]
    ]
    before, after = drawn.class_ious(0), drawn.class_ious(run)
    gains = drawn.class_differences(run)
    images = pairs.sparse[0].images_with_label().tolist()
    order = np.argsort([-abs(gain.value) for gain in gains], kind="stable")  # NaN: at the end
    for i in order.tolist():
        row = _row(pairs, run, "iou", before[i], after[i], gains[i], images[i])
        rows.append({**row, "class_id": i, "class_name": pairs.class_names[i]})
    return rows


def _row(
    pairs: Paired,
    run: int,
    score: str,
    base: Interval,
    value: Interval,
    gain: Interval,
    images: int,
) -> dict[str, object]:
    """One row, with null for what is undefined."""
    difference, low, high = sure(gain, images)
    numbers = {
        "base": base.value,
        "value": value.value,
        "difference": difference,
        "low": low,
        "high": high,
    }
    known = {name: None if np.isnan(number) else number for name, number in numbers.items()}
    return {"run_id": pairs.run_ids[run], "score": score, "images": images, **known}
