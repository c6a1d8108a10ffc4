"""Features of an image by a method, from the taps of its windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError, UserError
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.encoder.taps import Tap
from sclip_core.methods.method import Method, Scene
from sclip_core.tensors import is_finite


class Extra:
    """What a method reads of an image beside CLIP's taps; asked for only where it does.

    Attributes:
        network: the second network, or None.
        second: what it gives, by name.
        sam: SAM's encoder, or None.
        words: the words' vectors (Q, D), or None.
        regions: the id map (H, W), or None.
    """

    def __init__(
        self,
        network: Any = None,
        second: Mapping[str, Tensor] | None = None,
        sam: Any = None,
        words: Tensor | None = None,
        regions: Tensor | None = None,
    ) -> None:
        """Keep what the method reads."""
        self.network, self.second, self.sam = network, dict(second or {}), sam
        self.words, self.regions = words, regions

    @property
    def patch(self) -> int:
        """Side of a patch of the second network; 0 without one."""
        return int(self.network.patch) if self.network is not None else 0


@torch.no_grad()
def features_of(
    method: Method,
    encoder: DenseEncoder,
    geometry: Geometry,
    taps: Mapping[Tap, Tensor],
    pixels: Callable[[], Tensor],
    extra: Extra,
) -> Tensor:
    """The features of an image by a method.

    Args:
        method: with its parameters.
        encoder: CLIP's.
        geometry: of the image's windows.
        taps: what the method reads of the tower, each (views·windows, 1+N, width).
        pixels: gives the windows, (windows, 3, h, w), normalised.
        extra: what else it reads.

    Returns:
        (windows, rows, columns, D) float32, on the encoder's device; see ``Method.features``.

    Raises:
        UserError: the method returned another shape, or numbers that are not finite.
    """
    device = encoder.device
    scene = Scene(
        geometry=geometry,
        tower=encoder.tower_on(geometry.tokens),
        taps={tap: taps[tap].to(device).float() for tap in method.taps(encoder.tower.layers)},
        pixels=pixels,
        network=extra.network,
        second={name: value.to(device).float() for name, value in extra.second.items()},
        sam=extra.sam,
        words=None if extra.words is None else extra.words.to(device),
        regions=None if extra.regions is None else extra.regions.to(device),
    )
    found = method.features(scene)
    layout = method.layout(geometry, extra.patch)
    expected = (layout.num_windows, *layout.tokens, encoder.width)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"method '{method.name}' returned {kind}: expected (windows, rows, columns, D) = "
            f"{expected}"
        )
    if not is_finite(found):
        raise ImageError(
            f"its features by method '{method.name}' are not finite numbers: try --dtype fp32, "
            "and check the weights"
        )
    return found.float()
