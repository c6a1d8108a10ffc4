"""Heat maps of similarities, drawn over a photo in a perceptually ordered colour map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing.panels import in_grey

COLOURS = cv2.COLORMAP_INFERNO  # brightness rises with the value: safe for colour-blind eyes
OPACITY = 0.7


def heated(photo: Image.Image, values: NDArray[np.float32]) -> Image.Image:
    """The photo in grey under a map in colours that span its lowest to its highest value.

    Args:
        photo: the image, resized.
        values: (H, W) float32, H and W those of the image before it was resized.
    """
    how = cv2.INTER_AREA if photo.width < values.shape[1] else cv2.INTER_LINEAR
    shown = cv2.resize(values, photo.size, interpolation=how)
    low, high = span(values)
    share = (shown - low) / (high - low) if high > low else np.zeros_like(shown)
    return _blended(in_grey(photo), _coloured(share))


def scale_bar(width: int, height: int) -> Image.Image:
    """The colours of a heat map on mid-grey, the lowest value on the left."""
    share = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    return _blended(in_grey(Image.new("L", (width, height), 128)), _coloured(share))


def span(values: NDArray[np.float32]) -> tuple[float, float]:
    """The lowest and the highest value of a map."""
    return float(values.min()), float(values.max())


def _coloured(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of values (H, W) in 0..1."""
    steps = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(steps, COLOURS)[..., ::-1], np.uint8)


def _blended(grey: NDArray[np.float32], colours: NDArray[np.uint8]) -> Image.Image:
    out = (1 - OPACITY) * grey + np.float32(OPACITY) * colours
    return Image.fromarray(out.round().astype(np.uint8))
