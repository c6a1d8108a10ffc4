"""What the stages have in common that give label maps: how these are stored, and what decides."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.pipeline.stage import Stage
from sclip_core.results.past_run import label_map_dtype
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table

LabelMap = NDArray[np.unsignedinteger[Any]]  # (H, W)


class LabelMapStage(Stage):
    """One row an image: its label map at the original size."""

    shardable = True
    batch_rows = 8

    @property
    def spare(self) -> bool:
        """Whether the highest value is kept for pixels without a label."""
        return False

    @property
    def unlabelled(self) -> int | None:
        """The value of pixels without a label; None: every pixel has one."""
        return None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the label maps: uint8, or uint16 for many classes."""
        return np.dtype(label_map_dtype(self.run.inputs.dataset.vocabulary.num_classes, self.spare))

    @cached_property
    def table(self) -> ArrayTable:
        """The pixels of an image, row by row."""
        return array_table(self.artifact, self.dtype.name, None, compress=True)

    def decision(self) -> dict[str, Any]:
        """Scale, thresholds, and which word belongs to which class."""
        settings = self.run.settings
        return {
            "logit_scale": settings.logit_scale,
            "prob_thd": settings.prob_thd,
            "area_thd": settings.area_thd,
            "query_class": list(self.run.inputs.dataset.vocabulary.query_class),
        }

    def read(self, row: Row) -> LabelMap:
        """The label map of an image."""
        return self.table.read_map(row)


def label_row(digest: str, labels: LabelMap) -> NewRow:
    """A label map as it is stored."""
    return NewRow(digest, labels.reshape(-1), {"size": list(labels.shape)})
