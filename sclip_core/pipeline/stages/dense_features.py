"""Stage ``dense_features``: images to unit-length patch features of all their windows, in fp16.

Depends on the images and the model alone: never on words, labels or thresholds. Several policies
of attention share one pass through the tower; where its trunk was kept, only the last block runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.encoding import EncodingStage, Windows
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.ledger import Row


class DenseFeaturesStage(EncodingStage):
    """One row an image: its windows' patches, row by row; from the trunk where it was kept."""

    name = "dense_features"
    version = 1

    def settings(self) -> dict[str, Any]:
        """Those of the trunk, and the last block's; of a user's attention the code too."""
        last = {
            "embed_dim": self.run.models.spec.config["embed_dim"],
            "attention": str(self.run.attention),
        }
        code = self.run.attention.code
        if code is not None:
            last["attention_code"] = code
        return {**super().settings(), **last}

    @cached_property
    def table(self) -> ArrayTable:  # type: ignore[override]
        """(patches, D) fp16 an image."""
        return ArrayTable(self.artifact, "float16", self.run.models.spec.width, compress=False)

    def loader(self, clip: CLIP) -> Callable[[str], Windows]:
        """Reads what was kept of an image's trunk, or its windows."""
        trunks = self.kept.rows() if self.kept else {}
        cut = super().loader(clip)

        def load(digest: str) -> Windows:
            kept = self.kept_of(digest, trunks)
            return Windows(digest, *kept) if kept else cut(digest)

        return load

    def encode(self, clip: CLIP, part: Windows, stages: Sequence[Stage]) -> list[Tensor]:
        """All blocks, or the last alone; by each stage's policy."""
        attentions = [stage.run.attention for stage in stages]
        if part.values.ndim == 3:
            grid = part.geometry.tokens
            features = clip.encoder.features_from(part.values, grid, attentions)
        else:
            features = clip.encoder.features_of(part.values, attentions)
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
