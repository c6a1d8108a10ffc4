"""Numbers beside mIoU of runs that are stored, with intervals: computed from their areas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sclip_core.config import UserError, unknown
from sclip_core.config.places import Place
from sclip_core.datasets.grouping import grouping
from sclip_core.evaluation.bootstrap import RESAMPLES, interval
from sclip_core.evaluation.measures import MEASURES, SIZES, Measure, group_measures
from sclip_core.evaluation.resampling import resample
from sclip_core.evaluation.sparse import SparseAreas
from sclip_core.results.area_rows import area_rows, size_rows
from sclip_core.results.files import ARTIFACTS
from sclip_core.results.on_demand import has_table
from sclip_core.results.tables import Named, Paired, find_run, paired, runs

Draws = dict[str, NDArray[np.float64]]  # of each number (runs, 1 + draws) percent
STAGE_OF = {"boundary_areas": "boundary", "size_areas": "object_sizes"}  # and its setting
OF_AREAS = tuple(name for name, each in MEASURES.items() if each.kind == "image_areas")
FEWEST = 5  # images; with fewer no interval is given
SCHEMA = pa.schema(
    {
        "run_id": pa.string(),
        "score": pa.string(),
        "name": pa.string(),  # as it is written
        "images": pa.int64(),
        "value": pa.float64(),  # percent
        "low": pa.float64(),
        "high": pa.float64(),
    }
)


def measures_of(
    scores: str | Iterable[str],
    groups: str | Path | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, Measure]:
    """The measures that are asked for, in that order; groups come last.

    Args:
        scores: names of ``MEASURES``, or one text with commas between them.
        groups: as ``grouping`` takes them; None: none.
        class_names: that are grouped.

    Raises:
        UserError: no such score, or groups that cannot be read.
    """
    names = scores.split(",") if isinstance(scores, str) else list(scores)
    labels = {_plain(each.label): name for name, each in MEASURES.items()}
    found: dict[str, Measure] = {}
    for given in names:
        name = labels.get(_plain(given), _plain(given))
        if name not in MEASURES:
            raise unknown("score", given.strip(), MEASURES)
        found[name] = MEASURES[name]
    if groups is not None:
        found |= group_measures(grouping(groups, class_names).groups, len(class_names))
    return found


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def score_label(name: str) -> str:
    """How a score is written: ``fwIoU``; of a group ``mIoU things``."""
    if name in MEASURES:
        return MEASURES[name].label
    return f"mIoU {name.partition(':')[2]}"


def drawn_measures(
    pairs: Paired,
    measures: Mapping[str, Measure],
    artifacts: Place | str = ARTIFACTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """Numbers of runs and of draws from their images, the same draws for all.

    Raises:
        UserError: a run has no boundaries or no sizes of objects.
    """
    found: Draws = {}
    for kind in dict.fromkeys(each.kind for each in measures.values()):
        of_kind = {name: each for name, each in measures.items() if each.kind == kind}
        found |= resample(_areas(pairs, kind, artifacts), of_kind, resamples, seed)
    return {name: found[name] for name in measures}


def _areas(pairs: Paired, kind: str, artifacts: Place | str) -> Sequence[SparseAreas]:
    """The areas of one table, of the images that the runs share."""
    if kind == "image_areas":
        return pairs.sparse
    classes = len(pairs.class_names)
    found = []
    for run_id in pairs.run_ids:
        if not has_table(artifacts, kind, run_id):
            flag = STAGE_OF[kind].replace("_", "-")
            raise UserError(
                f"{run_id} has no {kind}: run it again with --{flag}, which computes only these"
            )
        if kind == "size_areas":
            rows, columns = size_rows(artifacts, run_id, classes), len(SIZES) * classes
        else:
            rows, columns = area_rows(artifacts, run_id, kind), classes
        found.append(rows.of(pairs.ids, columns))
    return found


def scores(
    named: Named = None,
    names: str | Iterable[str] = OF_AREAS,
    groups: str | Path | None = None,
    artifacts: Place | str = ARTIFACTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pa.Table:
    """Numbers of runs with 95 % intervals by bootstrap over their images (docs/metrics.md).

    Args:
        named: one run or several, as ``find_run`` takes them; None: all runs.
        names: which numbers: ``miou``, ``fwiou``, ``miou_i``, ``biou``, ...
        groups: mIoU of groups of classes too: the name of a benchmark, or a file of lines
            ``class,group``.
        artifacts: the folder of all artifacts.
        resamples: how often the images are drawn; 0: no intervals.
        seed: of the draws.

    Returns:
        A row for each run and number, in percent; null where undefined, intervals also where
        there are fewer than five images.

    Raises:
        UserError: no such run or score, or a run lacks what a score is computed from.
    """
    if named is None:
        chosen: list[str] = runs(artifacts)["run_id"].to_pylist()
    else:
        chosen = [find_run(n, artifacts) for n in ([named] if isinstance(named, str) else named)]
    rows = []
    names = names if isinstance(names, str) else list(names)
    for run_id in chosen:
        pairs = paired([run_id], artifacts)
        measures = measures_of(names, groups, pairs.class_names)
        drawn = drawn_measures(pairs, measures, artifacts, resamples, seed)
        for name, values in drawn.items():
            found = interval(values[0])
            found = found if len(pairs) >= FEWEST else found.alone()
            numbers = {k: None if v != v else v for k, v in found._asdict().items()}
            about = {"run_id": run_id, "score": name, "name": measures[name].label}
            rows.append({**about, "images": len(pairs), **numbers})
    return pa.Table.from_pylist(rows, SCHEMA)
