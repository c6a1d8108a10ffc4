"""What a point of an image attends to: the last block's weights, stitched to the image's size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sclip_core.config import Geometry, UserError
from sclip_core.encoder.attention import BUILT_IN
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.encoder.lazy import LazyWindows
from sclip_core.encoder.weights import attention_weights
from sclip_core.methods.registry import Chosen, method_class
from sclip_core.segmentation.stitch import spread_matrix


class Seen(NamedTuple):
    """A window along one axis that contains a point."""

    window: int
    token: int  # the patch, along that axis, that the point's label is read from


def attended(
    encoder: DenseEncoder,
    chosen: Chosen,
    geometry: Geometry,
    windows: Tensor | LazyWindows,
    point: tuple[int, int],
) -> Tensor:
    """How much each pixel's patch contributes to the patch of a point, in the last block.

    Args:
        encoder: of the model.
        chosen: an attention; a method has none.
        geometry: of the windows.
        windows: (windows, 3, h, w), normalised.
        point: row and column of a pixel of the original image.

    Returns:
        (heads, H, W) float32: the weight of the patch at each pixel, bilinear between patches; the
        mean of the windows that contain the point, 0 where none of them reaches.

    Raises:
        UserError: a method, a point outside of the image, or an attention without weights.
    """
    check_attends(chosen.method.name if chosen.method else None)
    check_point(point, geometry.original)
    down, across = (_containing(geometry, axis, point[axis]) for axis in (0, 1))
    numbers = [a.window * len(geometry.lefts) + b.window for a in down for b in across]
    tokens = [a.token * geometry.tokens[1] + b.token for a in down for b in across]
    pixels = torch.cat([windows[number : number + 1] for number in numbers])
    weights = attention_weights(encoder, chosen.attention, pixels, tokens)
    of_patches = weights[..., encoder.backbone.prefix :].unflatten(-1, geometry.tokens)
    by_window = of_patches.unflatten(0, (len(down), len(across)))
    mosaic = by_window.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    rows, columns = (
        spread_matrix(geometry, axis, [each.window for each in seen])
        for axis, seen in enumerate((down, across))
    )
    spread: Tensor = rows @ mosaic @ columns.T / len(numbers)
    return spread


def check_attends(method: str | None) -> None:
    """Refuse a method that is no attention of the last block.

    Raises:
        UserError: it is none.
    """
    if method is not None and method_class(method) is not None:
        raise UserError(
            f"method '{method}' has no attention of one block to show: "
            f"take {', '.join(name for name in BUILT_IN if name != 'maskclip')}"
        )


def check_point(point: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse a point outside of an image.

    Raises:
        UserError: it is.
    """
    (y, x), (height, width) = point, size
    if not (0 <= y < height and 0 <= x < width):
        raise UserError(
            f"the point {y},{x} is outside of the image: expected a row of 0 to {height - 1} and "
            f"a column of 0 to {width - 1}"
        )


def _containing(geometry: Geometry, axis: int, pixel: int) -> list[Seen]:
    """The windows that contain a pixel of the original image, along one axis."""
    starts, window = (geometry.tops, geometry.lefts)[axis], geometry.window[axis]
    place = (pixel + 0.5) * geometry.resized[axis] / geometry.original[axis]
    tokens = geometry.tokens[axis]
    of_pixel = tokens / geometry.frame[axis]  # as the stitcher lays them, the last one wider
    before = geometry.padding[2 * axis]
    return [
        Seen(number, min(int((place - start + before) * of_pixel), tokens - 1))
        for number, start in enumerate(starts)
        if start <= place < start + window
    ]
