"""Steps on a label map, after its decision."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def closing(labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Close label numbers as if they were grey values: ITACLIP's last step (docs/methods.md).

    The highest number of every 3×3 square, then the lowest of those; what is beyond the border
    does not count. Numbers have no order, so this favours classes that come later; it is done
    because the published results were.

    Args:
        labels: (H, W) uint8 or uint16.

    Returns:
        (H, W) of the same type, a new map.
    """
    square = np.ones((3, 3), np.uint8)
    # A grey closing by OpenCV: by default its border is the lowest value, then the highest.
    closed: NDArray[np.unsignedinteger] = cv2.morphologyEx(
        np.ascontiguousarray(labels), cv2.MORPH_CLOSE, square
    )
    return closed
