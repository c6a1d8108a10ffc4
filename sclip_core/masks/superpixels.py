"""Superpixels by scikit-image as masks; they cover the image and do not overlap.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation" (IJCV 2004); Achanta et
al., "SLIC Superpixels" (TPAMI 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.config.masks import MaskSettings
from sclip_core.config.optional import optional
from sclip_core.masks.proposals import Proposals, coco

MOST_PIXELS = 2**20  # larger images are shrunk first, and the segments enlarged

Segments = NDArray[np.int64]  # (H, W), numbers of segments


def felzenszwalb(image: NDArray[np.uint8], settings: MaskSettings) -> Segments:
    """Segments of a graph of pixels; the smoother a part of the image, the larger they are."""
    found: Segments = library().felzenszwalb(
        image,
        scale=settings.felzenszwalb_scale,
        sigma=settings.felzenszwalb_sigma,
        min_size=settings.felzenszwalb_min_size,
    )
    return found


def slic(image: NDArray[np.uint8], settings: MaskSettings) -> Segments:
    """Segments of about one size, by k-means over position and colour."""
    found: Segments = library().slic(
        image,
        n_segments=settings.slic_segments,
        compactness=settings.slic_compactness,
        start_label=0,
    )
    return found


def propose(
    image: NDArray[np.uint8],
    settings: MaskSettings,
    segment: Callable[[NDArray[np.uint8], MaskSettings], Segments],
) -> Proposals:
    """Segment an image, one mask for each segment.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: of the method.
        segment: the method: ``felzenszwalb`` or ``slic``.

    Raises:
        UserError: scikit-image is not installed.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    small = image
    if shrink < 1:
        smaller = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA).reshape(*smaller[::-1], 3)
    segments = segment(small, settings).astype(np.int32)
    if shrink < 1:
        segments = cv2.resize(segments, (width, height), interpolation=cv2.INTER_NEAREST)
    return of_segments(segments)


def of_segments(segments: NDArray[Any]) -> Proposals:
    """One mask for each number in a map (H, W) of segments, in ascending order.

    Run lengths are read off the map, all at once; no mask is decoded.
    """
    height, width = segments.shape
    flat = np.ascontiguousarray(segments.T).ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    numbers = flat[starts][order]
    counts = []
    for runs in np.split(order, np.flatnonzero(numbers[1:] != numbers[:-1]) + 1):
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        lengths = np.diff(edges, prepend=0, append=flat.size)
        lengths = lengths[:-1] if lengths[-1] == 0 else lengths  # as pycocotools ends a mask
        runs_of = {"size": [height, width], "counts": lengths.tolist()}
        counts.append(coco().frPyObjects(runs_of, height, width)["counts"])
    return Proposals.of_runs(counts, (height, width))


def library() -> Any:
    """The module ``skimage.segmentation``.

    Raises:
        UserError: scikit-image or pycocotools is not installed.
    """
    coco()
    return optional("skimage.segmentation", "superpixels")
