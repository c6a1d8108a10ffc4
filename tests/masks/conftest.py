"""Masks to test with. Nothing of this folder is compiled: its tests run once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sclip_core.masks import Proposals

SIZES = [(13, 17), (17, 13), (1, 1), (1, 9), (8, 1)]


@pytest.fixture(scope="module", autouse=True)
def path() -> None:
    """In place of the one with the compiled and the portable path."""


def random_masks(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.bool_]:
    """Masks (M, H, W) that overlap: boxes, many of one area, some with holes, some empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), np.bool_)
    for mask in masks:
        top, left = rng.integers(0, height), rng.integers(0, width)
        down, across = rng.integers(1, 7, 2)
        mask[top : top + down, left : left + across] = True
        if rng.random() < 0.3:
            mask &= rng.random(mask.shape) < 0.7
        if rng.random() < 0.1:
            mask[:] = False
    return masks


def encoded(masks: NDArray[np.bool_]) -> Proposals:
    """Masks (M, H, W) as proposals."""
    return Proposals.of_masks(np.ascontiguousarray(masks.transpose(0, 2, 1)))
