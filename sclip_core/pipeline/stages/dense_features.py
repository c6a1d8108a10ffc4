"""Stage ``dense_features``: images to the features of their patches, in fp16 or fp32.

Depends on the images and the model alone, never on labels or thresholds; on words or masks only
where the method does. Several methods share one pass through the tower; where its taps were kept,
no block before the last runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import CLIP
from sclip_core.encoder.pixels import cut_windows
from sclip_core.encoder.taps import Tap, union
from sclip_core.methods.features import Extra, features_of
from sclip_core.methods.method import Method
from sclip_core.methods.registry import identity_of
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.encoding import EncodingStage, Taps, Windows
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.pipeline.stages.proxy_features import ProxyFeaturesStage
from sclip_core.pipeline.stages.text_bank import TextBankStage
from sclip_core.pipeline.stages.trunk import TrunkStage, layers_of
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table


class DenseFeaturesStage(EncodingStage):
    """One row an image: its patches, row by row, window by window."""

    name = "dense_features"
    version = 1

    def __init__(
        self,
        run: Run,
        taps: Sequence[TrunkStage] = (),
        bank: TextBankStage | None = None,
        proposals: ProposalsStage | None = None,
        second: Sequence[ProxyFeaturesStage] = (),
    ) -> None:
        """Connect the stage to what the run's method reads.

        Args:
            run: what all stages share.
            taps: kept taps save work where they are there.
            bank: words, where the features depend on them.
            proposals: masks, likewise.
            second: features of a second network, likewise.
        """
        method = run.chosen.method
        self._bank = bank if method and method.reads_words else None
        self._proposals = proposals if method and method.reads_masks else None
        read = [stage for stage in (self._bank, self._proposals) if stage]
        super().__init__(run, *read, *second, kept=tuple(taps))
        self._taps, self._second = tuple(taps), tuple(second)

    @property
    def method(self) -> Method | None:
        """The run's method; None: an attention of the last block."""
        return self.run.chosen.method

    @property
    def needed(self) -> tuple[Tap, ...]:
        """What the method reads; an attention: what the last block does."""
        layers = layers_of(self.run)
        return self.method.taps(layers) if self.method else (Tap.of(layers - 1),)

    def settings(self) -> dict[str, Any]:
        """Those of the tower, and the method's; of a user's code also a digest of it."""
        last: dict[str, Any] = {"embed_dim": self.run.models.spec.config["embed_dim"]}
        if self.method:
            return {**super().settings(), **last, **identity_of(self.method)}
        attention = self.run.chosen.attention
        last["attention"] = str(attention)
        if attention.code is not None:
            last["attention_code"] = attention.code
        return {**super().settings(), **last}

    @cached_property
    def table(self) -> ArrayTable:  # type: ignore[override]
        """(patches, D) an image."""
        dtype = "float32" if self.stored_as == torch.float32 else "float16"
        return array_table(self.artifact, dtype, self.run.models.spec.width, compress=False)

    @property
    def stored_as(self) -> torch.dtype:
        """fp16; of a method in fp32 just that.

        In fp16 up to 4 in 10,000 pixels of the methods' golden images have another label.
        Attentions have been stored in fp16 from the first.
        """
        exact = self.method is not None and self.run.models.dtype == "fp32"
        return torch.float32 if exact else torch.float16

    def loader(self, clip: CLIP, together: Sequence[Stage]) -> Callable[[str], Windows]:
        """Reads what was kept of an image's taps, or its windows; arguments as there."""
        several = [stage for stage in together if isinstance(stage, DenseFeaturesStage)]
        wanted = union(stage.needed for stage in several)
        taps = {kept.tap: kept for stage in reversed(several) for kept in stage._taps}
        rows = {tap: (stage, stage.rows()) for tap, stage in taps.items()}
        cut = super().loader(clip, together)

        def load(digest: str) -> Windows:
            """The taps of an image where all are kept, else the pixels of its windows."""
            kept = {}
            for tap in wanted:
                stage, there = rows[tap]
                found = self.kept_of(digest, stage, there)
                if found is None:
                    return cut(digest)
                geometry, kept[tap] = found
            return Windows(digest, geometry, None, kept)

        return load

    def of_pass(
        self, clip: CLIP, taps: Taps, grid: tuple[int, int], stages: Sequence[Stage]
    ) -> dict[Stage, Tensor]:
        """Features by the stages whose method is an attention."""
        plain = [s for s in stages if isinstance(s, DenseFeaturesStage) and s.method is None]
        if not plain:
            return {}
        (tap,) = plain[0].needed
        attentions = [stage.run.chosen.attention for stage in plain]
        features = clip.encoder.features_from(taps[tap], grid, attentions)
        return {stage: one.to(stage.stored_as) for stage, one in zip(plain, features, strict=True)}

    def of_image(self, clip: CLIP, windows: Windows, taps: Taps) -> tuple[Tensor, Geometry] | None:
        """Features of an image by the method."""
        assert self.method is not None
        geometry = windows.geometry

        def pixels() -> Tensor:
            if windows.pixels is not None:
                return windows.pixels[: geometry.num_windows]
            return cut_windows(
                clip.pixels(self.run.inputs.image(windows.digest), geometry), geometry
            )

        try:
            extra = self._extra(windows.digest, clip.device)
            found = features_of(self.method, clip.encoder, geometry, taps, pixels, extra)
        except ImageError as error:
            self.leave_out(windows.digest, error)
            return None
        return found.to(self.stored_as), geometry

    def _extra(self, digest: str, device: torch.device) -> Extra:
        """What else the method reads of an image; networks on the device of CLIP."""
        method, models, settings = self.method, self.run.models, self.run.settings
        assert method is not None
        regions = words = None
        if self._proposals is not None:
            masks = self._proposals.read(self._proposals.row(digest, self._proposals.rows()))
            regions = torch.from_numpy(masks.id_map(in_order=settings.proposals == "files"))
        if self._bank is not None:
            words = self._words
        second = {stage.part: stage.read(stage.row(digest, stage.rows())) for stage in self._second}
        loaded = method.second_taps and method.reads_network
        network = models.second(settings, device=device) if loaded else None
        sam = models.sam_trunk(settings, device=device) if method.reads_sam else None
        return Extra(network, second, sam, words, regions, self._second_patch)

    @property
    def _second_patch(self) -> int:
        """Side of a patch of the second network; 0 without one."""
        reads = self.method is not None and self.method.second_taps
        return self.run.models.second_spec(self.run.settings).patch if reads else 0

    @cached_property
    def _words(self) -> Tensor:
        assert self._bank is not None
        return self._bank.bank().embeddings

    def layout(self, size: Sequence[int]) -> Geometry:
        """How the features of an image of this height and width lie."""
        geometry = self.geometry(size)
        if self.method is None:
            return geometry
        return self.method.layout(geometry, self._second_patch)

    def read(self, row: Row) -> tuple[Geometry, Tensor]:
        """Features of an image as the stitcher takes them.

        Returns:
            How they lie, and (windows, rows, columns, D) float32 on the CPU.
        """
        geometry = self.layout(self.table.size_of(row))
        values = torch.from_numpy(self.table.read(row).astype(np.float32))
        if len(values) != geometry.num_windows * math.prod(geometry.tokens):
            raise self.table.damaged(row)
        return geometry, values.view(geometry.num_windows, *geometry.tokens, -1)
