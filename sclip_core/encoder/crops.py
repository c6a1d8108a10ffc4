"""Masked crops of an image, for CLIP's own image embedding.

A mask's crop is the square around its box, so that nothing is cut off or stretched; outside of the
mask it has the mean colour, which normalises to zero. It is resized as CLIP's training images were,
bicubic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sclip_core.encoder.pixels import normalise


def masked_crop(
    image: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    corner: tuple[int, int],
    side: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """The crop of a mask, ready for CLIP.

    Args:
        image: (H, W, 3) uint8 RGB.
        inside: (h, w) bool, the mask within its box.
        corner: row and column of the box in the image.
        side: of the result, in pixels.
        mean: of the model's training images, for each channel, on the 0–255 scale.
        std: of them, on the same scale.

    Returns:
        (3, side, side) float32, normalised.
    """
    height, width = inside.shape
    top, left = corner
    square = max(height, width)
    filled = np.empty((square, square, 3), np.uint8)
    filled[:] = np.round(mean)
    down, across = (square - height) // 2, (square - width) // 2
    box = filled[down : down + height, across : across + width]
    box[inside] = image[top : top + height, left : left + width][inside]
    resized = Image.fromarray(filled).resize((side, side), Image.Resampling.BICUBIC)
    return normalise(np.asarray(resized), mean, std)
