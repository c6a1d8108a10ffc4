"""Scenes of the golden images, as the pipeline would hand them to a method."""

from __future__ import annotations

import numpy as np
import torch

from sclip_core import SCLIP, Protocol
from sclip_core.config import Geometry
from sclip_core.methods.method import Method, Scene


def scene_of(
    model: SCLIP, method: Method, image: np.ndarray, protocol: Protocol | None = None
) -> Scene:
    """What a method reads of an RGB image (H, W, 3) uint8."""
    geometry, pixels = model.windows(image, protocol or Protocol())
    return scene_from(model, method, pixels, geometry)


def scene_from(model: SCLIP, method: Method, pixels: torch.Tensor, geometry: Geometry) -> Scene:
    """What a method reads of windows (B, 3, h, w), normalised."""
    tower = model.encoder.tower
    return Scene(
        geometry=geometry,
        tower=tower,
        taps=model.encoder.taps(pixels, method.taps(tower.layers), method.positions),
        pixels=lambda: pixels,
    )


def one_window(height: int, width: int, patch: int = 16) -> Geometry:
    """The geometry of an image of one window, so many pixels high and wide."""
    protocol = Protocol(short_side=min(height, width), slide_crop=2048, slide_stride=2048)
    return Geometry.of(height, width, protocol, patch)
