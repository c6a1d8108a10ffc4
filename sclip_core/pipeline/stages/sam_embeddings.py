"""Stage ``sam_embeddings``: images to what SAM's encoder gives.

It runs only where ``keep_embeddings`` asks for it. Other thresholds of the generator then need no
encoder; the masks are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import ImageError
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.trunk import STORED
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table


class SamEmbeddings(NamedTuple):
    """What SAM's encoder gave of an image."""

    size: tuple[int, int]  # (H, W) of the image
    values: Tensor  # (crops, C, h, w)


class SamEmbeddingsStage(Stage):
    """One row an image: SAM's embedding of it, and of each of its crops."""

    name = "sam_embeddings"
    version = 1
    shardable = True
    sees_images = True

    def settings(self) -> dict[str, Any]:
        """The size of SAM, its dtype, and which crops it sees."""
        settings = self.run.settings
        layers = settings.crop_n_layers
        return {
            "sam_model": settings.sam_model,
            "dtype": self.run.models.dtype,
            "crop_n_layers": layers,
            "crop_overlap_ratio": settings.crop_overlap_ratio if layers else None,
        }

    def weights_sha256(self) -> str | None:
        """The digest of SAM's weights."""
        return self.run.models.masks_sha256

    @cached_property
    def table(self) -> ArrayTable:
        """(crops · C · h · w) an image."""
        return array_table(self.artifact, STORED[self.run.models.dtype], None, compress=False)

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Encode one image after the other, each with its crops."""
        generator = self.run.models.proposer(shard)
        for digest, image in self.loaded(self.run.inputs.image, ids):
            size = (image.shape[0], image.shape[1])
            try:
                parts = [generator.embed(image, crop) for crop in generator.crops(size)]
            except ImageError as error:
                self.leave_out(digest, error)
                continue
            found = torch.stack(parts).float().cpu() if parts else torch.zeros(0)
            meta = {"size": list(size), "shape": list(found.shape)}
            yield NewRow(digest, found.flatten().numpy(), meta)

    def read(self, row: Row) -> SamEmbeddings:
        """What was kept of an image."""
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        shape = row.meta.get("shape")
        if not isinstance(shape, list) or math.prod(shape) != values.numel():
            raise self.table.damaged(row)
        return SamEmbeddings(self.table.size_of(row), values.view(shape))
