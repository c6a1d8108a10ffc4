"""What the stages that run CLIP's image tower have in common: full passes, one row an image."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import CLIP, default_batch_size
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow


class Windows(NamedTuple):
    """The windows of an image, on their way to the tower or to its last block."""

    digest: str
    geometry: Geometry
    values: Tensor  # (windows, 3, h, w) pixels, or (windows, 1+N, width) what the last block gets


class EncodingStage(SharingStage):
    """One row an image: a vector for each token of its windows, window by window."""

    shardable = True
    table: ArrayTable

    def settings(self) -> dict[str, Any]:
        """Image tower, resize, windows, dtype."""
        settings, spec = self.run.settings, self.run.models.spec
        whole = settings.slide_crop == 0
        return {
            "vision_cfg": spec.config["vision_cfg"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "dtype": self.run.models.dtype,
            "short_side": settings.short_side,
            "slide_crop": settings.slide_crop,
            "slide_stride": None if whole else settings.slide_stride,
        }

    def pass_settings(self) -> dict[str, Any]:
        """The model, and all that decides what the tower gets; the last block may differ."""
        return {**EncodingStage.settings(self), "weights": self.weights_sha256()}

    def weights_sha256(self) -> str:
        """The digest of CLIP's weights."""
        return self.run.models.weights_sha256

    @abstractmethod
    def encode(self, clip: CLIP, part: Windows, stages: Sequence[Stage]) -> list[Tensor]:
        """Of some windows, what each of the stages keeps: (windows, ..., width).

        Args:
            clip: the model.
            part: windows of one size, of any images.
            stages: this one, or those together with it.
        """

    def loader(self, clip: CLIP) -> Callable[[str], Windows]:
        """Reads the windows of an image."""
        image, settings = self.run.inputs.image, self.run.settings
        return lambda digest: Windows(digest, *clip.windows(image(digest), settings))

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode images, as many at a time as fill a forward pass with windows."""
        clip = self.run.models.clip(shard)
        group: list[Windows] = []
        for _, windows in self.loaded(self.loader(clip), ids):
            group.append(windows)
            if sum(map(_num_windows, group)) >= self._full(clip, group[0].geometry):
                yield from self._encode_group(clip, group, others)
                group = []
        if group:
            yield from self._encode_group(clip, group, others)

    def _full(self, clip: CLIP, geometry: Geometry) -> int:
        """Windows that fill a forward pass."""
        given = self.run.settings.batch_size
        return given or default_batch_size(clip.device, geometry.window, clip.spec.patch)

    def _encode_group(
        self, clip: CLIP, group: Sequence[Windows], others: Mapping[Stage, Set[str]]
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Rows of a group of images; windows of one size share forward passes."""
        by_size: dict[tuple[int, ...], list[Windows]] = defaultdict(list)
        for windows in group:
            by_size[*windows.geometry.window, windows.values.ndim].append(windows)
        for same in by_size.values():
            digests = {windows.digest for windows in same}
            wanting = {self: digests, **{stage: ids & digests for stage, ids in others.items()}}
            stages = [stage for stage, ids in wanting.items() if ids]
            values = self._encode_windows(clip, same, stages)
            for stage, of_stage in zip(stages, values, strict=True):
                parts = of_stage.split([_num_windows(windows) for windows in same])
                rows = [
                    self._row(stage, windows, part)
                    for windows, part in zip(same, parts, strict=True)
                    if windows.digest in wanting[stage]
                ]
                yield stage, [row for row in rows if row]

    def _encode_windows(
        self, clip: CLIP, same: Sequence[Windows], stages: Sequence[Stage]
    ) -> list[Tensor]:
        """What each stage keeps of all windows of some images, on the CPU."""
        geometry = same[0].geometry
        together = torch.cat([windows.values for windows in same])
        passes = [
            [kept.to("cpu") for kept in self.encode(clip, Windows("", geometry, part), stages)]
            for part in together.split(self._full(clip, geometry))
        ]
        return [torch.cat(parts) for parts in zip(*passes, strict=True)]

    def _row(self, stage: Stage, windows: Windows, values: Tensor) -> NewRow | None:
        """A row of a stage, unless its numbers are none."""
        flat: NDArray[Any] = values.flatten(0, -2).numpy()
        if not np.isfinite(flat).all():
            error = ImageError(
                f"its features in {self.run.models.dtype} are not finite numbers: "
                "try --dtype fp32, and check the weights"
            )
            if stage is self:  # the others find out by themselves
                self.leave_out(windows.digest, error)
            return None
        return NewRow(windows.digest, flat, {"size": list(windows.geometry.original)})

    def geometry(self, size: Sequence[int]) -> Geometry:
        """The windows of an image of this height and width."""
        return Geometry.of(size[0], size[1], self.run.settings, self.run.models.spec.patch)


def _num_windows(windows: Windows) -> int:
    return windows.geometry.num_windows
