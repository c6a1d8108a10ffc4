"""Stage ``refine``: features and words to label maps, through stitching, PAMR and decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import resized_pixels
from sclip_core.pipeline.filling import Todo
from sclip_core.pipeline.prefetch import prefetch
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.segmentation import Refiner
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row


class Loaded(NamedTuple):
    """What refining an image starts from."""

    geometry: Geometry
    features: Tensor
    pixels: Callable[[], Tensor] | None


class RefineStage(Stage):
    """One row an image: its label map at the original size."""

    name = "refine"
    version = 3  # 2, 3: other kernels, which may decide a tie of rounding otherwise
    shardable = True
    batch_rows = 8
    unlabelled = None  # every pixel has a label

    def __init__(self, run: Run, features: DenseFeaturesStage, bank: TextBankStage) -> None:
        """Read features and words."""
        super().__init__(run, features, bank)
        self._features = features
        self._bank = bank

    def settings(self) -> dict[str, Any]:
        """PAMR, scale, thresholds, and which word belongs to which class."""
        settings = self.run.settings
        return {
            "pamr_steps": settings.pamr_steps,
            "pamr_dilations": list(settings.pamr_dilations) if settings.pamr_steps else [],
            "logit_scale": settings.logit_scale,
            "prob_thd": settings.prob_thd,
            "area_thd": settings.area_thd,
            "query_class": list(self.run.dataset.vocabulary.query_class),
        }

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Images that have features."""
        features = self._features.rows()
        return [digest for digest in ids if digest in features]

    @cached_property
    def table(self) -> ArrayTable:
        """The pixels of an image, row by row."""
        wide = self.run.dataset.vocabulary.num_classes > 256
        return ArrayTable(self.artifact, "uint16" if wide else "uint8", None, compress=True)

    def pass_settings(self) -> dict[str, Any]:
        """What stages have in common that one pass can fill: features, words and dilations."""
        return {
            "upstream": [stage.key for stage in self.upstream],
            "pamr_dilations": list(self.run.settings.pamr_dilations),
            "query_class": self.settings()["query_class"],
        }

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Refine and decide, image by image."""
        device = self.run.device
        bank = self._bank.bank().to(device)
        rows = self._features.rows()
        wanting = todo.wanting
        most = max(stage.run.settings.pamr_steps for stage, ids in wanting.items() if ids)

        def load(digest: str) -> Loaded:
            geometry, features = self._features.read(self._features.row(digest, rows))
            return Loaded(geometry, features, self._pixels(digest, geometry) if most else None)

        for digest, loaded in prefetch(load, todo.claimed, self.run.settings.workers):
            if isinstance(loaded, ImageError):
                self.leave_out(digest, loaded)
                continue
            refiner = Refiner(
                geometry=loaded.geometry,
                features=loaded.features.to(device),
                embeddings=bank.embeddings,
                protocol=self.run.settings,
                pixels=loaded.pixels,
            )
            stages = [stage for stage, ids in wanting.items() if digest in ids]
            protocols = [stage.run.settings for stage in stages]
            several = refiner.labels_at(protocols, bank.query_class, bank.num_classes)
            for stage, labels in zip(stages, several, strict=True):
                yield stage, [NewRow(digest, labels.reshape(-1), {"size": list(labels.shape)})]

    def _pixels(self, digest: str, geometry: Geometry) -> Callable[[], Tensor]:
        """The image's pixels for PAMR, read already."""
        pixels = resized_pixels(self.run.image(digest), geometry, self.run.spec)
        return lambda: pixels

    def read(self, row: Row) -> NDArray[np.unsignedinteger]:
        """The label map (H, W) of an image."""
        return self.table.read_map(row)
