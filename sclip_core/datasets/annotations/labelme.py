"""LabelMe: one JSON file an image, with the name and subfolder of the image.

Shapes are painted in the order of the file, which is the order in which they were drawn.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import shown
from sclip_core.datasets.annotations import objects, reading, shapes
from sclip_core.datasets.annotations.categories import NOT_EVALUATED, Category
from sclip_core.datasets.annotations.objects import Tell, silent
from sclip_core.datasets.labels import check_sizes

OUTLINES = ("polygon", "rectangle", "circle", "rotation", "oriented_rectangle")
STROKES = ("line", "linestrip", "point", "points")
DATA_URL = re.compile(r"^\s*data:[^,]*,")  # as web browsers have files in texts
ON_RIM = 360  # corners of the polygon that stands for a circle: 0.04 pixels off at a radius of 1000


class Shape(NamedTuple):
    """One shape of a file, not yet checked."""

    label: str
    kind: object
    points: object
    mask: object  # of the kind "mask": a PNG in base64


class Page(NamedTuple):
    """The contents of one file, without the copy of the image that it may hold."""

    size_hw: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    image: str | None  # the id of the image by its ``imagePath``


class LabelMe:
    """A folder of LabelMe files.

    The name of a file tells its image. The ``imagePath`` in it, often out of date, counts only for
    an image that no file has the name of.
    """

    format = "LabelMe"
    unlisted_is_empty = False
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    foreign = False

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Read all files.

        Args:
            folder: the folder of the files.
            files: the files by image id.

        Raises:
            UserError: none of them is a LabelMe file.
        """
        self._paths = dict(files)
        self._pages: dict[str, Page] = {}
        self._errors: dict[str, UserError] = {}  # of the other files
        for image_id, path in files.items():
            try:
                self._pages[image_id] = _page(path)
            except UserError as error:
                self._errors[image_id] = error
        if self._errors and not self._pages:
            raise next(iter(self._errors.values()))
        labels = {shape.label for page in self._pages.values() for shape in page.shapes}
        self.used: frozenset[Category] = frozenset(labels)
        self.names: tuple[str, ...] | None = tuple(sorted(labels))
        self.files = {path.relative_to(folder).as_posix(): path for path in files.values()}
        named = {i: page.image for i, page in self._pages.items() if page.image}
        self.also_named: Mapping[str, str] = named

    def ids(self) -> list[str]:
        """The images that have a file."""
        return list(self._paths)

    def draw(
        self,
        image_id: str,
        classes_of: Mapping[Category, int],
        size_hw: tuple[int, int],
        tell: Tell = silent,
    ) -> NDArray[np.int32]:
        """Draw the map of one image; later shapes are on top."""
        if image_id in self._errors:
            raise ImageError(str(self._errors[image_id]))
        page, where = self._pages[image_id], str(self._paths[image_id])
        check_sizes(size_hw, page.size_hw or size_hw, where)
        layers: list[shapes.Layer] = []
        boxes: list[shapes.Layer] = []  # above all: it is not known what of them is seen
        for number, shape in enumerate(page.shapes):
            place, label = f"{where}, shape {number} ({shape.label})", classes_of[shape.label]
            layer = objects.layer_of(
                partial(_mask, shape, size_hw, place),
                label,
                partial(_box, shape, size_hw, place),
                size_hw,
                tell,
            )
            if layer is not None:
                above = layer.label == NOT_EVALUATED != label
                (boxes if above else layers).append(layer)
        return shapes.paint([*layers, *boxes], size_hw)


def _page(path: Path) -> Page:
    """Read one file."""
    loaded = reading.read_json(path)
    if "shapes" not in loaded:
        raise UserError(
            f"{path} is not a LabelMe file: it has no 'shapes'; pass a COCO file itself, not its "
            "folder, and move files that are not annotations elsewhere"
        )
    read = tuple(_shape(entry, path) for entry in reading.objects(loaded, "shapes", str(path)))
    size_hw = reading.optional_size(loaded, "imageHeight", "imageWidth", str(path))
    image = None
    with suppress(UserError):
        image = reading.id_of(reading.field(loaded, "imagePath", str, str(path)), str(path))
    return Page(size_hw, read, image)


def _shape(entry: Mapping[str, Any], path: Path) -> Shape:
    """One shape; files of early versions have only polygons, without a ``shape_type``."""
    label = reading.field(entry, "label", str, f"{path}, shapes")
    kind = entry.get("shape_type") or OUTLINES[0]
    return Shape(label, kind, entry.get("points"), entry.get("mask"))


def _mask(shape: Shape, size_hw: tuple[int, int], where: str) -> dict[str, Any]:
    """The mask of a shape.

    Raises:
        ImageError: as `objects.layer_of` expects it.
    """
    if shape.kind == "mask":
        return _png_mask(shape, size_hw, where)
    if shape.kind in STROKES:
        raise objects.NothingError(f"{where}: a {shape.kind} has no area")
    if shape.kind not in OUTLINES:
        raise shapes.NoAreaError(
            f"{where}: a {shown(shape.kind)}; expected {', '.join(OUTLINES)} or mask"
        )
    outline = _outline(shape, size_hw, where)
    if len(outline) and not objects.has_area(outline):
        few = f"an outline of {len(outline)} points without area"
        raise objects.NothingError(f"{where}: {few}")
    return shapes.polygon(outline, size_hw, where)


def _box(shape: Shape, size_hw: tuple[int, int], where: str) -> objects.Box | None:
    """The box around the points of a shape that has no outline; None: they are not known."""
    if shape.kind in ("circle", "rectangle"):  # its points are not all there
        return None
    try:
        pairs = shapes.corners(shape.points, size_hw, where)
    except shapes.NoAreaError:
        return None
    return objects.Box(*pairs.min(0).tolist(), *pairs.max(0).tolist()) if len(pairs) > 1 else None


def _outline(shape: Shape, size_hw: tuple[int, int], where: str) -> NDArray[np.float64]:
    """The corners (N, 2) of a shape; a circle is given by its centre and a point of its rim."""
    pairs = shapes.corners(shape.points, size_hw, where)
    if shape.kind not in ("rectangle", "circle") or (shape.kind == "rectangle" and len(pairs) == 4):
        return pairs
    if len(pairs) != 2:
        raise shapes.NoAreaError(f"{where}: a {shape.kind} of {len(pairs)} points; expected 2")
    if shape.kind == "rectangle":
        (left, top), (right, bottom) = pairs.min(0), pairs.max(0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    turns = np.linspace(0, 2 * np.pi, ON_RIM, endpoint=False)
    radius = np.hypot(*(pairs[1] - pairs[0]))
    circle: NDArray[np.float64] = pairs[0] + radius * np.stack([np.cos(turns), np.sin(turns)], 1)
    return circle


def _png_mask(shape: Shape, size_hw: tuple[int, int], where: str) -> dict[str, Any]:
    """The mask of a shape of the kind "mask": a PNG whose upper left pixel is the first point's."""
    pairs = shapes.corners(shape.points, size_hw, where)
    try:
        text = "".join(DATA_URL.sub("", str(shape.mask)).split())
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if any(side > most for side, most in zip(image.size, size_hw[::-1], strict=True)):
                raise ImageError(
                    f"{where}: a mask of {image.size[0]}x{image.size[1]} pixels, larger than the "
                    "image: is it of another image?"
                )
            part = np.asarray(image.convert("L")) > 0
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds
        raise shapes.NoAreaError(f"{where}: its mask cannot be read ({error})") from None
    if not len(pairs):
        raise shapes.NoAreaError(f"{where}: a mask without the points of its box")
    left, top = np.floor(pairs.min(0)).astype(int).tolist()
    whole = np.zeros(size_hw, np.uint8, order="F")
    room = whole[max(top, 0) :, max(left, 0) :]
    part = part[max(-top, 0) :, max(-left, 0) :][: room.shape[0], : room.shape[1]]
    room[: part.shape[0], : part.shape[1]] = part
    return dict(shapes.coco().encode(whole))
