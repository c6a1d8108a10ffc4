"""Stage ``dense_features``: images to unit-length patch features of all their windows, in fp16.

Depends on the images and the model alone: never on words, labels or thresholds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.model import SCLIP, default_batch_size
from sclip_core.stages.prefetch import prefetch
from sclip_core.stages.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row

Loaded = tuple[str, Geometry, Tensor]  # digest, where the windows lie, their pixels


class DenseFeaturesStage(Stage):
    """One row an image: its windows' patches, window by window, row by row."""

    name = "dense_features"
    version = 1
    shardable = True

    def settings(self) -> dict[str, Any]:
        """Image tower, attention, resize, windows, dtype."""
        settings, spec = self.run.settings, self.run.spec
        whole = settings.slide_crop == 0
        return {
            "embed_dim": spec.config["embed_dim"],
            "vision_cfg": spec.config["vision_cfg"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "attention": str(self.run.attention),
            "dtype": self.run.dtype,
            "short_side": settings.short_side,
            "slide_crop": settings.slide_crop,
            "slide_stride": None if whole else settings.slide_stride,
        }

    def weights_sha256(self) -> str:
        """Of the CLIP."""
        return self.run.weights_sha256

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    @cached_property
    def table(self) -> ArrayTable:
        """(patches, D) fp16 an image."""
        return ArrayTable(self.artifact, "float16", self.run.spec.width, compress=False)

    def compute(self, ids: Sequence[str], shard: int) -> Iterator[list[NewRow]]:
        """Encode images, as many at a time as fill a forward pass with windows."""
        model = self.run.model(shard)
        group: list[Loaded] = []

        def load(digest: str) -> Loaded:
            return digest, *model.windows(self.run.image(digest), self.run.settings)

        for digest, loaded in prefetch(load, ids, self.run.settings.workers):
            if isinstance(loaded, ImageError):
                self.leave_out(digest, loaded)
                continue
            group.append(loaded)
            if sum(geometry.num_windows for _, geometry, _ in group) >= self._full(model, group):
                yield self._encode(model, group)
                group = []
        if group:
            yield self._encode(model, group)

    def _full(self, model: SCLIP, group: Sequence[Loaded]) -> int:
        """Windows that fill a forward pass."""
        shape = group[0][1].window
        given = self.run.settings.batch_size
        return given or default_batch_size(model.device, shape, model.spec.patch)

    def _encode(self, model: SCLIP, group: Sequence[Loaded]) -> list[NewRow]:
        """Rows of a group of images; windows of one size share forward passes."""
        by_size: dict[tuple[int, int], list[Loaded]] = defaultdict(list)
        for loaded in group:
            by_size[loaded[1].window].append(loaded)
        features: dict[str, NDArray[np.float16]] = {}
        for same in by_size.values():
            windows = torch.cat([windows for _, _, windows in same])
            encoded = model.window_features(windows, self.run.settings.batch_size).half().cpu()
            parts = encoded.split([geometry.num_windows for _, geometry, _ in same])
            for (digest, _, _), part in zip(same, parts, strict=True):
                features[digest] = part.flatten(0, 2).numpy()
        rows = []
        for digest, geometry, _ in group:
            if not np.isfinite(features[digest]).all():
                error = ImageError(
                    f"its features in {self.run.dtype} are not finite numbers: "
                    "try --dtype fp32, and check the weights"
                )
                self.leave_out(digest, error)
                continue
            rows.append(NewRow(digest, features[digest], {"size": list(geometry.original)}))
        return rows

    def read(self, row: Row) -> tuple[Geometry, Tensor]:
        """Features of an image as the stitcher takes them.

        Returns:
            Where the windows lie, and (windows, rows, columns, D) float32 on the CPU.
        """
        height, width = row.meta["size"]
        geometry = Geometry.of(height, width, self.run.settings, self.run.spec.patch)
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        return geometry, values.view(geometry.num_windows, *geometry.tokens, -1)
