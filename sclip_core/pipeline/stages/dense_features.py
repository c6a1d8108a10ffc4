"""Stage ``dense_features``: images to unit-length patch features of all their windows, in fp16.

Depends on the images and the model alone: never on words, labels or thresholds. Several policies
of attention share one pass through the tower; where its trunk was kept, only the last block runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.filling import Todo
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.encoding import EncodingStage, Loaded
from sclip_core.pipeline.stages.trunk import TrunkStage
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row


class DenseFeaturesStage(EncodingStage):
    """One row an image: its windows' patches, row by row."""

    name = "dense_features"
    version = 1

    def __init__(self, run: Run, trunk: TrunkStage) -> None:
        """Read what is kept of the trunk; the images where nothing is.

        It is no upstream stage: the features are the same either way.
        """
        super().__init__(run)
        self._trunk = trunk
        self._kept: dict[str, Row] = {}

    @property
    def reads(self) -> Sequence[Stage]:
        """The trunk, where it is kept."""
        return (self._trunk,)

    def settings(self) -> dict[str, Any]:
        """Those of the trunk, and the last block's; of a user's attention the code too."""
        last = {
            "embed_dim": self.run.spec.config["embed_dim"],
            "attention": str(self.run.attention),
        }
        code = self.run.attention.code
        if code is not None:
            last["attention_code"] = code
        return {**super().settings(), **last}

    @cached_property
    def table(self) -> ArrayTable:  # type: ignore[override]
        """(patches, D) fp16 an image."""
        return ArrayTable(self.artifact, "float16", self.run.spec.width, compress=False)

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """From the trunks that were kept, else from the images."""
        self._kept = self._trunk.rows()
        yield from super().compute(todo, shard)

    def load(self, model: CLIP, digest: str) -> Loaded:
        """What was kept of an image's trunk, or its windows."""
        kept = self.kept_of(self._trunk, digest, self._kept)
        return Loaded(digest, *kept) if kept else super().load(model, digest)

    def encode(self, model: CLIP, part: Loaded, stages: Sequence[Stage]) -> list[Tensor]:
        """All blocks, or the last alone; by each stage's policy."""
        attentions = [stage.run.attention for stage in stages]
        if part.windows.ndim == 3:
            grid = part.geometry.tokens
            features = model.encoder.features_from(part.windows, grid, attentions)
        else:
            features = model.encoder.features_of(part.windows, attentions)
        return [one.half() for one in features]

    def read(self, row: Row) -> tuple[Geometry, Tensor]:
        """Features of an image as the stitcher takes them.

        Returns:
            Where the windows lie, and (windows, rows, columns, D) float32 on the CPU.
        """
        geometry = self.geometry(self.table.size_of(row))
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        if len(values) != geometry.num_windows * math.prod(geometry.tokens):
            raise self.table.damaged(row)
        return geometry, values.view(geometry.num_windows, *geometry.tokens, -1)
