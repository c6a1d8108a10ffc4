"""How much of small, medium and large objects is found, where nothing tells objects apart.

An object is a connected component (8 neighbours) of a class in the ground truth. Its size is its
number of pixels, in the ranges of COCO's evaluation: below 32², below 96², or more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import IGNORED, check_maps

RANGES = (32**2, 96**2)  # pixels from which an object is medium, and large


class SizeAreas(NamedTuple):
    """Pixels of the objects of one image, by class and size; each (M,), for those that occur."""

    class_id: NDArray[np.int64]
    size: NDArray[np.int64]  # 0: small, 1: medium, 2: large
    objects: NDArray[np.int64]  # how many
    intersect: NDArray[np.int64]  # of their pixels, predicted as the class
    label: NDArray[np.int64]  # all their pixels


def size_areas(
    prediction: NDArray[np.unsignedinteger[Any]],
    label: NDArray[np.int32],
    num_classes: int,
    unlabelled: int | None = None,
) -> SizeAreas:
    """Pixels by class and size of object in one image; arguments as for ``image_areas``.

    Ignored pixels are in no object; they part what only they connect.

    >>> found = size_areas(np.uint8([[0, 1, 1]]), np.int32([[0, -1, 0]]), 2)
    >>> [each.tolist() for each in found]
    [[0], [0], [2], [1], [2]]
    """
    check_maps(prediction, label, num_classes, unlabelled)
    rows = []
    for number in np.unique(label[label != IGNORED]).tolist():
        mask = (label == number).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        box = slice(top, top + height), slice(left, left + width)
        count, component = cv2.connectedComponents(np.ascontiguousarray(mask[box]), connectivity=8)
        area = np.bincount(component.ravel(), minlength=count)[1:]
        right = np.bincount(component[prediction[box] == number], minlength=count)[1:]
        size = np.digitize(area, RANGES)
        for k in np.unique(size).tolist():
            of = size == k
            rows.append((number, k, of.sum(), right[of].sum(), area[of].sum()))
    table = np.array(rows, np.int64).reshape(-1, len(SizeAreas._fields))
    return SizeAreas(*table.T)
