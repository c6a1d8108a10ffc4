"""Stages ``boundary`` and ``object_sizes``: more of label maps against ground truth, if asked for.

Each is read from the label maps that ``metrics`` scores, and becomes a table of the run's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.boundary import RATIO, boundary_areas
from sclip_core.evaluation.measures import SIZES
from sclip_core.evaluation.sizes import RANGES, SizeAreas, size_areas
from sclip_core.pipeline.stages.label_maps import LabelMap
from sclip_core.pipeline.stages.metrics import AT_ONCE, MetricsStage
from sclip_core.store.arrays import DamagedRow


class DetailStage(MetricsStage):
    """One row an image and its ground truth, as in ``metrics``."""

    version = 1
    table_name: ClassVar[str]  # in the results

    def named(self, column: str, values: NDArray[np.int64]) -> pa.Array:
        """A column (R,) of the table in the results; class numbers have 32 bits."""
        return pa.array(values, pa.int32() if column == "class_id" else pa.int64())

    def tables(self, run_id: str, image_ids: Sequence[str]) -> Iterator[pa.Table]:
        """The table of the results in parts, some thousand images each.

        Args:
            run_id: of the run.
            image_ids: those that were scored.

        Raises:
            UserError: an image has no row: run again.
        """
        wanted, samples = set(image_ids), self.run.inputs.samples
        pairs = zip(samples, self.row_ids, strict=True)
        rows_of = [(s.image_id, row_id) for s, row_id in pairs if s.image_id in wanted]
        yield self._table(run_id, [], [])  # its columns, also where no image has a row
        for first in range(0, len(rows_of), AT_ONCE):
            some = rows_of[first : first + AT_ONCE]
            values = self._read([row_id for _, row_id in some])
            yield self._table(run_id, [image_id for image_id, _ in some], values)

    def _read(self, row_ids: Sequence[str]) -> list[NDArray[np.int64]]:
        """The rows of some images; damaged ones are computed again."""
        rows = self.rows()
        try:
            return self.table.read_many(self.row(row_id, rows) for row_id in row_ids)
        except DamagedRow as error:
            self.mending.mend([error])
            return self._read(row_ids)

    def _table(
        self, run_id: str, image_ids: Sequence[str], values: Sequence[NDArray[np.int64]]
    ) -> pa.Table:
        counts = [len(each) for each in values]
        columns = np.concatenate([*values, np.zeros((0, len(self.columns)), np.int64)]).T
        names = pa.array(image_ids, pa.string())
        return pa.table(
            {
                "run_id": pa.repeat(run_id, sum(counts)),
                "image_id": names.take(pa.array(np.repeat(np.arange(len(counts)), counts))),
                **{
                    name: self.named(name, column)
                    for name, column in zip(self.columns, columns, strict=True)
                },
            }
        )


class BoundaryStage(DetailStage):
    """Areas near the boundaries of masks, for each class that has one."""

    name = "boundary"
    table_name = "boundary_areas"
    columns = ("class_id", *Areas._fields)

    def settings(self) -> dict[str, Any]:
        """How ground truth is read, and how wide a boundary is."""
        return {**super().settings(), "dilation_ratio": RATIO}

    def measure(
        self,
        prediction: LabelMap,
        truth: NDArray[np.int32],
        num_classes: int,
        unlabelled: int | None,
    ) -> NDArray[np.int64]:
        """A row for each class with a boundary in the ground truth or the prediction."""
        areas = boundary_areas(prediction, truth, num_classes, unlabelled)
        there = np.flatnonzero(areas.prediction + areas.label)
        return np.stack([there, *(area[there] for area in areas)], axis=1)


class ObjectSizesStage(DetailStage):
    """Pixels of small, medium and large objects, for each class that has them."""

    name = "object_sizes"
    table_name = "size_areas"
    columns = SizeAreas._fields

    def settings(self) -> dict[str, Any]:
        """How ground truth is read, and which sizes there are."""
        return {**super().settings(), "ranges": list(RANGES)}

    def measure(
        self,
        prediction: LabelMap,
        truth: NDArray[np.int32],
        num_classes: int,
        unlabelled: int | None,
    ) -> NDArray[np.int64]:
        """A row for each class and size."""
        return np.stack(size_areas(prediction, truth, num_classes, unlabelled), axis=1)

    def named(self, column: str, values: NDArray[np.int64]) -> pa.Array:
        """As of any details, sizes by name."""
        if column == "size":
            return pa.array(SIZES).take(pa.array(values))
        return super().named(column, values)
