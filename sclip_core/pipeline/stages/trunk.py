"""Stage ``trunk``: images to what CLIP's last block gets. Only where ``keep_trunk`` asks for it.

Another attention is another last block. From here its features cost that block alone, 8 % of the
tower; they are those from the image but for the rounding of other batches, as the trunk is kept in
the tower's own dtype. That makes it large: in fp32 three times the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sclip_core.config import Geometry
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.encoding import EncodingStage, Windows
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.ledger import Row

STORED = {"fp32": "float32", "fp16": "float16", "bf16": "float32"}  # NumPy has no bfloat16


class TrunkStage(EncodingStage):
    """One row an image: its windows' tokens, CLS first."""

    name = "trunk"
    version = 1

    @cached_property
    def table(self) -> ArrayTable:  # type: ignore[override]
        """(tokens, width) an image."""
        models = self.run.models
        width = int(models.spec.config["vision_cfg"].get("width", 768))  # open_clip's default
        return ArrayTable(self.artifact, STORED[models.dtype], width, compress=False)

    def encode(self, clip: CLIP, part: Windows, stages: Sequence[Stage]) -> list[Tensor]:
        """Run all blocks of the tower but the last."""
        trunk = clip.encoder.trunk(part.values)
        return [trunk.float() if trunk.dtype == torch.bfloat16 else trunk for _ in stages]

    def read(self, row: Row) -> tuple[Geometry, Tensor]:
        """What the last block gets of an image.

        Returns:
            Where the windows lie, and (windows, 1+N, width) on the CPU.
        """
        geometry = self.geometry(self.table.size_of(row))
        values = torch.from_numpy(self.table.read(row))
        if len(values) != geometry.num_windows * (1 + math.prod(geometry.tokens)):
            raise self.table.damaged(row)
        return geometry, values.unflatten(0, (geometry.num_windows, -1))
