"""Boundary IoU for label maps (Cheng, Girshick, Dollár, Berg, Kirillov, CVPR 2021).

The paper's code (``boundary_iou/utils/boundary_utils.py``) pads the mask of an object with a pixel
of zeros, erodes it d times by 3 x 3 pixels, and takes what was lost. Those are the pixels of the
mask that have a pixel of something else, or the frame's edge, within d rows and columns. In a
label map, each pixel is in one mask: its class's.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import IGNORED, Areas, check_maps

RATIO = 0.02  # of the image's diagonal, as in the paper's code


def boundary_distance(height: int, width: int, ratio: float = RATIO) -> int:
    """How far a boundary reaches into its mask, in pixels, at least 1.

    >>> boundary_distance(375, 500), boundary_distance(20, 20)
    (12, 1)
    """
    return max(1, round(ratio * float(np.sqrt(height**2 + width**2))))


def near_boundary(labels: NDArray[Any], distance: int) -> NDArray[np.bool_]:
    """Whether another label, or the edge, is within some rows and columns of a pixel: (H, W).

    Args:
        labels: (H, W), whole numbers 0..2^24.
        distance: d, 1 or more.

    >>> near_boundary(np.uint8([[0, 0, 0, 0, 0]] * 3 + [[1, 0, 0, 0, 0]]), 1)[1:3].astype(int)
    array([[1, 0, 0, 0, 1],
           [1, 1, 0, 0, 1]])
    """
    # OpenCV erodes and dilates numbers of 16 bits, or floats, which hold these exactly.
    values = labels.astype(np.uint16 if labels.max(initial=0) < 1 << 16 else np.float32)
    near = np.ones(labels.shape, bool)
    if min(labels.shape) > 2 * distance:
        window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
        low, high = cv2.erode(values, window), cv2.dilate(values, window)
        within = slice(distance, -distance)
        near[within, within] = (low != high)[within, within]
    return near


def boundary_areas(
    prediction: NDArray[np.unsignedinteger[Any]],
    label: NDArray[np.int32],
    num_classes: int,
    unlabelled: int | None = None,
    ratio: float = RATIO,
) -> Areas:
    """Areas of one image near the boundaries of its masks; arguments as for ``image_areas``.

    Ignored pixels belong to no class, neither in the ground truth nor in the prediction, whatever
    was predicted there: the boundaries of both run along them, and none of them is counted. A
    prediction that is right at all evaluated pixels has a boundary IoU of 1.

    Args:
        prediction: (H, W), classes 0..C-1.
        label: (H, W) int32, classes 0..C-1 or -1.
        num_classes: C.
        unlabelled: C or more, the prediction of pixels that were given no class.
        ratio: of the diagonal of the image, which gives the distance.

    Returns:
        Pixels (C,) of each class: near the boundary of both masks, of the predicted one, of the
        labelled one.

    Raises:
        ImageError: as of ``image_areas``.
    """
    check_maps(prediction, label, num_classes, unlabelled)
    none, ignored = num_classes, num_classes + 1
    truth = np.where(label == IGNORED, ignored, label)
    guess = prediction.astype(np.int32)
    if unlabelled is not None:
        guess[prediction == unlabelled] = none
    guess[label == IGNORED] = ignored
    distance = boundary_distance(label.shape[0], label.shape[1], ratio)
    of_truth, of_guess = near_boundary(truth, distance), near_boundary(guess, distance)
    both = of_truth & of_guess & (truth == guess)
    counted = ((truth, both), (guess, of_guess), (truth, of_truth))
    areas = [np.bincount(of[near], minlength=ignored + 1) for of, near in counted]
    return Areas(*(area[:num_classes].astype(np.int64) for area in areas))
