"""Outlines and run lengths as masks, by pycocotools, COCO's own rasteriser.

A mask is a dict of pycocotools: ``size`` (H, W) and ``counts``, compressed run lengths. Only one
is decoded at a time, so that an image with hundreds of them takes little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.config.errors import shown
from sclip_core.config.optional import optional
from sclip_core.datasets.labels import IGNORED

LEAST = 3  # corners of an outline
MOST_BITS = 35  # of a run length in COCO's compressed form: seven characters, as of 32 bits


class NoAreaError(ImageError):
    """What is there of an object does not tell which pixels it has."""


class Layer(NamedTuple):
    """A mask and the class of its pixels."""

    mask: dict[str, Any]
    label: int  # class, or `NOT_EVALUATED`


def coco() -> Any:
    """The module ``pycocotools.mask``.

    Raises:
        UserError: it is not installed.
    """
    return optional("pycocotools.mask", "data")


def corners(points: object, size_hw: tuple[int, int], where: str) -> NDArray[np.float64]:
    """The points of an annotation, checked; parts outside of the picture are clipped in drawing.

    Args:
        points: x, y, x, y, ... or pairs of x, y, in pixels; (0, 0) is the upper left corner of
            the first pixel.
        size_hw: of the picture, in the unit of the points.
        where: what to call the annotation in an error.

    Returns:
        (N, 2) x, y.

    Raises:
        NoAreaError: they are not finite numbers in pairs.
        ImageError: they are of another picture or in another unit, as they lie farther outside
            than the picture's longer side, or all within the first pixel.
    """
    try:
        values = np.asarray(points)
    except ValueError:  # lists of unequal lengths
        values = np.asarray(None)
    if values.size and values.dtype.kind not in "iuf":
        raise NoAreaError(f"{where}: the points are {shown(points)}; expected numbers x, y, x, y")
    if values.ndim == 1 and len(values) % 2:
        raise NoAreaError(f"{where}: an odd number of coordinates ({len(values)}); expected x, y")
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 2):
        raise NoAreaError(f"{where}: the points are {shown(points)}; expected pairs of x, y")
    pairs = values.astype(np.float64).reshape(-1, 2)
    if not np.isfinite(pairs).all():
        raise NoAreaError(f"{where}: a coordinate is not a finite number; draw the shape again")
    far = max(size_hw)
    if pairs.size and (pairs.min() < -far or (pairs.max(0) > np.add(size_hw[::-1], far)).any()):
        raise ImageError(
            f"{where}: coordinates from {pairs.min():g} to {pairs.max():g}; expected x in "
            f"0..{size_hw[1]} and y in 0..{size_hw[0]}, or a little outside; are they of another "
            "picture, or in another unit?"
        )
    if min(size_hw) > 1 and _fractions(pairs):
        raise ImageError(
            f"{where}: all coordinates lie in 0..1, within the first pixel: fractions of the "
            f"picture? expected pixels, x in 0..{size_hw[1]} and y in 0..{size_hw[0]}"
        )
    return pairs


def _fractions(pairs: NDArray[np.float64]) -> bool:
    """Whether the outline lies within one pixel and is not a click on the picture's corner."""
    inside = pairs.size > 0 and pairs.min() >= 0 and pairs.max() <= 1
    return bool(inside and (pairs % 1).any())


def polygon(pairs: NDArray[np.float64], size_hw: tuple[int, int], where: str) -> dict[str, Any]:
    """The mask of one closed outline.

    Args:
        pairs: (N, 2) as `corners` gives them.
        size_hw: of the picture.
        where: what to call the annotation in an error.

    Raises:
        NoAreaError: fewer than three corners.
    """
    if len(pairs) < LEAST:
        raise NoAreaError(f"{where}: an outline of {len(pairs)} points; expected at least {LEAST}")
    (mask,) = coco().frPyObjects([pairs.ravel().tolist()], *size_hw)
    return dict(mask)


def union(masks: list[dict[str, Any]]) -> dict[str, Any]:
    """The union of the masks of an object's parts."""
    return dict(coco().merge(masks))


def mask_of(segmentation: object, size_hw: tuple[int, int], where: str) -> dict[str, Any]:
    """The mask of one object of COCO, which is a list of polygons, or run lengths.

    Args:
        segmentation: a list of polygons, or ``size`` and ``counts``.
        size_hw: of the picture.
        where: what to call the annotation in an error.

    Raises:
        ImageError: it is neither, or cannot be drawn.
    """
    if isinstance(segmentation, dict):
        return runs(segmentation, size_hw, where)
    if not isinstance(segmentation, list) or not segmentation:
        raise NoAreaError(
            f"{where}: 'segmentation' is {shown(segmentation)}; expected polygons or run lengths "
            "(boxes alone do not tell which pixels are meant)"
        )
    rings = [corners(ring, size_hw, where) for ring in segmentation]
    return union([polygon(ring, size_hw, where) for ring in rings])


def pixels(mask: dict[str, Any]) -> NDArray[np.bool_]:
    """A mask as (H, W) booleans."""
    inside: NDArray[np.bool_] = coco().decode(mask).astype(bool)
    return inside


def runs(rle: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> dict[str, Any]:
    """The mask of COCO's run lengths, whose ``counts`` are a list or, compressed, a text.

    Their sum is checked first, as pycocotools does not check that they fill the picture.

    Args:
        rle: ``size`` [H, W] and ``counts``.
        size_hw: of the picture.
        where: what to call the annotation in an error.

    Raises:
        NoAreaError: they are too short or too long, or not run lengths.
        ImageError: they are of another size.
    """
    counts, size = rle.get("counts"), rle.get("size")
    if isinstance(counts, bytes):  # as pycocotools itself has them
        counts = counts.decode("latin-1")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) for n in size):
        raise NoAreaError(f"{where}: the size of the run lengths is {shown(size)}; expected [H, W]")
    if tuple(size) != size_hw:
        raise ImageError(
            f"{where}: a mask of {size[1]}x{size[0]} pixels (width x height), the image has "
            f"{size_hw[1]}x{size_hw[0]}: is it the mask of another image?"
        )
    lengths = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise NoAreaError(f"{where}: {shown(counts)} are not run lengths; export them again")
    if sum(lengths) != size[0] * size[1]:
        raise NoAreaError(
            f"{where}: the run lengths add up to {sum(lengths):,} pixels; expected "
            f"{size[0] * size[1]:,} ({size[1]}x{size[0]}); they are cut short or of another size"
        )
    return dict(coco().frPyObjects({"counts": lengths, "size": size}, *size_hw))


def _uncompressed(text: str) -> list[int] | None:
    """Decode compressed run lengths: six bits a character, differences from the third on.

    Like ``rleFrString`` of COCO's ``maskApi.c``, which reads beyond the end of a truncated text;
    here it gives None.
    """
    lengths: list[int] = []
    value = shift = 0
    for char in text:
        six = ord(char) - 48
        if not 0 <= six < 64:
            return None
        value |= (six & 31) << shift
        shift += 5
        if six & 32:  # more to come
            if shift > MOST_BITS:
                return None
            continue
        if six & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return None if shift else lengths


def smaller_on_top(layers: Iterable[Layer]) -> list[Layer]:
    """Layers sorted by falling area in pixels; those of the same area keep their order."""
    return sorted(layers, key=lambda layer: -int(coco().area(layer.mask)))


def paint(layers: Iterable[Layer], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Paint masks one over the other.

    Args:
        layers: the last is on top.
        size_hw: of the picture.

    Returns:
        (H, W) int32, classes, `NOT_EVALUATED` (-2), or `IGNORED` (-1) where no mask is.
    """
    classes = np.full(size_hw, IGNORED, np.int32)
    for layer in layers:
        classes[pixels(layer.mask)] = layer.label
    return classes
