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
DARKEST = 1 / 255  # below it floats of 0 to 1 would be black, and so would those of 0 to 255


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
    """An RGB image (H, W, 3) uint8 of an array, a tensor or a PIL image.

    Arrays are (H, W, 3); tensors are (3, H, W), as torch has them, or (H, W, 3), which their shape
    tells. Both are uint8 or, as ``ToTensor`` and matplotlib give them, floats from 0 to 1. Of a PIL
    image the pixels are taken as they lie: a tag that would turn it is not followed.

    Raises:
        UserError: it is something else, or its layout or its scale is not clear.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
    is_tensor = isinstance(image, Tensor)
    array = _numbers(image) if is_tensor else image
    if not isinstance(array, np.ndarray):
        raise _no_image(type(image).__name__)
    kind = "tensor" if is_tensor else "array"
    name = str(image.dtype).removeprefix("torch.")
    found = f"{name} {kind} of shape {tuple(array.shape)}"
    if is_tensor and array.ndim == 3 and array.shape[0] == 3:
        if array.shape[2] == 3:
            raise _no_image(f"{found}, in which the channels may be first or last: pass an array")
        array = array.transpose(1, 2, 0)
    if array.shape[2:] != (3,) or not array.size:
        raise _no_image(found + _hint(array.shape))
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise _no_image(found)
    return _from_unit(array, found)


def _numbers(image: Tensor) -> NDArray[Any]:
    """A tensor of any device as an array; NumPy has no bfloat16."""
    image = image.detach().cpu()
    return (image.float() if image.is_floating_point() else image).numpy()


def _from_unit(array: NDArray[Any], found: str) -> NDArray[np.uint8]:
    """Floats from 0 to 1 as uint8.

    Raises:
        UserError: they are not on this scale, or so dark that they may be on another.
    """
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1 and high > DARKEST):  # NaN is none of these
        raise _no_image(
            f"{found} with values from {low:.4g} to {high:.4g}, where floats should go from 0 to "
            "1, neither normalised nor divided by 255 twice"
        )
    return np.asarray((array * 255).round(), np.uint8)


def _hint(shape: tuple[int, ...]) -> str:
    """What is likely meant by an array of another shape."""
    if len(shape) == 4:
        return "; for several images pass a list of them"
    if len(shape) == 3 and shape[0] == 3:
        return "; channels come last: image.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 4:
        return "; leave the fourth channel out: image[..., :3]"
    return "; of grey: np.stack([image] * 3, axis=-1)" if len(shape) == 2 else ""


def _no_image(found: str) -> UserError:
    return UserError(
        "expected an RGB image, uint8 of shape (H, W, 3), floats of 0 to 1, a tensor (3, H, W), a "
        f"PIL image or the path of a file; found {found}"
    )


def check_mode(image: Image.Image) -> None:
    """Refuse a PIL image of numbers beyond 255, which PIL would clip: almost all white.

    Raises:
        UserError: it is one of 16 or 32 bits a channel.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise UserError(
            f"a PIL image of mode {image.mode}, whose numbers go beyond 255: scale it to 8 bits, "
            "or pass the path of its file"
        )


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    """A PIL image as an array; PIL decodes it only here."""
    check_mode(image)
    try:
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # ValueError: no way from LAB to RGB
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
