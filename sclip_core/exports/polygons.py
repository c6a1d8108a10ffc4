"""Polygons of a region's pixel edges, with holes, and what can be had of them without holes.

OpenCV follows the centres of a region's outermost pixels, which makes every polygon half a pixel
too small on each side. Here it follows them on a mask of twice the size, where a pixel has two
centres on each axis; the outer one stands for the pixel's edge, so that the polygons are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.exports.places import as_json, check_file, write_new
from sclip_core.exports.regions import regions
from sclip_core.exports.stored import Segmented, StoredRun

Ring = NDArray[np.int32]  # (N, 2) corners x, y; the last is not the first again


class Polygon(NamedTuple):
    """A connected area: its outline, and the outlines of its holes."""

    outline: Ring
    holes: tuple[Ring, ...]


def rings_of(mask: NDArray[np.uint8], simplify: float = 0.0) -> list[Polygon]:
    """The polygons of a mask, in pixels from the corner of the image (0, 0 to width, height).

    Args:
        mask: (H, W), 0 and 1.
        simplify: pixels by which a line may leave the pixel edges (Douglas and Peucker, 1973);
            0: exact. Outlines of less than three corners are left out.
    """
    twice = mask.repeat(2, axis=0).repeat(2, axis=1)
    found, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_simple((points[:, 0] + 1) // 2, simplify) for points in found]
    polygons = []
    for place, ring in enumerate(rings):
        parent, child = tree[0][place][3], tree[0][place][2]
        if parent >= 0 or len(ring) < 3:
            continue
        holes = []
        while child >= 0:
            if len(rings[child]) >= 3:
                holes.append(rings[child])
            child = tree[0][child][0]
        polygons.append(Polygon(ring, tuple(holes)))
    return polygons


def _simple(ring: Ring, simplify: float) -> Ring:
    """A ring without corners that are none, and with fewer where a tolerance is given."""
    if simplify > 0:
        return np.asarray(cv2.approxPolyDP(ring[:, None].astype(np.int32), simplify, True)[:, 0])
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(ring[turns], np.int32)


def coco_polygons(polygons: Sequence[Polygon]) -> list[list[int]]:
    """Polygons as COCO has them, ``[x1, y1, x2, y2, ...]`` each; COCO knows no holes.

    A hole is joined to its outline by a line that is walked there and back: it encloses nothing,
    so that the polygon fills the same pixels (by the even-odd and by the nonzero rule).
    """
    return [[int(v) for v in _joined(polygon).ravel()] for polygon in polygons]


def _joined(polygon: Polygon) -> Ring:
    """A polygon with holes as one ring."""
    ring = polygon.outline
    for hole in sorted(polygon.holes, key=lambda each: tuple(each.min(axis=0))):
        to = hole[np.lexsort((hole[:, 1], hole[:, 0]))[0]]
        at = int(np.abs(ring - to).sum(axis=1).argmin())
        start = int((hole == to).all(axis=1).argmax())
        turned = np.roll(hole, -start, axis=0)
        ring = np.concatenate([ring[: at + 1], turned, turned[:1], ring[at:]])
    return ring


def geometry(polygons: Sequence[Polygon]) -> dict[str, Any]:
    """Polygons as a GeoJSON MultiPolygon, with holes; x to the right, y down, in pixels."""

    def closed(ring: Ring) -> list[list[int]]:
        return [[int(x), int(y)] for x, y in chain(ring, ring[:1])]

    areas = [[closed(ring) for ring in (each.outline, *each.holes)] for each in polygons]
    return {"type": "MultiPolygon", "coordinates": areas}


def geojson_features(
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    components: bool = False,
    simplify: float = 0.0,
    **properties: Any,
) -> Iterator[dict[str, Any]]:
    """The GeoJSON features of a label map.

    Args:
        labels: (H, W) classes; negative values are left out.
        class_names: by class.
        components: whether each connected part of a class is a feature of its own.
        simplify: as ``rings_of``.
        **properties: put into every feature, beside ``class_id``, ``class`` and ``area``.
    """
    for k, mask in regions(labels, components):
        if not (polygons := rings_of(mask, simplify)):
            continue
        about = {**properties, "class_id": k, "class": class_names[k], "area": int(mask.sum())}
        yield {"type": "Feature", "properties": about, "geometry": geometry(polygons)}


def write_geojson(
    run: StoredRun,
    path: Path,
    components: bool = False,
    simplify: float = 0.0,
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write the label maps of a run as a GeoJSON FeatureCollection.

    Args:
        run: a stored one.
        path: the file, .geojson.
        components: as of ``geojson_features``.
        simplify: as of ``geojson_features``.
        each: is called with each image that was written.

    Raises:
        UserError: the file is there, or the run's label maps are not.
    """
    check_file(path, ".geojson")

    def write(temporary: Path) -> None:
        """Write the features one by one: of all images they may not fit in memory."""
        with open(temporary, "w", encoding="utf-8") as file:
            file.write('{"type":"FeatureCollection","features":[')
            between = "\n"
            for image in run:
                about = {"image_id": image.image_id, "image": image.name}
                for row in geojson_features(
                    image.labels, run.class_names, components, simplify, **about
                ):
                    file.write(between + as_json(row))
                    between = ",\n"
                each(image)
            file.write("]}\n")

    write_new(path, write)
