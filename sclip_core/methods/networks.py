"""The networks that methods read beside CLIP, found and loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, UserError
from sclip_core.config.methods import usual_second
from sclip_core.encoder.clip import default_batch_size
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.second_loading import find_second, load_second
from sclip_core.methods.features import Extra
from sclip_core.methods.method import Method

if TYPE_CHECKING:  # segment_anything is an extra, and only methods that read SAM need it
    from sclip_core.masks.sam.last_block import SamTrunk


class Networks:
    """A second network and SAM's encoder, for single images."""

    def __init__(
        self,
        proxy: str | None = None,
        proxy_pretrained: str | None = None,
        sam: str | None = None,
        sam_pretrained: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Load nothing yet; arguments as of ``SCLIP.load``."""
        self._proxy, self._sam = (proxy, proxy_pretrained), (sam or "vit_b", sam_pretrained)
        self._device, self._dtype = torch.device(device), dtype
        self._loaded: dict[tuple[str | None, ...], Any] = {}

    def second(self, method: Method) -> SecondNetwork:
        """The second network of a method.

        Raises:
            UserError: it is unknown, or its weights cannot be had or do not fit.
        """
        name, weights = self._proxy[0] or usual_second(method.name), self._proxy[1]
        found: SecondNetwork = self._once(
            (name, weights), lambda: load_second(find_second(name, weights), *self._where)
        )
        if method.second_patch not in (None, found.patch):
            raise wrong_patch(method, name, found.patch)
        return found

    def sam(self) -> SamTrunk:
        """SAM's encoder.

        Raises:
            UserError: it is unknown, or its weights cannot be had or do not fit.
        """
        from sclip_core.masks.sam.loading import library

        library()  # before anything is fetched for it
        from sclip_core.masks.sam.trunk_loading import find_trunk, load_trunk

        named = self._sam
        found: SamTrunk = self._once(
            ("sam", *named), lambda: load_trunk(find_trunk(*named), *self._where)
        )
        return found

    @property
    def _where(self) -> tuple[torch.device, torch.dtype]:
        return self._device, self._dtype

    def _once(self, key: tuple[str | None, ...], load: Callable[[], Any]) -> Any:
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]

    def load_for(self, method: Method) -> None:
        """Load what a method needs, so that what is wrong with it is said at once."""
        if method.second_taps:
            self.second(method)
        if method.reads_sam:
            self.sam()

    def extra(
        self,
        method: Method,
        image: NDArray[np.uint8],
        geometry: Geometry,
        windows: Tensor,
        words: Tensor,
        regions: NDArray[np.integer[Any]] | None,
    ) -> Extra:
        """What a method reads of an image beside CLIP's taps.

        Args:
            method: whose.
            image: (H, W, 3) uint8 RGB.
            geometry: of its windows.
            windows: (windows, 3, h, w), CLIP-normalised.
            words: (Q, D).
            regions: id map (H, W), or None.

        Raises:
            UserError: the method reads masks and there are none; a network cannot be had.
        """
        second: dict[str, Tensor] = {}
        network = self.second(method) if method.second_taps else None
        if network is not None:
            size = default_batch_size(self._device, geometry.frame, network.patch)
            passes = [
                network.taps(network.prepare(part.to(self._device)), method.second_taps)
                for part in windows.split(size)
            ]
            second = {name: torch.cat([p[name] for p in passes]) for name in method.second_taps}
        sam = self.sam() if method.reads_sam else None
        if sam is not None:
            second["sam"] = sam.input(image, halves=bool(getattr(method, "halves", False)))
        return Extra(
            network=network,
            second=second,
            sam=sam,
            words=words if method.reads_words else None,
            regions=torch.from_numpy(np.asarray(regions, np.int64))
            if regions is not None
            else None,
        )


def wrong_patch(method: Method, name: str, patch: int) -> UserError:
    """The error of a second network whose patches a method cannot use."""
    return UserError(
        f"method '{method.name}' needs a second network with patches of {method.second_patch} "
        f"pixels, and {name} has {patch}: take {usual_second(method.name)}"
    )
