"""Columns that follow from others: runs that were stored without them have them on reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.scores import dice_scores, mean_defined, percent, weighted

OF_CLASSES = ("precision", "dice")  # columns of ``class_iou``
OF_RUNS = ("fwiou", "mprec", "mdice")  # columns of ``runs`` that follow from ``class_iou``
OF_IMAGES = ("miou_i", "miou_c")  # columns of ``runs`` that follow from ``image_areas``
AREAS = Areas._fields


def with_class_scores(table: pa.Table) -> pa.Table:
    """The table ``class_iou`` with precision and Dice score in percent, from its areas."""
    if not {*AREAS} <= {*table.column_names}:
        return table
    areas = Areas(*(_numbers(table[name]) for name in AREAS))
    found = percent(areas.intersect, areas.prediction), dice_scores(areas)
    for name, values in zip(OF_CLASSES, found, strict=True):
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
    return table


def run_scores(classes: pa.Table) -> dict[str, float]:
    """Those of `OF_RUNS` of one run, of its rows of ``class_iou``; none where these lack areas."""
    if not {*AREAS} <= {*classes.column_names}:
        return {}
    areas = Areas(*(_numbers(classes[name]) for name in AREAS))
    found = (
        weighted(percent(areas.intersect, areas.union), areas.label),
        mean_defined(percent(areas.intersect, areas.prediction)),
        mean_defined(dice_scores(areas)),
    )
    return {name: float(value) for name, value in zip(OF_RUNS, found, strict=True)}


def with_columns(table: pa.Table, by_run: dict[str, dict[str, float]]) -> pa.Table:
    """The table ``runs`` with numbers where it has none.

    Args:
        table: rows of runs.
        by_run: of each run that lacks some, numbers by column; NaN is null.
    """
    for name in dict.fromkeys(name for numbers in by_run.values() for name in numbers):
        ids = table["run_id"].to_pylist()
        new = pa.array([by_run.get(i, {}).get(name) for i in ids], pa.float64(), from_pandas=True)
        if name not in table.column_names:
            table = table.append_column(name, new)
            continue
        place = table.column_names.index(name)
        known = table[name].cast(pa.float64())
        table = table.set_column(place, name, pc.coalesce(known, new))
    return table


def _numbers(column: Any) -> NDArray[np.int64]:
    """A column of areas; 0 where it is null."""
    found: NDArray[np.int64] = pc.fill_null(column, 0).to_numpy().astype(np.int64)
    return found
