"""Stage ``proposals``: images to masks, whatever the words are.

Masks depend on the image, the source's weights and its settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import ImageError
from sclip_core.masks.proposals import Proposals
from sclip_core.masks.sources import MaskFiles
from sclip_core.pipeline.mask_maps import MaskMaps
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.sam_embeddings import SamEmbeddings
from sclip_core.store.arrays import NewRow
from sclip_core.store.ledger import Row
from sclip_core.store.records import RecordTable
from sclip_core.store.tables import record_table

BOX = ("x", "y", "width", "height")
SCHEMA = pa.schema(
    [
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
        *((f"bbox_{side}", pa.int32()) for side in BOX),
        ("area", pa.int64()),
        ("predicted_iou", pa.float64()),
        ("stability_score", pa.float64()),
        ("point_x", pa.float64()),
        ("point_y", pa.float64()),
        *((f"crop_{side}", pa.int32()) for side in BOX),
        ("counts", pa.string()),  # COCO's compressed run lengths, as in its JSON files
    ]
)


class ProposalsStage(Stage):
    """One row an image: its masks, a record each; from SAM's embeddings where they were kept."""

    name = "proposals"
    version = 1
    shardable = True
    sees_images = True
    batch_rows = 16

    @property
    def forced(self) -> bool:
        """Also where the embeddings are."""
        kept = any(stage.forced for stage in self.kept)
        return super().forced or (self.run.settings.keep_embeddings and kept)

    def settings(self) -> dict[str, Any]:
        """Those of the source that is chosen; of files also a digest of the run's id maps."""
        found = self.run.models.source.identity(self.run.models.dtype)
        return {**found, "maps": self._files.digest} if self._of_files else found

    @property
    def _of_files(self) -> bool:
        return isinstance(self.run.models.source, MaskFiles)

    @cached_property
    def _files(self) -> MaskMaps:
        source = self.run.models.source
        assert isinstance(source, MaskFiles)
        return MaskMaps(source, self.run.inputs)

    def weights_sha256(self) -> str | None:
        """Of the source; None: it has none."""
        return self.run.models.masks_sha256

    @cached_property
    def table(self) -> RecordTable:
        """One record of ``SCHEMA`` for each mask."""
        return record_table(self.artifact, SCHEMA, "image")

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Propose masks for one image after the other."""
        if self._of_files:
            found = self.loaded(self._files.masks, ids)
        elif self.run.models.source.has_encoder:
            found = self._encoded(ids, shard)
        else:
            found = self._segmented(ids)
        for digest, masks in found:
            meta = {"size": list(masks.size), "masks": len(masks)}
            yield NewRow(digest, as_records(masks), meta)

    def _segmented(self, ids: Iterable[str]) -> Iterator[tuple[str, Proposals]]:
        """Masks of a source without an encoder, in the threads that read."""
        proposer, image = self.run.models.proposer(), self.run.inputs.image
        return self.loaded(lambda digest: proposer(image(digest)), ids)

    def _encoded(self, ids: Iterable[str], shard: int) -> Iterator[tuple[str, Proposals]]:
        """Masks by SAM, from the embeddings that were kept, else from the images."""
        generator = self.run.models.proposer(shard)
        embeddings = self.kept[0] if self.kept else None
        kept = embeddings.rows() if embeddings else {}

        def load(digest: str) -> SamEmbeddings | NDArray[np.uint8]:
            """The embeddings that were kept of an image; else its pixels."""
            found: SamEmbeddings | None = (
                self.kept_of(digest, embeddings, kept) if embeddings else None
            )
            return found or self.run.inputs.image(digest)

        for digest, loaded in self.loaded(load, ids):
            try:
                if isinstance(loaded, SamEmbeddings):
                    embedding = partial(_moved, loaded.values, generator.device)
                    yield digest, generator.propose(loaded.size, embedding)
                else:
                    yield digest, generator(loaded)
            except ImageError as error:
                self.leave_out(digest, error)

    def read(self, row: Row) -> Proposals:
        """The masks of an image, as the source proposed them."""
        return from_records(self.table.read(row), self.table.size_of(row))


def as_records(proposals: Proposals) -> pa.Table:
    """Masks as records of ``SCHEMA``."""
    number = len(proposals)
    columns = {
        "image_height": np.full(number, proposals.size[0], np.int32),
        "image_width": np.full(number, proposals.size[1], np.int32),
        **{f"bbox_{side}": proposals.boxes[:, k] for k, side in enumerate(BOX)},
        "area": proposals.areas,
        "predicted_iou": proposals.predicted_iou,
        "stability_score": proposals.stability_score,
        "point_x": proposals.points[:, 0],
        "point_y": proposals.points[:, 1],
        **{f"crop_{side}": proposals.crop_boxes[:, k] for k, side in enumerate(BOX)},
        "counts": pa.array([counts.decode() for counts in proposals.counts], pa.string()),
    }
    return pa.table(columns).cast(SCHEMA)


def from_records(records: pa.Table, size: tuple[int, int]) -> Proposals:
    """The masks of an image of this size; inverse of `as_records`."""

    def column(name: str) -> NDArray[Any]:
        values: NDArray[Any] = records[name].to_numpy()
        return values

    def together(names: Sequence[str], dtype: str) -> NDArray[Any]:
        return np.stack([column(name) for name in names], axis=1).astype(dtype)

    return Proposals(
        size=size,
        counts=tuple(counts.encode() for counts in records["counts"].to_pylist()),
        boxes=together([f"bbox_{side}" for side in BOX], "int64"),
        areas=column("area"),
        predicted_iou=column("predicted_iou"),
        stability_score=column("stability_score"),
        points=together(["point_x", "point_y"], "float64"),
        crop_boxes=together([f"crop_{side}" for side in BOX], "int64"),
    )


def _moved(embeddings: Tensor, device: torch.device, number: int) -> Tensor:
    """One of the embeddings, on a device."""
    return embeddings[number].to(device)
