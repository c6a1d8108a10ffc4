"""Drawn pictures for the tests: landscapes in six classes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("sky, cloud", "grass, lawn", "road", "ball", "box, crate", "cone")
COLOURS = ((225, 190, 140), (70, 150, 80), (110, 110, 115), (60, 60, 210), (60, 130, 190))


def scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A landscape with things in it.

    Args:
        seed: of this picture.

    Returns:
        BGR (H, W, 3) and labels (H, W), both uint8; labels index ``CLASSES``.
    """
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(240, 400)), int(rng.integers(320, 520))
    labels = np.zeros((height, width), np.uint8)
    horizon = int(height * rng.uniform(0.35, 0.6))
    labels[horizon:] = 1
    left, right = sorted(rng.uniform(0, width, 2))
    bottom = [[left - 60, height], [right + 60, height]]
    road = np.array([[width / 2, horizon], *bottom[::-1]], np.int32)
    cv2.fillPoly(labels, [road], 2)
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(40, width - 40)), int(rng.integers(horizon, height - 20))
        size = int(rng.integers(18, 48))
        kind = int(rng.integers(3, 6))
        if kind == 3:
            cv2.circle(labels, (x, y), size, 3, -1)
        elif kind == 4:
            cv2.rectangle(labels, (x - size, y - size), (x + size, y + size // 2), 4, -1)
        else:
            cone = np.array([[x, y - 2 * size], [x - size, y], [x + size, y]], np.int32)
            cv2.fillPoly(labels, [cone], 5)
    colours = np.array([*COLOURS, (40, 120, 245)], np.float32)
    light = np.linspace(0.85, 1.1, height, dtype=np.float32)[:, None, None]
    noise = rng.normal(0, 9, (height, width, 1)).astype(np.float32)
    picture = colours[labels] * light + cv2.GaussianBlur(noise, (3, 3), 0)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), labels
