"""Tables of areas by image as arrays: some ten million rows of a million images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.measures import SIZES
from sclip_core.evaluation.sparse import Integers, SparseAreas, in_order, narrow
from sclip_core.results.files import (
    ADVICE,
    ResultsError,
    opened_file,
    path_of,
    refuse_unreadable,
    root_of,
)

ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class AreaRows:
    """The rows of ``image_areas``, or of a table like it, of one run."""

    run_id: str
    ids: pa.StringArray  # of the images, each once
    image: Integers  # (M,) places in ``ids``
    class_id: Integers  # (M,)
    areas: Areas  # each (M,) pixels

    def of(self, ids: pa.StringArray, num_classes: int) -> SparseAreas:
        """The areas of some images, in their order.

        Raises:
            UserError: a row names a class that there is not.
        """
        classes = self.class_id
        if len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
            raise UserError(
                f"image areas of {self.run_id} name a class outside 0..{num_classes - 1}: "
                "the file is damaged; --force results writes it again"
            )
        places = pc.fill_null(pc.index_in(self.ids, value_set=ids), -1).to_numpy()
        image = places[self.image]
        columns: list[Integers] = [image, classes, *self.areas]
        if (places < 0).any():
            columns = [column[image >= 0] for column in columns]
        columns = in_order(columns[0], columns[1], num_classes, columns)
        return SparseAreas((len(ids), num_classes), *columns)


def area_rows(root: Place | str, run_id: str, table: str = "image_areas") -> AreaRows:
    """Read the rows of a run, a part at a time.

    Args:
        root: the folder of all artifacts.
        run_id: of the run.
        table: ``image_areas`` or ``boundary_areas``.

    Raises:
        ResultsError: the file is missing, damaged, no such table, or of a later version.
    """
    path = path_of(root_of(root), table, run_id)
    file = opened_file(path, table, coded=["image_id"])
    with refuse_unreadable(path):
        ids, image = _images(file)
        count = file.metadata.num_rows
        class_id = np.empty(count, np.int32)
        areas = [_column(file, name, count) for name in Areas._fields]
        _fill(file, "class_id", class_id)
    return AreaRows(run_id, ids, image, class_id, Areas(*areas))  # type: ignore[arg-type]


def size_rows(root: Place | str, run_id: str, classes: int) -> AreaRows:
    """The rows of ``size_areas``; class k of C has the number ``size * C + k``.

    Nothing is predicted to have a size: the areas of predictions are 0.

    Raises:
        ResultsError: as of ``area_rows``, or a size that there is not.
    """
    path = path_of(root_of(root), "size_areas", run_id)
    file = opened_file(path, "size_areas", coded=["image_id", "size"])
    with refuse_unreadable(path):
        ids, image = _images(file)
        names, coded = _coded(file.read(columns=["size"])["size"].unify_dictionaries())
        count = file.metadata.num_rows
        class_id = np.empty(count, np.int32)
        _fill(file, "class_id", class_id)
        right, label = (_column(file, name, count) for name in ("intersect", "label"))
    number = {name: k for k, name in enumerate(SIZES)}
    if not set(names.to_pylist()) <= set(number):
        raise ResultsError(f"{path} has a size other than {', '.join(SIZES)}", ADVICE)
    size = np.array([number[name] for name in names.to_pylist()], np.int32)[coded]
    areas = Areas(right, np.zeros_like(label), label)  # type: ignore[arg-type]
    return AreaRows(run_id, ids, image, size * classes + class_id, areas)


def _images(file: pq.ParquetFile) -> tuple[pa.StringArray, Integers]:
    """The images of a file, each once, and for every row which one it is of."""
    return _coded(file.read(columns=["image_id"])["image_id"].unify_dictionaries())


def _coded(column: pa.ChunkedArray) -> tuple[pa.StringArray, Integers]:
    """The values of a column, each once, and for every row which one it is."""
    if not column.num_chunks:
        return pa.array([], pa.string()), np.zeros(0, np.int32)
    values = column.chunk(0).dictionary
    parts = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return values.cast(pa.string()), np.concatenate(parts).astype(np.int32, copy=False)


def _column(file: pq.ParquetFile, name: str, count: int) -> Integers:
    values = np.empty(count, np.int64)
    _fill(file, name, values)
    return narrow(values)


def _fill(file: pq.ParquetFile, name: str, into: Integers) -> None:
    """Read a column of whole numbers."""
    at = 0
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name]):
        into[at : at + len(batch)] = batch.column(0).to_numpy(zero_copy_only=False)
        at += len(batch)
