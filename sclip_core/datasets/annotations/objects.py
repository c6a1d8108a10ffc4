"""One object of an image: its mask, and what to do where its outline is not all there.

An outline without area, such as one of two points, is of no pixel and costs nothing. Of an object
whose outline is not known, the pixels would count as those of what lies behind it. So its box is
not evaluated, or, where not even a box is known, its image has no ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.datasets.annotations import shapes
from sclip_core.datasets.annotations.categories import NOT_EVALUATED

Tell = Callable[[str], None]  # called with a line on what an image's ground truth lacks
LEAST_SIDE = 2  # pixels: two points that far apart in x and y may be the corners of a box
COMPARED = 200  # objects whose boxes are compared with their outlines
AGREE = 0.9  # share of them
NEAR = 2.0  # pixels by which a side may differ, and
NEAR_SHARE = 0.05  # of its length
ROUNDED = 0.01  # pixels: fractions have some six digits
EDGE = 1e-9  # of its length squared: three points on a line


class NothingError(shapes.NoAreaError):
    """An outline has no area; so has its object, unless its box says otherwise."""


class Box(NamedTuple):
    """A box in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def mask(self, size_hw: tuple[int, int]) -> dict[str, Any]:
        """All pixels that it touches, apart from what rounding may have added."""
        left, top = math.floor(self.left + ROUNDED), math.floor(self.top + ROUNDED)
        right, bottom = math.ceil(self.right - ROUNDED), math.ceil(self.bottom - ROUNDED)
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        return shapes.polygon(np.array(corners, np.float64), size_hw, "a box")

    def near(self, other: Box) -> bool:
        """Whether all sides lie where those of another box lie, roughly."""
        longer = max(other.right - other.left, other.bottom - other.top)
        return bool(np.allclose(self, other, rtol=0, atol=NEAR + NEAR_SHARE * longer))


def box_of(value: object) -> Box | None:
    """The box of COCO's ``bbox``, left, top, width and height; None: it is not four numbers."""
    try:
        left, top, width, height = map(float, cast(Any, value))
    except (ValueError, TypeError, OverflowError):
        return None
    box = Box(left, top, left + width, top + height)
    return box if np.isfinite(box).all() and width > 0 and height > 0 else None


def silent(line: str) -> None:
    """Tell nobody."""


def mask_of(
    segmentation: object, size_hw: tuple[int, int], where: str, tell: Tell
) -> dict[str, Any]:
    """The mask of an object of COCO; outlines without area are left out.

    Args:
        segmentation: a list of polygons, or ``size`` and ``counts``. A polygon that is not in a
            list is drawn as well.
        size_hw: of the picture.
        where: what to call the annotation.
        tell: called with a line on an outline that is left out or is not in a list.

    Raises:
        NothingError: it has no area.
        NoAreaError: its pixels are not known.
        ImageError: it is of another picture.
    """
    if isinstance(segmentation, dict) or not isinstance(segmentation, list):
        return shapes.mask_of(segmentation, size_hw, where)
    if _is_bare(segmentation):
        tell(f"{where}: a bare list of numbers, expected a list of outlines: drawn as one outline")
        segmentation = [segmentation]
    rings = [shapes.corners(ring, size_hw, where) for ring in segmentation]
    good = [ring for ring in rings if has_area(ring)]
    if good:
        if len(good) < len(rings):
            tell(f"{where}: {_without_area(rings)}: left out")
        return shapes.union([shapes.polygon(ring, size_hw, where) for ring in good])
    if not rings or any(len(ring) == 0 or _may_be_box(ring) for ring in rings):
        return shapes.mask_of(segmentation, size_hw, where)  # which raises
    raise NothingError(f"{where}: an outline of {len(rings[0])} points without area")


def layer_of(
    draw: Callable[[], dict[str, Any]],
    label: int,
    box_of_it: Callable[[], Box | None],
    size_hw: tuple[int, int],
    tell: Tell,
) -> shapes.Layer | None:
    """An object as it is to be painted; None: it has no pixel.

    Args:
        draw: gives its mask.
        label: its class.
        box_of_it: gives its box, or None if it cannot be relied upon.
        size_hw: of the picture.
        tell: called with a line where it is not painted as it should be.

    Raises:
        ImageError: ``draw`` raises it, and there is no box to leave out instead.
    """
    try:
        return shapes.Layer(draw(), label)
    except shapes.NoAreaError as error:
        nothing = isinstance(error, NothingError)
        box, least = box_of_it(), LEAST_SIDE if nothing else 0
        if box is not None and min(box.right - box.left, box.bottom - box.top) > least:
            tell(f"{error}: its box is left out of the evaluation")
            return shapes.Layer(box.mask(size_hw), NOT_EVALUATED)
        if not nothing:
            raise
        tell(f"{error}: left out")
        return None


def has_area(pairs: NDArray[np.float64]) -> bool:
    """Whether an outline (N, 2) has three corners that do not lie on a line."""
    if len(pairs) < shapes.LEAST:
        return False
    from_first = pairs - pairs[0]
    squared = (from_first**2).sum(1)
    far = from_first[squared.argmax()]
    aside = np.abs(from_first[:, 0] * far[1] - from_first[:, 1] * far[0])
    return bool(aside.max() > EDGE * squared.max())


def reliable(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the boxes of a COCO file are those of its outlines, judged by some of them."""
    pairs = (pair for pair in map(_box_and_extent, entries) if pair is not None)
    near = [stated.near(found) for stated, found in islice(pairs, COMPARED)]
    return bool(near and np.mean(near) >= AGREE)


def _box_and_extent(entry: Mapping[str, Any]) -> tuple[Box, Box] | None:
    """The box that an annotation states and that of its outlines; None: it lacks one of them."""
    stated, segmentation = box_of(entry.get("bbox")), entry.get("segmentation")
    if stated is None:
        return None
    try:
        if isinstance(segmentation, dict):
            height, width = segmentation["size"]
            mask = shapes.runs(segmentation, (height, width), "")
            left, top, width, height = shapes.coco().toBbox(mask)
            return stated, Box(left, top, left + width, top + height)
        points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in cast(Any, segmentation)])
        if not has_area(points):
            return None
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    except (ImageError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    return stated, Box(left, top, right, bottom)


def _is_bare(segmentation: list[Any]) -> bool:
    """Whether it is one outline, not a list of them."""
    numbers = all(isinstance(n, int | float) for n in segmentation)
    return numbers and len(segmentation) >= 2 * shapes.LEAST


def _without_area(rings: list[NDArray[np.float64]]) -> str:
    few = [ring for ring in rings if not has_area(ring)]
    have = "has" if len(few) == 1 else "have"
    return f"{len(few)} of its {len(rings)} outlines {have} no area ({len(few[0])} points)"


def _may_be_box(ring: NDArray[np.float64]) -> bool:
    """Whether two points may be opposite corners of a box."""
    return len(ring) == 2 and bool((np.abs(ring[1] - ring[0]) >= LEAST_SIDE).all())
