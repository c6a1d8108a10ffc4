"""The images that SAM's encoder gets in Trident, and where they lie in its input.

docs/methods.md, Trident. Sides are rounded up to multiples of 16, as Trident's public code does,
then the longest is resized as SAM's own code does.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

MEAN = (123.675, 116.28, 103.53)  # of each channel, on the 0–255 scale
STD = (58.395, 57.12, 57.375)
PATCH = 16  # pixels
SIDE = 1024  # of the square input of Meta's encoders, pixels


def parts(image: NDArray[np.uint8], halves: bool = False) -> list[NDArray[np.uint8]]:
    """What is encoded of an image: itself at multiples of 16 pixels, or its two halves.

    Args:
        image: (H, W, 3) uint8 RGB.
        halves: the left and the right one, cut after the resize.
    """
    height, width = _multiples(*image.shape[:2])
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return [image[:, : width // 2], image[:, width // 2 :]] if halves else [image]


def part_size(height: int, width: int, halves: bool = False) -> tuple[int, int]:
    """Height and width in pixels of each part of an image of this size."""
    height, width = _multiples(height, width)
    return height, width // 2 if halves else width


def framed_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """Height and width of a part in SAM's input, whose longest side it fills; rounded as SAM's."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def framed(part: NDArray[np.uint8], side: int = SIDE) -> Tensor:
    """A part as SAM's encoder takes it: (3, side, side) float32, padded below and on the right."""
    height, width = framed_size(part.shape[0], part.shape[1], side)
    # PIL's bilinear resize, which is not cv2's: it averages where it shrinks.
    resized = Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized, np.float32)).permute(2, 0, 1)
    centre, scale = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return pad((pixels - centre) / scale, (0, side - width, 0, side - height))


def valid_grid(height: int, width: int, halves: bool = False, side: int = SIDE) -> tuple[int, int]:
    """Rows and columns of whole patches that a part of an image covers, at least one.

    Args:
        height: of the image file, pixels.
        width: of it.
        halves: whether its halves are encoded, each by itself.
        side: of the encoder's square input, pixels.
    """
    rows, columns = (
        # An image of an extreme shape is thinner than a patch; what lies beside it is padding.
        max(1, size // PATCH)
        for size in framed_size(*part_size(height, width, halves), side)
    )
    return rows, columns


def _multiples(height: int, width: int) -> tuple[int, int]:
    return -(-height // PATCH) * PATCH, -(-width // PATCH) * PATCH
