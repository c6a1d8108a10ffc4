"""Small SAMs and pictures to test with. Nothing of this folder is compiled: its tests run once."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from tests.pictures import scene

from .models import make


@pytest.fixture(scope="module", autouse=True)
def path() -> Iterator[None]:
    """In place of the one with the compiled and the portable path; one thread for small tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sam() -> Sam:
    """A small SAM that no test changes."""
    return make(seed=0)


def picture(seed: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A drawn landscape, RGB.

    Args:
        seed: of the drawing.
        size: (H, W); None: half of what was drawn.
    """
    drawn = scene(seed)[0][..., ::-1]
    height, width = size or (drawn.shape[0] // 2, drawn.shape[1] // 2)
    return cv2.resize(np.ascontiguousarray(drawn), (width, height), interpolation=cv2.INTER_AREA)
