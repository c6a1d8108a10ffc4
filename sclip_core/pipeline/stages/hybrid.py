"""Stage ``hybrid``: masks and what is known of them to label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.masks.fill import RULES, Evidence, pooled_logits
from sclip_core.masks.proposals import Proposals
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.crop_features import CropFeaturesStage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.label_maps import LabelMapStage, label_row
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.pipeline.stages.refine import RefineStage
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.segmentation import Stitcher
from sclip_core.store.arrays import NewRow


class HybridStage(LabelMapStage):
    """One row an image: its masks, filled with labels, at the original size."""

    name = "hybrid"
    version = 1
    spare = True  # of any mode

    def __init__(
        self,
        run: Run,
        proposals: ProposalsStage,
        bank: TextBankStage,
        features: DenseFeaturesStage,
        dense: RefineStage,
        crops: CropFeaturesStage,
    ) -> None:
        """Read masks, and what the mode and its rule ask for of the rest."""
        rule = self._kind(run)
        read: list[Stage] = [proposals]
        if run.settings.mode != "baseline":
            read.append(dense)
        if rule in ("pool", "crop"):
            read += [bank, features if rule == "pool" else crops]
        super().__init__(run, *read)
        self.proposals, self._bank, self._crops = proposals, bank, crops
        self._features, self._dense = features, dense

    def settings(self) -> dict[str, Any]:
        """The rule; and for those that decide anew, how."""
        rule = self.run.settings.rule
        own = {"rule": rule, "uncovered": self._uncovered}
        if self.run.chosen.rule is not None:
            own |= self.run.chosen.rule.identity()
        return own if rule == "vote" else {**own, **self.decision()}

    @staticmethod
    def _kind(run: Run) -> str | None:
        """The rule; of a user's own that whose scores it may read."""
        return "pool" if run.chosen.rule is not None else run.settings.rule

    @property
    def _uncovered(self) -> str:
        """What pixels get that no mask covers."""
        if self.run.settings.mode != "baseline":
            return "dense"
        has_background = self.run.inputs.dataset.vocabulary.has_background
        return "background" if has_background else "unlabelled"

    @property
    def unlabelled(self) -> int | None:
        """The value of pixels without a label; None: there are none."""
        return int(np.iinfo(self.dtype).max) if self._uncovered == "unlabelled" else None

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Fill the masks, image by image."""
        vocabulary = self.run.inputs.dataset.vocabulary
        rule = self.run.chosen.rule or RULES[self.run.settings.rule or "vote"]
        proposed, scores_of = self.proposals.rows(), self._scores()
        dense = self._dense.rows() if self._uncovered == "dense" else {}

        def load(digest: str) -> Evidence:
            """The masks, the map below them, and the scores that the rule asks for."""
            masks = self.proposals.read(self.proposals.row(digest, proposed))
            if self._uncovered == "dense":
                base = self._dense.read(self._dense.row(digest, dense)).astype(self.dtype)
            else:
                base = np.full(masks.size, self.unlabelled or 0, self.dtype)
            return Evidence(
                proposals=masks,
                base=base,
                query_class=torch.tensor(vocabulary.query_class),
                num_classes=vocabulary.num_classes,
                protocol=self.run.settings,
                scores=scores_of(digest, masks) if scores_of else None,
            )

        for digest, evidence in self.loaded(load, ids):
            yield label_row(digest, rule(evidence))

    def _scores(self) -> Callable[[str, Proposals], Callable[[], Tensor]] | None:
        """Reads what gives a logit for each mask and word; None: the rule asks for none."""
        rule = self._kind(self.run)
        if rule not in ("pool", "crop"):
            return None
        rows = (self._features if rule == "pool" else self._crops).rows()
        embeddings = self._bank.bank().embeddings

        def pooled(digest: str, masks: Proposals) -> Callable[[], Tensor]:
            geometry, features = self._features.read(self._features.row(digest, rows))
            return partial(pooled_logits, masks, Stitcher(geometry), features, embeddings)

        def of_crops(digest: str, masks: Proposals) -> Callable[[], Tensor]:
            crops = torch.from_numpy(self._crops.table.read(self._crops.row(digest, rows)))
            return lambda: crops @ embeddings.T

        return pooled if rule == "pool" else of_crops
