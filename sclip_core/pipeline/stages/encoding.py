"""What the stages that run CLIP's image tower have in common: full passes, one row an image."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import CLIP, default_batch_size
from sclip_core.pipeline.filling import Todo
from sclip_core.pipeline.prefetch import prefetch
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow


class Loaded(NamedTuple):
    """An image on its way to the tower, or to its last block."""

    digest: str
    geometry: Geometry
    windows: Tensor  # (windows, 3, h, w) pixels, or (windows, 1+N, width) what the last block gets


class EncodingStage(Stage):
    """One row an image: a vector for each token of its windows, window by window."""

    shardable = True
    table: ArrayTable

    def settings(self) -> dict[str, Any]:
        """Image tower, resize, windows, dtype."""
        settings, spec = self.run.settings, self.run.spec
        whole = settings.slide_crop == 0
        return {
            "vision_cfg": spec.config["vision_cfg"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
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

    @abstractmethod
    def encode(self, model: CLIP, part: Loaded, stages: Sequence[Stage]) -> list[Tensor]:
        """Of some windows, what each of the stages keeps: (windows, ..., width).

        Args:
            model: the CLIP.
            part: windows of one size, of any images.
            stages: this one, or those together with it.
        """

    def load(self, model: CLIP, digest: str) -> Loaded:
        """The windows of an image."""
        return Loaded(digest, *model.windows(self.run.image(digest), self.run.settings))

    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode images, as many at a time as fill a forward pass with windows."""
        model = self.run.model(shard)
        wanting = todo.wanting
        group: list[Loaded] = []

        def load(digest: str) -> Loaded:
            return self.load(model, digest)

        for digest, loaded in prefetch(load, todo.claimed, self.run.settings.workers):
            if isinstance(loaded, ImageError):
                self.leave_out(digest, loaded)
                continue
            group.append(loaded)
            if sum(map(_num_windows, group)) >= self._full(model, group[0].geometry):
                yield from self._encode_group(model, group, wanting)
                group = []
        if group:
            yield from self._encode_group(model, group, wanting)

    def _full(self, model: CLIP, geometry: Geometry) -> int:
        """Windows that fill a forward pass."""
        given = self.run.settings.batch_size
        return given or default_batch_size(model.device, geometry.window, model.spec.patch)

    def _encode_group(
        self, model: CLIP, group: Sequence[Loaded], wanting: Mapping[Stage, Set[str]]
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Rows of a group of images; windows of one size share forward passes."""
        by_size: dict[tuple[int, ...], list[Loaded]] = defaultdict(list)
        for loaded in group:
            by_size[*loaded.geometry.window, loaded.windows.ndim].append(loaded)
        for same in by_size.values():
            digests = {loaded.digest for loaded in same}
            stages = [stage for stage, ids in wanting.items() if ids & digests]
            values = self._encode_windows(model, same, stages)
            for stage, of_stage in zip(stages, values, strict=True):
                parts = of_stage.split([_num_windows(loaded) for loaded in same])
                pairs = zip(same, parts, strict=True)
                rows = (
                    self._row(stage, *pair) for pair in pairs if pair[0].digest in wanting[stage]
                )
                yield stage, [row for row in rows if row]

    def _encode_windows(
        self, model: CLIP, same: Sequence[Loaded], stages: Sequence[Stage]
    ) -> list[Tensor]:
        """What each stage keeps of all windows of some images, on the CPU."""
        geometry = same[0].geometry
        windows = torch.cat([loaded.windows for loaded in same])
        passes = [
            [kept.to("cpu") for kept in self.encode(model, Loaded("", geometry, part), stages)]
            for part in windows.split(self._full(model, geometry))
        ]
        return [torch.cat(parts) for parts in zip(*passes, strict=True)]

    def _row(self, stage: Stage, loaded: Loaded, values: Tensor) -> NewRow | None:
        """A row of a stage, unless its numbers are none."""
        flat: NDArray[Any] = values.flatten(0, -2).numpy()
        if not np.isfinite(flat).all():
            error = ImageError(
                f"its features in {self.run.dtype} are not finite numbers: "
                "try --dtype fp32, and check the weights"
            )
            if stage is self:  # the others find out by themselves
                self.leave_out(loaded.digest, error)
            return None
        return NewRow(loaded.digest, flat, {"size": list(loaded.geometry.original)})

    def geometry(self, size: Sequence[int]) -> Geometry:
        """The windows of an image of this height and width."""
        return Geometry.of(size[0], size[1], self.run.settings, self.run.spec.patch)


def _num_windows(loaded: Loaded) -> int:
    return loaded.geometry.num_windows
