"""Stage ``refine``: features and words to label maps, through stitching, PAMR and decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import resized_pixels
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.label_maps import LabelMap, LabelMapStage, label_row
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.segmentation import Refiner
from sclip_core.segmentation.backends import compile_for
from sclip_core.segmentation.refiners import refiner_identity
from sclip_core.store.arrays import NewRow


class RefineStage(SharingStage, LabelMapStage):
    """One row an image: its label map at the original size."""

    name = "refine"
    version = 3  # 2, 3: other kernels, which may decide a tie of rounding otherwise
    spare = False

    def __init__(
        self,
        run: Run,
        features: DenseFeaturesStage,
        bank: TextBankStage,
        proposals: ProposalsStage | None = None,
    ) -> None:
        """Connect the stage to the features and words that it compares.

        Args:
            run: what all stages share.
            features: of the patches.
            bank: of the words.
            proposals: masks, for a step after the decision that reads them.
        """
        self._votes = any(step.reads_masks for step in run.chosen.after)
        read = [proposals] if proposals and self._votes else []
        super().__init__(run, features, bank, *read)
        self._features, self._bank, self._proposals = features, bank, proposals

    def settings(self) -> dict[str, Any]:
        """PAMR or what stands in its place, how labels are decided, and steps after that."""
        settings, chosen = self.run.settings, self.run.chosen
        after = [step.identity() for step in chosen.after]
        return {
            **refiner_identity(chosen.refiner),
            **(chosen.decision.identity() if chosen.decision else {}),
            **({"after": after} if after else {}),
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
            **refiner_identity(self.run.chosen.refiner),
            **(self.run.chosen.decision.identity() if self.run.chosen.decision else {}),
        }

    def prepare(self) -> None:
        """Compile Numba's kernels, where they are used."""
        compile_for(self.run.models.device)

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Refine and decide, image by image."""
        device = self.run.models.device
        bank = self._bank.bank().to(device)
        rows = self._features.rows()
        refining = self.run.chosen.refiner
        refined = any(stage.run.settings.pamr_steps for stage in (self, *others))
        refined = refined or refining is not None

        def load(digest: str) -> Refiner:
            """What labels an image: its features, and its pixels if anything refines by them."""
            geometry, features = self._features.read(self._features.row(digest, rows))
            pixels = self._pixels(digest, geometry) if refined else None
            return Refiner(
                geometry=geometry,
                features=features,
                embeddings=bank.embeddings,
                protocol=self.run.settings,
                pixels=pixels,
                refining=refining,
                deciding=self.run.chosen.decision,
            )

        for digest, loaded in self.loaded(load, ids):
            refiner = replace(loaded, features=loaded.features.to(device))
            stages: list[Any] = [self, *(s for s, lacking in others.items() if digest in lacking)]
            protocols = [stage.run.settings for stage in stages]
            several = refiner.labels_at(protocols, bank.query_class, bank.num_classes)
            for stage, labels in zip(stages, several, strict=True):
                finished = stage.finished(digest, labels)
                yield stage, [] if finished is None else [label_row(digest, finished)]

    def finished(self, digest: str, labels: LabelMap) -> LabelMap | None:
        """The label map of an image after the method's last steps; None: it was left out."""
        regions = None
        try:
            if self._votes:
                assert self._proposals is not None
                masks = self._proposals.read(self._proposals.row(digest, self._proposals.rows()))
                regions = masks.id_map(in_order=self.run.settings.proposals == "files")
        except ImageError as error:
            self.leave_out(digest, error)
            return None
        classes = self.run.inputs.dataset.vocabulary.num_classes
        for step in self.run.chosen.after:
            labels = step(labels, regions, classes)
        return labels

    def _pixels(self, digest: str, geometry: Geometry) -> Callable[[], Tensor]:
        """The image's pixels for PAMR, read already."""
        pixels = resized_pixels(self.run.inputs.image(digest), geometry, self.run.models.spec)
        return lambda: pixels
