"""CLIP and the source of masks: found at once, loaded when first needed, once a device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from sclip_core.config import Settings
from sclip_core.config.methods import usual_second
from sclip_core.encoder import Attention, ModelSpec, check_protocol, find_model
from sclip_core.encoder.clip import CLIP
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.second_loading import SecondSpec, find_second, load_second
from sclip_core.masks.sources import SOURCES
from sclip_core.methods.method import Method
from sclip_core.methods.networks import wrong_patch
from sclip_core.store.digests import Digests
from sclip_core.tensors.device import DTYPES, find_device, find_dtype
from sclip_core.tensors.half import advice

if TYPE_CHECKING:  # segment_anything is an extra, and only methods that read SAM need it
    from sclip_core.masks.sam.last_block import SamTrunk
    from sclip_core.masks.sam.trunk_loading import TrunkSpec


class Models:
    """The models of a run, which other runs of the same command may share.

    Attributes:
        device: where they run.
        dtype: of their image towers: ``fp32``, ``bf16`` or ``fp16``.
        source: of masks.
    """

    def __init__(
        self,
        settings: Settings,
        digests: Digests,
        download: bool,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Find the device; neither find nor load a model.

        Args:
            settings: of a run.
            digests: of files.
            download: whether weights named by a tag may be fetched.
            note: called with what a user should know of the weights.

        Raises:
            UserError: no such device here.
        """
        self.device = find_device(settings.device)
        self.dtype = find_dtype(settings.dtype, self.device)
        self.source = SOURCES[settings.proposals](
            settings,
            settings.sam_checkpoint,
            download,
            settings.points_per_batch,
            settings.masks,
        )
        self._settings, self._digests, self._download = settings, digests, download
        self._note = note
        self._loaded: dict[tuple[str, torch.device, str | None], Any] = {}
        self._second_specs: dict[tuple[str, str | None], SecondSpec] = {}
        self._sam_specs: dict[tuple[str, str | None], TrunkSpec] = {}
        self._lock = Lock()
        self._advised = False

    @cached_property
    def spec(self) -> ModelSpec:
        """CLIP's architecture and weights file, found but not loaded."""
        named = self._settings.model, self._settings.pretrained
        spec = find_model(*named, self._download, self._digests.of)
        check_protocol(self._settings, spec.patch)
        for line in spec.notes:
            self._note(line)
        return spec

    @cached_property
    def weights_sha256(self) -> str:
        """The digest of the file of CLIP's weights."""
        return self._digests.of(self.spec.weights)

    @cached_property
    def masks_sha256(self) -> str | None:
        """Of the weights file of the source of masks; None: it has none."""
        weights = self.source.weights
        return self._digests.of(weights) if weights else None

    def clip(self, shard: int = 0) -> CLIP:
        """The CLIP of a shard's device.

        The attention that it was loaded with is that of one of the runs: pass the one to use.

        Raises:
            UserError: the weights are not the file any more whose digest is in the keys.
        """
        attention, device = Attention.parse(self._settings.attention), self._device_of(shard)
        return self._once(  # type: ignore[no-any-return]
            ("clip", device, self.weights_sha256),
            self.spec.weights,
            lambda: CLIP(self.spec, attention, device, self.dtype),
        )

    def advise(self, device: torch.device) -> None:
        """Say once what another dtype would save on a device, where it would save much."""
        with self._lock:
            said, self._advised = self._advised, True
        line = None if said else advice(self._settings.dtype, device)
        if line:
            self._note(line)

    def second_spec(self, settings: Settings) -> SecondSpec:
        """The second network of a run's method, found but not loaded.

        Raises:
            UserError: it is unknown, or its weights are not there.
        """
        named = settings.proxy_model or usual_second(settings.method), settings.proxy_weights
        if named not in self._second_specs:
            self._second_specs[named] = find_second(*named, download=self._download)
        return self._second_specs[named]

    def check_networks(self, settings: Settings, method: Method | None) -> None:
        """See that what a method reads beside CLIP is there and can serve it; load nothing.

        Raises:
            UserError: an unknown network, weights that are not there, patches of another size.
        """
        if method is None:
            return
        if method.second_taps:
            spec = self.second_spec(settings)
            if method.second_patch not in (None, spec.patch):
                raise wrong_patch(method, spec.name, spec.patch)
        if method.reads_sam:
            self.sam_spec(settings)

    def second_sha256(self, settings: Settings) -> str:
        """The digest of the file of the second network's weights."""
        return self._digests.of(self.second_spec(settings).weights)

    def second(
        self, settings: Settings, shard: int = 0, device: torch.device | None = None
    ) -> SecondNetwork:
        """The second network of a run's method, on a shard's device, or on one that is given.

        Raises:
            UserError: the weights do not fit, or are not the file any more that is in the keys.
        """
        spec, where = self.second_spec(settings), device or self._device_of(shard)
        key = f"second {spec.name}", where, self.second_sha256(settings)
        load = partial(load_second, spec, where, DTYPES[self.dtype])
        return self._once(key, spec.weights, load)  # type: ignore[no-any-return]

    def sam_spec(self, settings: Settings) -> TrunkSpec:
        """SAM's encoder for a method that reads it, found but not loaded.

        Raises:
            UserError: it is unknown, or its weights are not there.
        """
        from sclip_core.masks.sam.loading import library

        library()  # before anything is fetched for it
        from sclip_core.masks.sam.trunk_loading import find_trunk

        given = settings.sam_encoder or settings.sam_model
        weights = settings.sam_checkpoint
        named = given, str(weights) if weights else None
        if named not in self._sam_specs:
            self._sam_specs[named] = find_trunk(*named, download=self._download)
        return self._sam_specs[named]

    def sam_trunk_sha256(self, settings: Settings) -> str:
        """The digest of the file of SAM's weights."""
        return self._digests.of(self.sam_spec(settings).weights)

    def sam_trunk(
        self, settings: Settings, shard: int = 0, device: torch.device | None = None
    ) -> SamTrunk:
        """SAM's encoder for a method that reads it, on a shard's device, or on one that is given.

        Raises:
            UserError: the weights do not fit, or are not the file any more that is in the keys.
        """
        spec, where = self.sam_spec(settings), device or self._device_of(shard)
        from sclip_core.masks.sam.trunk_loading import load_trunk

        key = f"sam {spec.name}", where, self.sam_trunk_sha256(settings)
        load = partial(load_trunk, spec, where, DTYPES[self.dtype])
        return self._once(key, spec.weights, load)  # type: ignore[no-any-return]

    def proposer(self, shard: int = 0) -> Any:
        """The source of masks on a shard's device; a ``MaskGenerator`` where it is SAM.

        Raises:
            UserError: the weights are not the file any more whose digest is in the keys.
        """
        device = self._device_of(shard)
        return self._once(
            ("masks", device, self.masks_sha256),
            self.source.weights,
            lambda: self.source.open(device, DTYPES[self.dtype]),
        )

    def _once(
        self,
        key: tuple[str, torch.device, str | None],
        weights: Path | None,
        load: Callable[[], Any],
    ) -> Any:
        """What is kept under a key, loaded if need be: from the weights that the key is of."""
        sha256 = key[-1]
        with self._lock:
            if key not in self._loaded:
                same = self._digests.unchanged(weights, sha256) if weights and sha256 else None
                with same or nullcontext():
                    loaded = load()
                self._loaded[key] = loaded
            return self._loaded[key]

    @property
    def device_count(self) -> int:
        """How many GPUs shards are spread over; 1 where a device is named or there is one."""
        spread = self.device == torch.device("cuda")
        return max(1, torch.cuda.device_count()) if spread else 1

    def _device_of(self, shard: int) -> torch.device:
        """Shards go to the GPUs in turn."""
        if self.device_count > 1:
            return torch.device("cuda", shard % self.device_count)
        return self.device
