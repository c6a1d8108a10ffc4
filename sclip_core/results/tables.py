"""The tables of results, read by the names that users give to runs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.config.places import Place
from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.sparse import SparseAreas
from sclip_core.results.area_rows import area_rows
from sclip_core.results.derived import OF_IMAGES, OF_RUNS, run_scores, with_columns
from sclip_core.results.files import (
    ARTIFACTS,
    ResultsError,
    ResultsWarning,
    read_table,
    root_of,
    some_run_ids,
)

LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")
Named = str | Sequence[str] | None


def runs(artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``runs``, newest first: a row a run, with scores in percent and every setting.

    Runs that were stored without some of the scores have them here, of their areas. Files that
    cannot be read are left out with a ``ResultsWarning``.

    Raises:
        UserError: no file can be read.
    """
    root = root_of(artifacts)
    return with_scores(root, _newest_first(root))


def _newest_first(root: Place) -> pa.Table:
    """The table ``runs`` as it is stored."""
    found = read_table(root, "runs")
    return found.sort_by([("created_at", "descending")]) if found.num_rows else found


def with_scores(root: Place, found: pa.Table) -> pa.Table:
    """The table ``runs``, with the scores that runs of older versions lack computed.

    They are null, with a ``ResultsWarning``, where a run's other tables cannot be read.
    """
    if not found.num_rows:
        return found
    known = found["fwiou"].to_pylist() if "fwiou" in found.column_names else [None] * len(found)
    ids = found["run_id"].to_pylist()
    lacking = [run_id for run_id, value in zip(ids, known, strict=True) if value is None]
    return with_columns(found, {run_id: _scores_of(root, run_id) for run_id in lacking})


def _scores_of(root: Place, run_id: str) -> dict[str, float]:
    """Scores of a run, of its other tables; NaN, with a warning, where these cannot be read."""
    found = dict.fromkeys((*OF_RUNS, *OF_IMAGES), float("nan"))
    try:
        classes = read_table(root, "class_iou", [run_id])
        found |= run_scores(classes)
        rows = area_rows(root, run_id)
        areas = rows.of(rows.ids, len(classes))
    except ResultsError as error:
        warnings.warn(error.warning, stacklevel=3)
        return found
    except UserError as error:
        warnings.warn(ResultsWarning(str(error)), stacklevel=3)
        return found
    return found | dict(zip(OF_IMAGES, areas.fine_grained(), strict=True))


def class_iou(named: Named = None, artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``class_iou``: a row for each run and class; areas in pixels, IoU in percent.

    Args:
        named: one run or several, as ``find_run`` takes them; None: all runs, without those whose
            files cannot be read (a ``ResultsWarning`` each).
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such run, or a file that cannot be read.
    """
    return _table("class_iou", named, artifacts)


def image_areas(named: Named = None, artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``image_areas``: pixels of each class in each image; see ``class_iou``."""
    return _table("image_areas", named, artifacts)


def confusion(named: Named = None, artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``confusion``: pixels for each pair of label and prediction; see ``class_iou``.

    Runs that were made before this table existed have no rows.
    """
    return _table("confusion", named, artifacts)


def find_run(name: str, artifacts: Place | str = ARTIFACTS) -> str:
    """The id of a run.

    Args:
        name: the id; a prefix of the id or of its last part that fits one run only; ``latest``, or
            ``latest~2`` for the second before it (of the runs whose files can be read).
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no run fits the name, or several do.
    """
    root = root_of(artifacts)
    ids = some_run_ids(root)
    if match := LATEST.fullmatch(name):
        back = int(match[1] or 0)
        newest: list[str] = _newest_first(root)["run_id"].to_pylist()
        if back >= len(newest):
            raise UserError(
                f"{name}: there are {len(newest)} runs, the oldest is latest~{len(newest) - 1}"
            )
        return newest[back]
    if name in ids:
        return name
    found = [
        i for i in ids if name and (i.startswith(name) or i.rpartition("-")[2].startswith(name))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{len(found)} runs match {name}: {', '.join(found[:6])}: write more of the id"
        )
    raise UserError(
        f"no run {shown(name)}: expected latest, latest~1, or an id as `sclip results` lists them"
    )


@dataclass(frozen=True, eq=False)
class Paired:
    """The areas of the same images in several runs."""

    run_ids: tuple[str, ...]
    ids: pa.StringArray  # N, of the images
    class_names: tuple[str, ...]  # C
    sparse: tuple[SparseAreas, ...]  # of each run, (N, C)
    left_out: int  # images that only some of the runs have
    other_truth: int  # images left out because their ground truth differs

    def __len__(self) -> int:
        """The number of images."""
        return len(self.ids)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The ids of the images, sorted."""
        return tuple(self.ids.to_pylist())

    @cached_property
    def areas(self) -> tuple[Areas, ...]:
        """The areas of each run as whole arrays (N, C): 4 GB for a million images, 171 classes."""
        return tuple(each.dense() for each in self.sparse)


def paired(named: Sequence[str], artifacts: Place | str = ARTIFACTS) -> Paired:
    """The areas of the images that all given runs share, to be compared image by image.

    Args:
        named: the runs, as ``find_run`` takes them.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such run, or runs without common classes or images.
    """
    root = root_of(artifacts)
    ids = tuple(find_run(name, root) for name in named)
    names = [tuple(class_iou(i, root).sort_by("class_id")["class_name"].to_pylist()) for i in ids]
    for run_id, other in zip(ids, names, strict=True):
        if other != names[0]:
            raise UserError(
                f"{ids[0]} and {run_id} have different classes ({_listed(names[0])}; "
                f"{_listed(other)}): only runs over the same classes can be compared"
            )
    read = [area_rows(root, i) for i in ids]
    common, everything = read[0].ids, read[0].ids
    for rows in read[1:]:
        common = common.filter(pc.is_in(common, value_set=rows.ids))
        everything = pc.unique(pa.concat_arrays([everything, rows.ids]))
    common = common.take(pc.sort_indices(common))  # as Python sorts text: by code points
    areas = [read.pop(0).of(common, len(names[0])) for _ in ids]
    same = np.ones(len(common), bool)
    for each in areas[1:]:
        same &= areas[0].same_label(each)
    if not same.any():
        why = "a different ground truth for every image" if len(common) else "no image in common"
        raise UserError(f"{' and '.join(ids)} have {why}: nothing can be compared")
    return Paired(
        run_ids=ids,
        ids=common if same.all() else common.filter(pa.array(same)),
        class_names=names[0],
        sparse=tuple(each if same.all() else each.only(same) for each in areas),
        left_out=len(everything) - len(common),
        other_truth=len(common) - int(same.sum()),
    )


def _table(table: str, named: Named, artifacts: Place | str) -> pa.Table:
    """A table of the named runs, or of all."""
    root = root_of(artifacts)
    if named is not None:
        named = [find_run(name, root) for name in ([named] if isinstance(named, str) else named)]
    return read_table(root, table, named)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "")
