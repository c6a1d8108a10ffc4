"""LabelMe: one JSON file an image, with the name and subfolder of the image.

Shapes are painted in the order of the file, which is the order in which they were drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import shown
from sclip_core.datasets.annotations import reading, shapes
from sclip_core.datasets.annotations.categories import Category
from sclip_core.datasets.labels import check_sizes

KINDS = ("polygon", "rectangle", "circle")
ON_RIM = 360  # corners of the polygon that stands for a circle: 0.04 pixels off at a radius of 1000


class Shape(NamedTuple):
    """One shape of a file, not yet checked."""

    label: str
    kind: str
    points: object


class Page(NamedTuple):
    """The contents of one file, without the copy of the image that it may hold."""

    size_hw: tuple[int, int] | None
    shapes: tuple[Shape, ...]


class LabelMe:
    """A folder of LabelMe files.

    The name of a file tells its image; the ``imagePath`` in it, often out of date, is ignored.
    """

    format = "LabelMe"
    unlisted_is_empty = False

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Read all files.

        Args:
            folder: the folder of the files.
            files: the files by image id.

        Raises:
            UserError: a file is not a LabelMe file, or has a shape without area.
        """
        self._paths = dict(files)
        self._pages = {image_id: _page(path) for image_id, path in files.items()}
        labels = {shape.label for page in self._pages.values() for shape in page.shapes}
        self.used: frozenset[Category] = frozenset(labels)
        self.names: tuple[str, ...] | None = tuple(sorted(labels))
        self.files = {path.relative_to(folder).as_posix(): path for path in files.values()}

    def ids(self) -> list[str]:
        """The images that have a file."""
        return list(self._pages)

    def draw(
        self, image_id: str, classes_of: Mapping[Category, int], size_hw: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Draw the map of one image; later shapes are on top."""
        page, where = self._pages[image_id], str(self._paths[image_id])
        check_sizes(size_hw, page.size_hw or size_hw, where)
        layers = []
        for number, shape in enumerate(page.shapes):
            place = f"{where}, shape {number} ({shape.label})"
            outline = _outline(shape, size_hw, place)
            mask = shapes.polygon(outline, size_hw, place)
            layers.append(shapes.Layer(mask, classes_of[shape.label]))
        return shapes.paint(layers, size_hw)


def _page(path: Path) -> Page:
    """Read one file."""
    loaded = reading.read_json(path)
    if "shapes" not in loaded:
        raise UserError(
            f"{path} is not a LabelMe file: it has no 'shapes'; pass a COCO file itself, not its "
            "folder, and move files that are not annotations elsewhere"
        )
    read = tuple(_shape(entry, path) for entry in reading.objects(loaded, "shapes", str(path)))
    return Page(reading.optional_size(loaded, "imageHeight", "imageWidth", str(path)), read)


def _shape(entry: Mapping[str, Any], path: Path) -> Shape:
    """One shape; files of early versions have only polygons, without a ``shape_type``."""
    label = reading.field(entry, "label", str, f"{path}, shapes")
    kind = entry.get("shape_type") or KINDS[0]
    if kind not in KINDS:
        raise UserError(
            f"{path}: the shape '{label}' is a {shown(kind)}; expected {', '.join(KINDS)}: draw "
            "it again as one of these, or delete it"
        )
    return Shape(label, kind, entry.get("points"))


def _outline(shape: Shape, size_hw: tuple[int, int], where: str) -> NDArray[np.float64]:
    """The corners (N, 2) of a shape; a circle is given by its centre and a point of its rim."""
    pairs = shapes.corners(shape.points, size_hw, where)
    if shape.kind == "polygon" or (shape.kind == "rectangle" and len(pairs) == 4):
        return pairs
    if len(pairs) != 2:
        raise ImageError(f"{where}: a {shape.kind} of {len(pairs)} points; expected 2")
    if shape.kind == "rectangle":
        (left, top), (right, bottom) = pairs.min(0), pairs.max(0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    turns = np.linspace(0, 2 * np.pi, ON_RIM, endpoint=False)
    radius = np.hypot(*(pairs[1] - pairs[0]))
    circle: NDArray[np.float64] = pairs[0] + radius * np.stack([np.cos(turns), np.sin(turns)], 1)
    return circle
