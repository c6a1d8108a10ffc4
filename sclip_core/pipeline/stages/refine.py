"""Stage ``refine``: features and words to label maps, through stitching, PAMR and decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from torch import Tensor

from sclip_core.config import Geometry
from sclip_core.encoder.clip import resized_pixels
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.label_maps import LabelMapStage, label_row
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.segmentation import Refiner
from sclip_core.store.arrays import NewRow


class RefineStage(SharingStage, LabelMapStage):
    """One row an image: its label map at the original size."""

    name = "refine"
    version = 3  # 2, 3: other kernels, which may decide a tie of rounding otherwise
    spare = False

    def __init__(self, run: Run, features: DenseFeaturesStage, bank: TextBankStage) -> None:
        """Connect the stage to the features and words that it compares."""
        super().__init__(run, features, bank)
        self._features = features
        self._bank = bank

    def settings(self) -> dict[str, Any]:
        """PAMR, and how labels are decided."""
        settings = self.run.settings
        return {
            "pamr_steps": settings.pamr_steps,
            "pamr_dilations": list(settings.pamr_dilations) if settings.pamr_steps else [],
            **self.decision(),
        }

    def pass_settings(self) -> dict[str, Any]:
        """Features, words and dilations."""
        return {
            "upstream": [stage.key for stage in self.upstream],
            "pamr_dilations": list(self.run.settings.pamr_dilations),
            "query_class": self.settings()["query_class"],
        }

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Refine and decide, image by image."""
        device = self.run.models.device
        bank = self._bank.bank().to(device)
        rows = self._features.rows()
        refined = any(stage.run.settings.pamr_steps for stage in (self, *others))

        def load(digest: str) -> Refiner:
            """What labels an image: its features, and its pixels if any of the runs has PAMR."""
            geometry, features = self._features.read(self._features.row(digest, rows))
            pixels = self._pixels(digest, geometry) if refined else None
            return Refiner(
                geometry=geometry,
                features=features,
                embeddings=bank.embeddings,
                protocol=self.run.settings,
                pixels=pixels,
            )

        for digest, loaded in self.loaded(load, ids):
            refiner = replace(loaded, features=loaded.features.to(device))
            stages = [self, *(stage for stage, lacking in others.items() if digest in lacking)]
            protocols = [stage.run.settings for stage in stages]
            several = refiner.labels_at(protocols, bank.query_class, bank.num_classes)
            for stage, labels in zip(stages, several, strict=True):
                yield stage, [label_row(digest, labels)]

    def _pixels(self, digest: str, geometry: Geometry) -> Callable[[], Tensor]:
        """The image's pixels for PAMR, read already."""
        pixels = resized_pixels(self.run.inputs.image(digest), geometry, self.run.models.spec)
        return lambda: pixels
