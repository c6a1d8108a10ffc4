"""Stage ``proxy_features``: images to what a second network gives of them, DINO or SAM's encoder.

Only where the run's method reads one. A table for each tap of the network: several methods may
share it, and other parameters of a method, or another method that reads the same, need no network.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import default_batch_size, resized_pixels
from sclip_core.encoder.pixels import cut_windows
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.trunk import STORED
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table
from sclip_core.tensors import is_finite

SAM = "sam"


class ProxyFeaturesStage(SharingStage):
    """One row an image: a tap of the second network, window by window."""

    name = "proxy_features"
    version = 1
    shardable = True
    sees_images = True

    def __init__(self, run: Run, part: str) -> None:
        """Keep one tap.

        Args:
            run: what all stages share.
            part: of ``Method.second_taps``; or ``sam``.
        """
        super().__init__(run)
        self._part = part

    @property
    def part(self) -> str:
        """The tap."""
        return self._part

    @property
    def of_sam(self) -> bool:
        """Whether the network is SAM's encoder, which sees the image and no windows."""
        return self._part == SAM

    def settings(self) -> dict[str, Any]:
        """The network, its dtype and the tap; of a DINO the windows and their pixels."""
        settings, models = self.run.settings, self.run.models
        dtype = {"dtype": models.dtype, "tap": self._part}
        if self.of_sam:
            spec = models.sam_spec(settings)
            network = {"network": spec.arguments or spec.name}
            return {**network, **dtype, **({"halves": True} if self._halves else {})}
        whole = settings.slide_crop == 0
        return {
            "network": models.second_spec(settings).config,
            **dtype,
            "mean": list(models.spec.mean),
            "std": list(models.spec.std),
            "short_side": None if settings.tile else settings.short_side,
            **({"tile": True} if settings.tile else {}),
            "slide_crop": settings.slide_crop,
            "slide_stride": None if whole else settings.slide_stride,
            "window_multiple": settings.window_multiple,
            "image_multiple": settings.image_multiple,
            "patch": models.spec.patch,
        }

    @property
    def _halves(self) -> bool:
        """Whether SAM sees the two halves of the image apart."""
        return bool(getattr(self.run.chosen.method, "halves", False))

    def pass_settings(self) -> dict[str, Any]:
        """All but the tap."""
        settings = {key: value for key, value in self.settings().items() if key != "tap"}
        return {**settings, "weights": self.weights_sha256(), "sam": self.of_sam}

    def weights_sha256(self) -> str:
        """The digest of the second network's weights."""
        models, settings = self.run.models, self.run.settings
        return models.sam_trunk_sha256(settings) if self.of_sam else models.second_sha256(settings)

    @cached_property
    def table(self) -> ArrayTable:
        """(tokens, C) an image, in the network's own dtype."""
        return array_table(self.artifact, self._dtype, None, compress=False)

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Run the network, image by image."""
        lacking: dict[str, list[ProxyFeaturesStage]] = defaultdict(lambda: [self])
        for other, digests in others.items():
            assert isinstance(other, ProxyFeaturesStage)
            for digest in digests:
                lacking[digest].append(other)
        of_image = self._by_sam(shard) if self.of_sam else self._by_windows(shard)
        for digest, loaded in self.loaded(self._read_image, ids):
            stages = lacking[digest]
            found = of_image(loaded, [stage.part for stage in stages])
            size = {"size": list(loaded.shape[:2])}
            for stage in stages:
                values = found[stage.part].float().cpu()
                if not is_finite(values):
                    if stage is self:
                        self.leave_out(digest, _not_finite(self.run.models.dtype))
                    continue
                row = values.flatten().numpy().astype(self._dtype)
                yield stage, [NewRow(digest, row, {**size, "shape": list(values.shape)})]

    @property
    def _dtype(self) -> str:
        return STORED[self.run.models.dtype]

    def _read_image(self, digest: str) -> Any:
        return self.run.inputs.image(digest)

    def _by_sam(self, shard: int) -> Any:
        """What gives SAM's tokens of an image."""
        trunk = self.run.models.sam_trunk(self.run.settings, shard)
        return lambda image, parts: {SAM: trunk.input(image, self._halves)}

    def _by_windows(self, shard: int) -> Any:
        """What gives the taps of an image's windows."""
        network = self.run.models.second(self.run.settings, shard)
        given = self.run.settings.batch_size

        def taps(image: Any, parts: Sequence[str]) -> dict[str, Tensor]:
            geometry = self.geometry(image.shape[:2])
            pixels = resized_pixels(image, geometry, self.run.models.spec)
            windows = cut_windows(pixels, geometry).to(network.device)
            size = given or default_batch_size(network.device, geometry.frame, network.patch)
            passes = [network.taps(network.prepare(p), parts) for p in windows.split(size)]
            return {part: torch.cat([one[part] for one in passes]) for part in parts}

        return taps

    def geometry(self, size: Sequence[int]) -> Geometry:
        """The windows of an image of this height and width."""
        return Geometry.of(size[0], size[1], self.run.settings, self.run.models.spec.patch)

    def read(self, row: Row) -> Tensor:
        """A tap of an image: (windows, rows, columns, C) float32; of SAM (1 or 2, S, S, C)."""
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        shape = row.meta.get("shape")
        if not isinstance(shape, list) or math.prod(shape) != values.numel():
            raise self.table.damaged(row)
        return values.view(shape)


def _not_finite(dtype: str) -> ImageError:
    return ImageError(
        f"the second network's features in {dtype} are not finite numbers: try --dtype fp32, and "
        "check the weights"
    )
