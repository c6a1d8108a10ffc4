"""What the generator works with: crops, masks on their way, boxes, their encoding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.masks.proposals import Proposals
from sclip_core.segmentation.stitch import bilinear_matrix

ENCODED_BYTES = 2**25  # of masks of a crop that lie in the whole image at once


class Found(NamedTuple):
    """Masks on their way; everything at the place of its mask."""

    counts: list[bytes]
    boxes: Tensor  # (M, 4) x, y of the first and of the last pixel, in the crop
    quality: Tensor  # (M,) predicted IoU
    stability: Tensor  # (M,)
    points: Tensor  # (M, 2) in the crop


@dataclass(frozen=True)
class Crop:
    """A part of the image that is segmented by itself; the first one is all of it."""

    box: tuple[int, int, int, int]  # x0, y0, x1, y1
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


@lru_cache(maxsize=64)
def axis_matrix(low: int, side: int, inside: int, target: int) -> Tensor:
    """Both bilinear steps along an axis: to the input's side, cut, to the crop: (target, low)."""
    return (bilinear_matrix(inside, target) @ bilinear_matrix(low, side)[:inside]).float()


def boxes_of(masks: Tensor) -> Tensor:
    """First and last pixels (n, 4) x, y, x, y of masks (n, W, H); zeros of an empty one."""
    ends = []
    for other in (2, 1):
        there = masks.any(dim=other).int()
        first, last = there.argmax(dim=1), there.shape[1] - 1 - there.flip(1).argmax(dim=1)
        ends.append((first, torch.where(there.any(dim=1), last, 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1)


def encoded(masks: NDArray[np.bool_], crop: Crop, size: tuple[int, int]) -> list[bytes]:
    """Run lengths of masks (n, W, H) of a crop, in the frame of the image."""
    if crop.size == size:
        return list(Proposals.of_masks(masks).counts)
    x0, y0, x1, y1 = crop.box
    step = max(1, ENCODED_BYTES // (size[0] * size[1]))
    counts: list[bytes] = []
    for start in range(0, len(masks), step):
        some = masks[start : start + step]
        whole = np.zeros((len(some), size[1], size[0]), np.bool_)
        whole[:, x0:x1, y0:y1] = some
        counts += Proposals.of_masks(whole).counts
    return counts


def nothing() -> Found:
    """No mask."""
    empty = torch.zeros(0)
    return Found([], torch.zeros(0, 4, dtype=torch.int64), empty, empty, torch.zeros(0, 2).double())


def concatenated(parts: Any) -> Any:
    """A column of ``Found``, of several."""
    if isinstance(parts[0], list):
        return [one for part in parts for one in part]
    return torch.cat(parts)


def joined(parts: list[Proposals]) -> Proposals:
    """The masks of all crops, in order."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("boxes", "areas", "predicted_iou", "stability_score", "points", "crop_boxes")
    }
    return Proposals(parts[0].size, tuple(c for part in parts for c in part.counts), **arrays)


def corners(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """x, y, width, height to x, y, x, y."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def from_corners(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """The way back."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
