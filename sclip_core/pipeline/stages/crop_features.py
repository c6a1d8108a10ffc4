"""Stage ``crop_features``: masks to CLIP's own embeddings of what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.masks.proposals import Proposals
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.tables import array_table


class CropFeaturesStage(Stage):
    """One row an image: CLIP's own embedding of the masked crop of each of its masks, fp32."""

    name = "crop_features"
    version = 1
    shardable = True

    def __init__(self, run: Run, proposals: ProposalsStage) -> None:
        """Connect the stage to the masks that it crops by."""
        super().__init__(run, proposals)
        self._proposals = proposals

    def settings(self) -> dict[str, Any]:
        """Image tower and dtype; never words."""
        spec = self.run.models.spec
        return {
            "vision_cfg": spec.config["vision_cfg"],
            "embed_dim": spec.config["embed_dim"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "dtype": self.run.models.dtype,
        }

    def weights_sha256(self) -> str:
        """The digest of CLIP's weights."""
        return self.run.models.weights_sha256

    @cached_property
    def table(self) -> ArrayTable:
        """(masks, D) float32 for each image."""
        return array_table(self.artifact, "float32", self.run.models.spec.width, compress=False)

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Encode the crops, image by image."""
        clip, rows = self.run.models.clip(shard), self._proposals.rows()

        def load(digest: str) -> tuple[NDArray[np.uint8], Proposals]:
            image = self.run.inputs.image(digest)
            return image, self._proposals.read(self._proposals.row(digest, rows))

        for digest, (image, masks) in self.loaded(load, ids):
            features = clip.mask_features(image, masks, self.run.settings.batch_size)
            if features.isfinite().all():
                yield NewRow(digest, features.cpu().numpy())
            else:
                self.leave_out(digest, ImageError("its crops have no finite features"))
