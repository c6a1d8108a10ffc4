"""Stages ``crop_features`` and ``hybrid``: masks and what is known of them to label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import ImageError
from sclip_core.masks.fill import RULES, Evidence, pooled_logits
from sclip_core.masks.proposals import Proposals
from sclip_core.pipeline.filling import Todo
from sclip_core.pipeline.prefetch import prefetch
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.pipeline.stages.refine import RefineStage
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.segmentation import Stitcher
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row


class CropFeaturesStage(Stage):
    """One row an image: CLIP's own embedding of the masked crop of each of its masks, fp32."""

    name = "crop_features"
    version = 1
    shardable = True

    def __init__(self, run: Run, proposals: ProposalsStage) -> None:
        """Read masks."""
        super().__init__(run, proposals)
        self._proposals = proposals

    def settings(self) -> dict[str, Any]:
        """Image tower and dtype; never words."""
        spec = self.run.spec
        return {
            "vision_cfg": spec.config["vision_cfg"],
            "embed_dim": spec.config["embed_dim"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "dtype": self.run.dtype,
        }

    def weights_sha256(self) -> str:
        """Of the CLIP."""
        return self.run.weights_sha256

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Images that have masks, be it none."""
        proposed = self._proposals.rows()
        return [digest for digest in ids if digest in proposed]

    @cached_property
    def table(self) -> ArrayTable:
        """(masks, D) an image."""
        return ArrayTable(self.artifact, "float32", self.run.spec.width, compress=False)

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode the crops."""
        model, rows = self.run.model(shard), self._proposals.rows()

        def load(digest: str) -> tuple[NDArray[np.uint8], Proposals]:
            return self.run.image(digest), self._proposals.read(self._proposals.row(digest, rows))

        for digest, loaded in prefetch(load, todo.claimed, self.run.settings.workers):
            if isinstance(loaded, ImageError):
                self.leave_out(digest, loaded)
                continue
            features = model.mask_features(*loaded, batch_size=self.run.settings.batch_size)
            if not features.isfinite().all():
                self.leave_out(digest, ImageError("its crops have no finite features"))
                continue
            yield self, [NewRow(digest, features.cpu().numpy())]


class Loaded(NamedTuple):
    """What an image's masks are filled from."""

    proposals: Proposals
    base: NDArray[np.unsignedinteger[Any]]
    scores: Callable[[], Tensor] | None


class HybridStage(Stage):
    """One row an image: its label map at the original size."""

    name = "hybrid"
    version = 1
    shardable = True
    batch_rows = 8

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
        rule = run.settings.rule
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
        settings = self.run.settings
        own: dict[str, Any] = {"rule": settings.rule, "uncovered": self._uncovered}
        if settings.rule == "vote":
            return own
        return {
            **own,
            "logit_scale": settings.logit_scale,
            "prob_thd": settings.prob_thd,
            "area_thd": settings.area_thd,
            "query_class": list(self.run.dataset.vocabulary.query_class),
        }

    @property
    def _uncovered(self) -> str:
        """What pixels get that no mask covers."""
        if self.run.settings.mode != "baseline":
            return "dense"
        return "background" if self.run.dataset.vocabulary.has_background else "unlabelled"

    @property
    def unlabelled(self) -> int | None:
        """The value of pixels without a label; None: there are none."""
        if self._uncovered != "unlabelled":
            return None
        return int(np.iinfo(self._dtype).max)

    @property
    def _dtype(self) -> np.dtype[Any]:
        """Of the label maps: one value is kept for no label."""
        return np.dtype("uint16" if self.run.dataset.vocabulary.num_classes > 255 else "uint8")

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Images of which everything that is read is there."""
        rows = [stage.rows() for stage in self.upstream if stage is not self._bank]
        return [digest for digest in ids if all(digest in there for there in rows)]

    @cached_property
    def table(self) -> ArrayTable:
        """The pixels of an image, row by row."""
        return ArrayTable(self.artifact, self._dtype.name, None, compress=True)

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Fill the masks, image by image."""
        settings, vocabulary = self.run.settings, self.run.dataset.vocabulary
        rule = RULES[settings.rule or "vote"]
        for digest, loaded in prefetch(self._loader(), todo.claimed, settings.workers):
            if isinstance(loaded, ImageError):
                self.leave_out(digest, loaded)
                continue
            evidence = Evidence(
                proposals=loaded.proposals,
                base=loaded.base,
                query_class=torch.tensor(vocabulary.query_class),
                num_classes=vocabulary.num_classes,
                protocol=settings,
                scores=loaded.scores,
            )
            labels = rule(evidence)
            yield self, [NewRow(digest, labels.reshape(-1), {"size": list(labels.shape)})]

    def _loader(self) -> Callable[[str], Loaded]:
        """Reads what an image's masks are filled from."""
        rule = self.run.settings.rule
        proposed = self.proposals.rows()
        dense = self._dense.rows() if self._uncovered == "dense" else {}
        read = {"pool": self._features, "crop": self._crops}.get(rule or "")
        rows = read.rows() if read else {}
        embeddings = self._bank.bank().embeddings if read else torch.zeros(0)

        def load(digest: str) -> Loaded:
            """The masks, the map below them, and the scores that the rule asks for."""
            proposals = self.proposals.read(self.proposals.row(digest, proposed))
            if self._uncovered == "dense":
                base = self._dense.read(self._dense.row(digest, dense)).astype(self._dtype)
            else:
                base = np.full(proposals.size, self.unlabelled or 0, self._dtype)
            if rule == "pool":
                geometry, features = self._features.read(self._features.row(digest, rows))
                stitcher = Stitcher(geometry)
                scores = partial(pooled_logits, proposals, stitcher, features, embeddings)
                return Loaded(proposals, base, scores)
            if rule == "crop":
                crops = torch.from_numpy(self._crops.table.read(self._crops.row(digest, rows)))
                return Loaded(proposals, base, lambda: crops @ embeddings.T)
            return Loaded(proposals, base, None)

        return load

    def read(self, row: Row) -> NDArray[np.unsignedinteger[Any]]:
        """The label map (H, W) of an image."""
        return self.table.read_map(row)
