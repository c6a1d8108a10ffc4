"""COCO instances: one JSON file, objects as polygons or run lengths (cocodataset.org, format-data).

COCO does not order overlapping objects. So the smaller is painted over the larger, and crowds
(``iscrowd`` 1, one region for many objects) are painted beneath all others.
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


class Picture(NamedTuple):
    """An image in a COCO file."""

    number: int | str  # by which annotations name it
    size_hw: tuple[int, int] | None  # None: the file does not give it


class CocoFile:
    """The images, categories and annotations of an instances or panoptic file.

    Attributes:
        pictures: by image id, in the order of the file.
        categories: names by number, in the order of the numbers.
        annotations: the entries of each image, by its number.
    """

    def __init__(self, path: Path, loaded: Mapping[str, Any]) -> None:
        """Check and sort what was read from a file.

        Raises:
            UserError: a part is missing or of another type, an entry is there twice, or an
                annotation names an image or category that is not listed.
        """
        self.path = path
        self.pictures: dict[str, Picture] = {}
        self.annotations: dict[int | str, list[dict[str, Any]]] = {}
        for entry in reading.objects(loaded, "images", str(path)):
            self._add_image(entry)
        categories: dict[int | str, str] = {}
        for entry in reading.objects(loaded, "categories", str(path)):
            number = reading.identity(entry, "id", f"{path}, categories")
            reading.refuse_twice(number, categories, "category", str(path))
            categories[number] = reading.field(entry, "name", str, f"{path}, category {number}")
        self.categories = {n: categories[n] for n in sorted(categories, key=_number_first)}
        for entry in reading.objects(loaded, "annotations", str(path)):
            number = reading.identity(entry, "image_id", f"{path}, annotations")
            if number not in self.annotations:
                raise UserError(f"{path}: an annotation is of image {shown(number)}, not listed")
            self.annotations[number].append(entry)

    def category(self, entry: Mapping[str, Any]) -> str:
        """The name of the category of an annotation or segment.

        Raises:
            UserError: its number is not listed.
        """
        number = reading.identity(entry, "category_id", f"{self.path}, annotations")
        if number not in self.categories:
            raise UserError(f"{self.path}: category {shown(number)} of an annotation is not listed")
        return self.categories[number]

    def of(self, image_id: str, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
        """The annotations of an image.

        Raises:
            ImageError: the image has another size than the file says.
        """
        picture = self.pictures[image_id]
        check_sizes(size_hw, picture.size_hw or size_hw, f"{image_id} in {self.path}")
        return self.annotations[picture.number]

    def _add_image(self, entry: Mapping[str, Any]) -> None:
        number = reading.identity(entry, "id", f"{self.path}, images")
        name = reading.field(entry, "file_name", str, f"{self.path}, image {number}")
        image_id = reading.id_of(name, str(self.path))
        reading.refuse_twice(image_id, self.pictures, "image", str(self.path))
        reading.refuse_twice(number, self.annotations, "image id", str(self.path))
        size_hw = reading.optional_size(
            entry, "height", "width", f"{self.path}, image {shown(name)}"
        )
        self.pictures[image_id] = Picture(number, size_hw)
        self.annotations[number] = []


class CocoInstances:
    """A COCO instances file."""

    format = "COCO instances"
    unlisted_is_empty = False

    def __init__(self, path: Path, loaded: Mapping[str, Any]) -> None:
        """Check and sort what was read; outlines are checked when they are drawn.

        Raises:
            UserError: the file is not as `CocoFile` expects it.
        """
        self._file = CocoFile(path, loaded)
        self.names: tuple[str, ...] | None = tuple(self._file.categories.values())
        entries = [entry for part in self._file.annotations.values() for entry in part]
        self.used: frozenset[Category] = frozenset(self._file.category(e) for e in entries)
        self.files = {"": path}

    def ids(self) -> list[str]:
        """The images in the file, with or without annotations."""
        return list(self._file.pictures)

    def draw(
        self, image_id: str, classes_of: Mapping[Category, int], size_hw: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Draw the map of one image; smaller objects are on top, crowds beneath all others."""
        crowds: list[shapes.Layer] = []
        objects: list[shapes.Layer] = []
        for entry in self._file.of(image_id, size_hw):
            where = f"{image_id} in {self._file.path}, annotation {shown(entry.get('id'))}"
            mask = shapes.mask_of(entry.get("segmentation"), size_hw, where)
            layer = shapes.Layer(mask, classes_of[self._file.category(entry)])
            (crowds if _is_crowd(entry, where) else objects).append(layer)
        layers = shapes.smaller_on_top(crowds) + shapes.smaller_on_top(objects)
        return shapes.paint(layers, size_hw)


def _is_crowd(entry: Mapping[str, Any], where: str) -> bool:
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise ImageError(f"{where}: 'iscrowd' is {shown(crowd)}; expected 0 or 1")
    return bool(crowd)


def _number_first(key: int | str) -> tuple[bool, Any]:
    """A sort key that puts numbers before texts."""
    return isinstance(key, str), key
