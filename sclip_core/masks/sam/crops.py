"""What the generator works with: crops of an image, boxes, and the encoding of masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from sclip_core.masks.proposals import runs_of
from sclip_core.segmentation.stitch import bilinear_matrix

ENCODED_BYTES = 2**25  # of masks at the size of the whole image that are encoded at once


@dataclass(frozen=True)
class Crop:
    """A part of the image that is segmented by itself; the first one is the whole image."""

    box: tuple[int, int, int, int]  # x0, y0, x1, y1
    layer: int  # 0: the whole image; the crops of layer n are 2ⁿ by 2ⁿ

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the crop in pixels."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


@lru_cache(maxsize=64)
def axis_matrix(low: int, side: int, inside: int, target: int) -> Tensor:
    """The matrix (target, low) that enlarges masks along an axis, as SAM does it in two steps.

    Args:
        low: pixels of a mask as the decoder draws it.
        side: of the encoder's square input, to which the mask is enlarged first.
        inside: how many of those are the image's; the others are padding.
        target: pixels of the crop.
    """
    return (bilinear_matrix(inside, target) @ bilinear_matrix(low, side)[:inside]).float()


def boxes_of(masks: Tensor) -> Tensor:
    """First and last pixels (n, 4) x, y, x, y of masks (n, W, H); zeros for an empty one."""
    ends = []
    for other in (2, 1):
        there = masks.any(dim=other).int()
        first, last = there.argmax(dim=1), there.shape[1] - 1 - there.flip(1).argmax(dim=1)
        ends.append((first, torch.where(there.any(dim=1), last, 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1)


def encoded(masks: NDArray[np.bool_], crop: Crop, size: tuple[int, int]) -> list[bytes]:
    """Run lengths of masks (n, W, H) of a crop, in the frame of an image of ``size`` (H, W)."""
    if crop.size == size:
        return runs_of(masks)
    x0, y0, x1, y1 = crop.box
    step = max(1, ENCODED_BYTES // (size[0] * size[1]))
    counts: list[bytes] = []
    for start in range(0, len(masks), step):
        some = masks[start : start + step]
        whole = np.zeros((len(some), size[1], size[0]), np.bool_)
        whole[:, x0:x1, y0:y1] = some
        counts += runs_of(whole)
    return counts


def suppressed(
    boxes: NDArray[np.int64], scores: NDArray[np.float64], threshold: float
) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of the masks to keep, the highest scores first.

    Args:
        boxes: (M, 4) x, y, width, height.
        scores: (M,).
        threshold: masks whose boxes overlap one of a higher score by a larger IoU are dropped.
    """
    places, order = torch.from_numpy(corners(boxes)).float(), torch.from_numpy(scores).float()
    kept: NDArray[np.int64] = batched_nms(places, order, torch.zeros(len(boxes)), threshold).numpy()
    return kept


def corners(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes (M, 4) x, y, width, height as x, y, x, y."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def from_corners(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Inverse of ``corners``."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
