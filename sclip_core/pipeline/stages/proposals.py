"""Stages ``sam_embeddings`` and ``proposals``: images to masks, whatever the words are.

Masks depend on the image, SAM's weights and the generator's settings. Where SAM's embeddings were
kept (``keep_embeddings``), other thresholds need no encoder; the masks are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import ImageError
from sclip_core.masks.proposals import Proposals
from sclip_core.pipeline.filling import Todo
from sclip_core.pipeline.prefetch import prefetch
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.trunk import STORED
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row
from sclip_core.store.records import RecordTable

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


class Loaded(NamedTuple):
    """What an image's masks are made of."""

    size: tuple[int, int]
    image: NDArray[np.uint8] | None  # None: its embeddings were kept
    embeddings: Tensor | None  # (crops, C, h, w)


class SamEmbeddingsStage(Stage):
    """One row an image: SAM's embedding of it, and of each of its crops."""

    name = "sam_embeddings"
    version = 1
    shardable = True

    def settings(self) -> dict[str, Any]:
        """Size, dtype, crops."""
        settings = self.run.settings
        layers = settings.crop_n_layers
        overlap = settings.crop_overlap_ratio if layers else None
        return {
            "sam_model": settings.sam_model,
            "dtype": self.run.dtype,
            "crop_n_layers": layers,
            "crop_overlap_ratio": overlap,
        }

    def weights_sha256(self) -> str:
        """Of the SAM."""
        return self.run.sam_sha256

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    @cached_property
    def table(self) -> ArrayTable:
        """(crops · C · h · w) an image."""
        return ArrayTable(self.artifact, STORED[self.run.dtype], None, compress=False)

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode."""
        generator = self.run.proposer(shard)
        for digest, image in prefetch(self.run.image, todo.claimed, self.run.settings.workers):
            if isinstance(image, ImageError):
                self.leave_out(digest, image)
                continue
            size = (image.shape[0], image.shape[1])
            try:
                parts = [generator.embed(image, crop) for crop in generator.crops(size)]
            except ImageError as error:
                self.leave_out(digest, error)
                continue
            found = torch.stack(parts).float().cpu() if parts else torch.zeros(0)
            meta = {"size": list(size), "shape": list(found.shape)}
            yield self, [NewRow(digest, found.flatten().numpy(), meta)]

    def read(self, row: Row) -> Loaded:
        """What was kept of an image."""
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        shape = row.meta.get("shape")
        if not isinstance(shape, list) or math.prod(shape) != values.numel():
            raise self.table.damaged(row)
        return Loaded(self.table.size_of(row), None, values.view(shape))


class ProposalsStage(Stage):
    """One row an image: its masks, a record each."""

    name = "proposals"
    version = 1
    shardable = True
    batch_rows = 16

    def __init__(self, run: Run, embeddings: SamEmbeddingsStage) -> None:
        """Read what is kept of SAM's encoder; the images where nothing is.

        It is no upstream stage: the masks are the same either way.
        """
        super().__init__(run)
        self._embeddings = embeddings

    @property
    def reads(self) -> Sequence[Stage]:
        """The embeddings, where SAM may have kept some."""
        return (self._embeddings,) if self.run.settings.proposals == "sam" else ()

    @property
    def forced(self) -> bool:
        """Also where the embeddings are."""
        return super().forced or (self.run.settings.keep_embeddings and self._embeddings.forced)

    def settings(self) -> dict[str, Any]:
        """Those of the source that is chosen."""
        settings = self.run.settings
        dtype = {"dtype": self.run.dtype} if settings.proposals == "sam" else {}
        return {"source": settings.proposals, **dtype, **settings.relevant()}

    def weights_sha256(self) -> str | None:
        """Of the SAM."""
        return self.run.sam_sha256 if self.run.settings.proposals == "sam" else None

    def wanted(self) -> Sequence[str]:
        """The images' digests."""
        return list(self.run.images)

    @cached_property
    def table(self) -> RecordTable:
        """A record a mask."""
        return RecordTable(self.artifact, SCHEMA, "image")

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Propose, image by image."""
        by_sam = self.run.settings.proposals == "sam"
        found_in = partial(self._by_sam, shard=shard) if by_sam else self._ahead
        for digest, found in found_in(todo.claimed):
            if isinstance(found, ImageError):
                self.leave_out(digest, found)
                continue
            meta = {"size": list(found.size), "masks": len(found)}
            yield self, [NewRow(digest, as_records(found), meta)]

    def _ahead(self, digests: Iterable[str]) -> Iterator[tuple[str, Proposals | ImageError]]:
        """Superpixels, in the threads that read."""
        proposer = self.run.proposer()
        return prefetch(
            lambda digest: proposer(self.run.image(digest)), digests, self.run.settings.workers
        )

    def _by_sam(
        self, digests: Iterable[str], shard: int
    ) -> Iterator[tuple[str, Proposals | ImageError]]:
        """SAM's, from the embeddings that were kept, else from the images."""
        generator, kept = self.run.proposer(shard), self._embeddings.rows()

        def load(digest: str) -> Loaded:
            """The embeddings that were kept of an image; else its pixels."""
            found: Loaded | None = self.kept_of(self._embeddings, digest, kept)
            if found:
                return found
            image = self.run.image(digest)
            return Loaded((image.shape[0], image.shape[1]), image, None)

        for digest, loaded in prefetch(load, digests, self.run.settings.workers):
            if isinstance(loaded, ImageError):
                yield digest, loaded
                continue
            try:
                if loaded.image is not None:
                    yield digest, generator(loaded.image)
                else:
                    embeddings = _moved(loaded.embeddings, generator.device)
                    yield digest, generator.propose(loaded.size, embeddings)
            except ImageError as error:
                yield digest, error

    def read(self, row: Row) -> Proposals:
        """The masks of an image."""
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
    """The way back."""

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


def _moved(embeddings: Tensor | None, device: torch.device) -> Callable[[int], Tensor]:
    """Embeddings by number, each moved when it is asked for."""
    if embeddings is None:
        raise ValueError("neither an image nor its embeddings")
    kept = embeddings
    return lambda number: kept[number].to(device)
