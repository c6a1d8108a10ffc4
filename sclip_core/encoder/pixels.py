"""From an RGB image to the pixels that CLIP takes: docs/protocol.md, section 2."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.config import Geometry, Protocol, UserError

# The reference's constants on the 0–255 scale: OpenAI's mean and std, rounded.
MEAN = (122.771, 116.746, 104.094)
STD = (68.501, 66.632, 70.323)


def check_protocol(protocol: Protocol, patch: int) -> None:
    """Check, before an image is read, that images and windows hold at least one patch.

    Args:
        protocol: ``slide_crop`` and ``short_side``.
        patch: side of a patch of the model, in pixels.

    Raises:
        UserError: ``slide_crop`` or ``short_side`` is smaller than a patch.
    """
    sides = {"short_side": protocol.short_side, "slide_crop": protocol.slide_crop or patch}
    for name, side in sides.items():
        if side < patch:
            whole = ", or 0 for the whole image at once" if name == "slide_crop" else ""
            raise UserError(
                f"{name}={side} is smaller than a patch of the model, {patch} pixels: "
                f"take at least that{whole}"
            )


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """Check an (H, W, 3) uint8 RGB array, or convert a PIL image to one.

    Raises:
        UserError: it is something else; a path is read with ``sclip_core.read_image``.
    """
    if isinstance(image, Image.Image):
        image = _from_pil(image)
    is_array = isinstance(image, np.ndarray)
    if is_array and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        rgb: NDArray[np.uint8] = image
        return rgb
    found = f"{image.dtype} array of shape {image.shape}" if is_array else type(image).__name__
    raise UserError(
        f"expected an RGB image, uint8 of shape (H, W, 3), or a PIL image; found {found}. "
        "A file is read with sclip_core.read_image(path)"
    )


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    """A PIL image as an array; PIL decodes it only here."""
    try:
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"the PIL image cannot be decoded: {error}") from None


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 to (height, width) with cv2's bilinear, without antialias."""
    height, width = size
    if image.shape[:2] == size:
        return image
    resized: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def normalise(
    image: NDArray[np.uint8],
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
) -> Tensor:
    """(H, W, 3) uint8 to a float32 tensor (3, H, W): (value - mean) / std, on the 0–255 scale."""
    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)
    centre, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (pixels - centre) / scale


def cut_windows(pixels: Tensor, geometry: Geometry) -> Tensor:
    """Cut the windows out of a resized image.

    Args:
        pixels: (3, h, w), the normalised resized image.
        geometry: where the windows lie.

    Returns:
        (windows, 3, height, width) with their padding, row by row. It is 0: the mean colour.
    """
    height, width = geometry.window
    top, bottom, left, right = geometry.padding
    windows = torch.stack(
        [pixels[:, y : y + height, x : x + width] for y in geometry.tops for x in geometry.lefts]
    )
    return pad(windows, (left, right, top, bottom)) if any(geometry.padding) else windows
