"""The regions of a label map: of each class one, or its connected parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CONNECTIVITY = 4  # parts that touch at a corner only are two, as polygons of pixel edges have it


def regions(
    labels: NDArray[np.integer[Any]], components: bool = False
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The classes of a label map and their masks, in the order of the classes.

    Args:
        labels: (H, W); negative values are no class.
        components: whether each connected part of a class is a region of its own.

    Yields:
        The class and its mask (H, W), 0 and 1.
    """
    for k in np.unique(labels):
        if k < 0:
            continue
        mask = (labels == k).astype(np.uint8)
        if not components:
            yield int(k), mask
            continue
        count, parts = cv2.connectedComponents(mask, connectivity=CONNECTIVITY)
        for part in range(1, count):
            yield int(k), (parts == part).astype(np.uint8)
