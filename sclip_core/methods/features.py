"""Features of an image by a method, from the taps of its windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError, UserError
from sclip_core.config.own_code import of_user
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
        patch: side of a patch of the second network; 0 without one.
    """

    def __init__(
        self,
        network: Any = None,
        second: Mapping[str, Tensor] | None = None,
        sam: Any = None,
        words: Tensor | None = None,
        regions: Tensor | None = None,
        patch: int | None = None,
    ) -> None:
        """Keep what the method reads; without ``patch`` it is the network's."""
        self.network, self.second, self.sam = network, dict(second or {}), sam
        self.words, self.regions = words, regions
        own = network.patch if network is not None else 0
        self.patch = int(own if patch is None else patch)


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
    device, own = encoder.device, is_own(method)

    def given(value: Tensor | None) -> Tensor | None:
        """A tensor on the device; to a user's method, which may spoil it, a copy."""
        moved = None if value is None else value.to(device)
        return moved.clone() if own and moved is not None and moved is value else moved

    wanted = method.taps(encoder.tower.layers)
    scene = Scene(
        geometry=geometry,
        taps={tap: _floats(taps[tap], device, own) for tap in wanted},
        pixels=(lambda: pixels().clone()) if own else pixels,
        tower=encoder.tower_on(geometry.tokens),
        network=extra.network,
        second={name: _floats(value, device, own) for name, value in extra.second.items()},
        sam=extra.sam,
        words=given(extra.words),
        regions=given(extra.regions),
    )
    what = f"method '{method.name}'"
    with of_user(what, getattr(method, "function", type(method))) if own else nullcontext():
        found = method.features(scene)
    layout = method.layout(geometry, extra.patch)
    expected = (layout.num_windows, *layout.tokens, encoder.width)
    _check(what, found, expected, own and all(is_finite(taps[tap]) for tap in wanted))
    return found.float().to(device)


def _check(what: str, found: Any, expected: tuple[int, ...], by_user: bool) -> None:
    """Refuse what a method must not return; ``by_user``: NaN can only be its own."""
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"{what} returned {kind}: expected (windows, rows, columns, D) = {expected}"
        )
    if not found.is_floating_point():
        raise UserError(f"{what} returned {found.dtype}: expected numbers of torch.float32")
    if is_finite(found):
        return
    if by_user:
        raise UserError(
            f"{what} returned numbers that are not finite, for taps that are: look for a division "
            "by 0 or an overflow in it"
        )
    raise ImageError(
        f"its features by {what} are not finite numbers: try --dtype fp32, and check the weights"
    )


def is_own(method: Method) -> bool:
    """Whether a method is a user's."""
    return not type(method).__module__.startswith("sclip_core.")


def _floats(value: Tensor, device: torch.device, own: bool) -> Tensor:
    """float32 on a device; for a user's method, which may spoil it, always a copy."""
    moved = value.to(device).float()
    return moved.clone() if own and moved is value else moved
