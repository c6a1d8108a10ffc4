"""Stage ``refine``: features and words to label maps, through stitching, PAMR and decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder import TextBank
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
from sclip_core.store.arrays import DamagedRow, NewRow, RowGone
from sclip_core.store.keys import canonical_json


class RefineStage(SharingStage, LabelMapStage):
    """One row an image: its label map at the original size."""

    name = "refine"
    version = 3  # 2, 3: other kernels, which may decide a tie of rounding otherwise

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

    @property
    def spare(self) -> bool:
        """Whether pixels may become a distractor, and so have no label."""
        words = self.run.inputs.dataset.vocabulary
        return bool(words.distractors) and not words.closed

    @property
    def unlabelled(self) -> int | None:
        """The value of pixels that became a distractor; None: there is none, or none may win."""
        return int(np.iinfo(self.dtype).max) if self.spare else None

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
            **self._distractors(),
        }

    def _distractors(self) -> dict[str, Any]:
        """How distractors are read, only where there are any: what is not there changes no key."""
        words = self.run.inputs.dataset.vocabulary
        if not words.distractors:
            return {}
        reading = {"distractors": [len(words.distractors), "closed" if words.closed else "open"]}
        return reading | ({"uncovered": "unlabelled"} if self.spare else {})

    def pass_settings(self) -> dict[str, Any]:
        """Features and dilations; runs over other words share what is read of an image."""
        return {
            "upstream": [stage.key for stage in self.upstream if stage is not self._bank],
            "pamr_dilations": list(self.run.settings.pamr_dilations),
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
        banks = {stage: bank.to(device) for stage, bank in self._banks(others).items()}
        rows = self._features.rows()
        refining = self.run.chosen.refiner
        refined = any(stage.run.settings.pamr_steps for stage in banks)
        refined = refined or refining is not None

        def load(digest: str) -> Refiner:
            """What labels an image: its features, and its pixels if anything refines by them."""
            geometry, features = self._features.read(self._features.row(digest, rows))
            pixels = self._pixels(digest, geometry) if refined else None
            return Refiner(
                geometry=geometry,
                features=features,
                embeddings=banks[self].embeddings,
                protocol=self.run.settings,
                pixels=pixels,
                refining=refining,
                deciding=self.run.chosen.decision,
            )

        for digest, loaded in self.loaded(load, ids):
            refiner = replace(loaded, features=loaded.features.to(device))
            asked = [each for each in banks if each is self or digest in others[each]]
            for same in _of_the_same_words(asked):
                bank = banks[same[0]]
                among = replace(refiner, embeddings=bank.embeddings)
                protocols = [stage.run.settings for stage in same]
                several = among.labels_at(protocols, bank.query_class, *same[0].num_classes)
                for stage, labels in zip(same, several, strict=True):
                    finished = stage.finished(digest, labels)
                    yield stage, [] if finished is None else [label_row(digest, finished)]

    def _banks(self, others: Iterable[Stage]) -> dict[RefineStage, TextBank]:
        """The words of the stages of a pass; one whose words are damaged is left to itself."""
        found: dict[RefineStage, TextBank] = {self: self._bank.bank()}
        read = {self._bank.key: found[self]}
        for stage in others:
            assert isinstance(stage, RefineStage)
            key = stage._bank.key
            with suppress(DamagedRow, RowGone):
                read[key] = read.get(key) or stage._bank.bank()
                query_class = torch.tensor(stage.decision()["query_class"])
                found[stage] = replace(read[key], query_class=query_class)
        return found

    @cached_property
    def decided(self) -> str:
        """Which words are decided among, of which classes, and which classes may win."""
        query_class = self.decision()["query_class"]
        return canonical_json([self._bank.key, query_class, self.num_classes])

    @property
    def num_classes(self) -> tuple[int, int]:
        """Classes that are decided among, distractors too, and how many of them may win."""
        words = self.run.inputs.dataset.vocabulary
        count = words.num_classes + len(words.distractors)
        return count, words.num_classes if words.closed else count

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
        _, classes = self.num_classes
        for step in self.run.chosen.after:
            labels = step(labels, regions, classes)
        if not self.run.inputs.dataset.vocabulary.distractors:
            return labels
        distracted = labels >= self.run.inputs.dataset.vocabulary.num_classes
        labels = labels.astype(self.dtype)
        if self.unlabelled is not None:
            labels[distracted] = self.unlabelled
        return labels

    def _pixels(self, digest: str, geometry: Geometry) -> Callable[[], Tensor]:
        """The image's pixels for PAMR, read already."""
        pixels = resized_pixels(self.run.inputs.image(digest), geometry, self.run.models.spec)
        return lambda: pixels


def _of_the_same_words(stages: Iterable[RefineStage]) -> list[list[RefineStage]]:
    """Stages that decide among the same, put together."""
    groups: dict[str, list[RefineStage]] = {}
    for stage in stages:
        groups.setdefault(stage.decided, []).append(stage)
    return list(groups.values())
