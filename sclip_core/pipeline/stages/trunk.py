"""Stage ``trunk``: images to outputs of CLIP's blocks. Only where ``keep_trunk`` asks for it.

A table for each tap: what the last block gets, from which another attention costs that block
alone, 8 % of the tower; and what else the run's method reads of the tower. A method whose taps are
there needs no encoder. Its features are those from the image but for the rounding of other batches,
as taps are kept in the tower's own dtype. That makes them large: in fp32 three times the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import Geometry
from sclip_core.encoder.clip import CLIP
from sclip_core.encoder.taps import Tap
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.encoding import EncodingStage, Taps
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table

STORED = {"fp32": "float32", "fp16": "float16", "bf16": "float32"}  # NumPy has no bfloat16


class TrunkStage(EncodingStage):
    """One row an image: a tap of its windows' tokens, CLS first."""

    name = "trunk"
    version = 1

    def __init__(self, run: Run, tap: Tap | None = None) -> None:
        """Keep one tap.

        Args:
            run: what all stages share.
            tap: which; None: what the last block gets.
        """
        super().__init__(run)
        self._tap = tap

    @property
    def part(self) -> str:
        """The tap, where it is not what the last block gets."""
        return str(self._tap or "")

    @property
    def tap(self) -> Tap:
        """Of which the rows are."""
        return self._tap or Tap.of(layers_of(self.run) - 1)

    @property
    def needed(self) -> tuple[Tap, ...]:
        """The tap alone."""
        return (self.tap,)

    def settings(self) -> dict[str, Any]:
        """Those of the tower; the tap, where it is not what the last block gets."""
        return {**super().settings(), **({"tap": self.part} if self.part else {})}

    @cached_property
    def table(self) -> ArrayTable:  # type: ignore[override]
        """(tokens, width) an image."""
        models = self.run.models
        width = models.spec.tower.width
        return array_table(self.artifact, STORED[models.dtype], width, compress=False)

    def of_pass(
        self, clip: CLIP, taps: Taps, grid: tuple[int, int], stages: Sequence[Stage]
    ) -> dict[Stage, Tensor]:
        """Each stage's tap, window by window."""
        kept: dict[Stage, Tensor] = {}
        for stage in stages:
            assert isinstance(stage, TrunkStage)
            value = taps[stage.tap]
            kept[stage] = value.float() if value.dtype == torch.bfloat16 else value
        return kept

    def read(self, row: Row) -> tuple[Geometry, Tensor]:
        """A tap of an image.

        Returns:
            Where the windows lie, and (views·windows, 1+N, width) on the CPU.
        """
        geometry = self.geometry(self.table.size_of(row))
        values = torch.from_numpy(self.table.read(row))
        windows = geometry.num_windows * len(self.views)
        if len(values) != windows * (
            self.run.models.spec.tower.prefix + math.prod(geometry.tokens)
        ):
            raise self.table.damaged(row)
        return geometry, values.unflatten(0, (windows, -1))


def layers_of(run: Run) -> int:
    """Blocks of the run's image tower."""
    return run.models.spec.tower.layers
