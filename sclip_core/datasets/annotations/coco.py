"""COCO instances: one JSON file, objects as polygons or run lengths (cocodataset.org, format-data).

COCO does not order overlapping objects. So the smaller is painted over the larger, and crowds
(``iscrowd`` 1, one region for many objects) are painted beneath all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import few, shown
from sclip_core.datasets.annotations import objects, reading, shapes
from sclip_core.datasets.annotations.categories import NOT_EVALUATED, Category, plain
from sclip_core.datasets.annotations.objects import Tell, silent
from sclip_core.datasets.labels import check_sizes


class Picture(NamedTuple):
    """An image in a COCO file."""

    number: int | str | None  # by which annotations name it; None: they cannot
    size_hw: tuple[int, int] | None  # None: the file does not give it
    fault: str | None = None  # why it has no ground truth


class CocoFile:
    """The images, categories and annotations of an instances or panoptic file.

    Attributes:
        pictures: by image id, in the order of the file.
        categories: names by number, in the order of the numbers.
        annotations: the entries of each image, by its number.
        foreign: whether names of images are paths of another machine.
        faults: lines on annotations of images that are not listed, which are left out.
    """

    def __init__(self, path: Path, loaded: Mapping[str, Any]) -> None:
        """Check and sort what was read from a file.

        Raises:
            UserError: a part is missing or of another type, a category is there twice, or no
                annotation is of an image that is listed.
        """
        self.path = path
        self.foreign = False
        self.pictures: dict[str, Picture] = {}
        self.annotations: dict[int | str | None, list[dict[str, Any]]] = {}
        self._image_of: dict[int | str, str] = {}
        for entry in reading.objects(loaded, "images", str(path)):
            self._add_image(entry)
        self.categories = self._categories(reading.objects(loaded, "categories", str(path)))
        strays = []
        for entry in reading.objects(loaded, "annotations", str(path)):
            number = reading.identity_or_none(entry, "image_id")
            if number is not None and number in self.annotations:
                self.annotations[number].append(entry)
            else:
                image = shown(entry.get("image_id"))
                strays.append(f"annotation {shown(entry.get('id'))} of image {image}")
        some = f"{len(strays):,} annotations" if strays[1:] else "1 annotation"
        line = f"{path}: {some} of images that it does not list: {few(strays)}"
        self.faults: tuple[str, ...] = (line,) if strays else ()
        if strays and not any(self.annotations.values()):
            raise UserError(f"{line}; expected the numbers of 'images'")

    def category(self, entry: Mapping[str, Any]) -> str | None:
        """The name of the category of an annotation or segment; None: its number is not listed."""
        number = reading.identity_or_none(entry, "category_id")
        return None if number is None else self.categories.get(number)

    def used(self, entries: Iterable[Mapping[str, Any]]) -> frozenset[Category]:
        """The categories of annotations or segments.

        Raises:
            UserError: most of their numbers are not listed.
        """
        found = [(self.category(entry), entry.get("category_id")) for entry in entries]
        strays = [number for name, number in found if name is None]
        if 2 * len(strays) > len(found):
            raise UserError(
                f"{self.path}: category {shown(strays[0])} of an annotation is not listed, nor "
                "those of most others: expected the numbers of 'categories'"
            )
        return frozenset(name for name, _ in found if name is not None)

    def label(
        self, entry: Mapping[str, Any], classes_of: Mapping[Category, int], where: str, tell: Tell
    ) -> int:
        """The class of an annotation; without a category its pixels are not evaluated."""
        name = self.category(entry)
        if name is None:
            number = shown(entry.get("category_id"))
            tell(f"{where}: category {number} is not listed: left out of the evaluation")
            return NOT_EVALUATED
        return classes_of[name]

    def of(self, image_id: str, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
        """The annotations of an image.

        Raises:
            ImageError: the image has another size than the file says, or the file contradicts
                itself.
        """
        picture = self.pictures[image_id]
        if picture.fault is not None:
            raise ImageError(picture.fault)
        check_sizes(size_hw, picture.size_hw or size_hw, f"{image_id} in {self.path}")
        return self.entries(image_id)

    def entries(self, image_id: str) -> list[dict[str, Any]]:
        """The annotations of an image, whatever its size."""
        return self.annotations.get(self.pictures[image_id].number, [])

    def refuse(self, image_id: str, fault: str) -> None:
        """Leave an image out."""
        self.pictures[image_id] = self.pictures[image_id]._replace(fault=fault)

    def _add_image(self, entry: Mapping[str, Any]) -> None:
        """Add an image; one whose entries contradict each other gets no ground truth."""
        number = reading.identity_or_none(entry, "id")
        key = "file_name"
        if key not in entry and "coco_url" in entry:  # LVIS has no other name
            key = "coco_url"
        name = reading.field(entry, key, str, f"{self.path}, image {shown(number)}")
        image_id, where = reading.id_of(name, str(self.path)), f"{self.path}, image {shown(name)}"
        self.foreign |= reading.is_foreign(name)
        try:
            size_hw = reading.optional_size(entry, "height", "width", where)
            picture = Picture(reading.identity(entry, "id", where), size_hw)
        except UserError as error:
            picture = Picture(number, None, str(error))
        if self.pictures.setdefault(image_id, picture) != picture:
            self.refuse(image_id, f"{where} is there twice, with other numbers or sizes")
        if number is not None:
            self.annotations.setdefault(number, [])
            other = self._image_of.setdefault(number, image_id)
            if other != image_id:
                for one in (other, image_id):
                    both = f"{shown(other)} and {shown(image_id)}"
                    self.refuse(one, f"{self.path}: {both} are both image {shown(number)}")

    def _categories(self, entries: Iterable[Mapping[str, Any]]) -> dict[int | str, str]:
        """The names by number; a number may be a name, and what has no name is not listed.

        Raises:
            UserError: a category has two names, or none of them has one.
        """
        found: dict[int | str, str] = {}
        nameless = []
        for entry in entries:
            number = reading.identity(entry, "id", f"{self.path}, categories")
            name = entry.get("name")
            name = str(name) if type(name) in (int, float) else name
            if not isinstance(name, str):
                nameless.append(entry)
            elif plain(found.setdefault(number, name)) != plain(name):
                reading.refuse_twice(number, found, "category", str(self.path))
        if nameless and not found:
            number = reading.identity(nameless[0], "id", f"{self.path}, categories")
            reading.field(nameless[0], "name", str, f"{self.path}, category {number}")
        return {number: found[number] for number in sorted(found, key=_number_first)}


class CocoInstances:
    """A COCO instances file."""

    format = "COCO instances"
    unlisted_is_empty = False
    notes: tuple[str, ...] = ()
    also_named: Mapping[str, str] = MappingProxyType({})

    def __init__(self, path: Path, loaded: Mapping[str, Any]) -> None:
        """Check and sort what was read; outlines are checked when they are drawn.

        Raises:
            UserError: the file is not as `CocoFile` expects it.
        """
        self._file = CocoFile(path, loaded)
        self.names: tuple[str, ...] | None = tuple(self._file.categories.values())
        self._entries = [entry for part in self._file.annotations.values() for entry in part]
        self.used: frozenset[Category] = self._file.used(self._entries)
        self.files = {"": path}
        self.faults, self.foreign = self._file.faults, self._file.foreign

    def ids(self) -> list[str]:
        """The images in the file, with or without annotations."""
        return list(self._file.pictures)

    def draw(
        self,
        image_id: str,
        classes_of: Mapping[Category, int],
        size_hw: tuple[int, int],
        tell: Tell = silent,
    ) -> NDArray[np.int32]:
        """Draw the map of one image; smaller objects are on top, crowds beneath all others."""
        crowds: list[shapes.Layer] = []
        found: list[shapes.Layer] = []
        boxes: list[shapes.Layer] = []  # above all: it is not known what of them is seen
        for entry in self._file.of(image_id, size_hw):
            where = f"{image_id} in {self._file.path}, annotation {shown(entry.get('id'))}"
            crowd = _is_crowd(entry, where)
            label = self._file.label(entry, classes_of, where, tell)
            layer = objects.layer_of(
                partial(objects.mask_of, entry.get("segmentation"), size_hw, where, tell),
                label,
                partial(self._box, entry),
                size_hw,
                tell,
            )
            if layer is not None:
                above = layer.label == NOT_EVALUATED != label
                (boxes if above else crowds if crowd else found).append(layer)
        layers = shapes.smaller_on_top(crowds) + shapes.smaller_on_top(found)
        return shapes.paint([*layers, *boxes], size_hw)

    def _box(self, entry: Mapping[str, Any]) -> objects.Box | None:
        return objects.box_of(entry.get("bbox")) if self._boxes_are_reliable else None

    @cached_property
    def _boxes_are_reliable(self) -> bool:
        return objects.reliable(self._entries)


def _is_crowd(entry: Mapping[str, Any], where: str) -> bool:
    crowd = reading.as_number(entry.get("iscrowd") or 0)
    if isinstance(crowd, str):
        crowd = {"true": 1, "false": 0}.get(crowd.strip().lower(), crowd)
    if crowd not in (0, 1):
        raise ImageError(f"{where}: 'iscrowd' is {shown(entry['iscrowd'])}; expected 0 or 1")
    return bool(crowd)


def _number_first(key: int | str) -> tuple[bool, Any]:
    """A sort key that puts numbers before texts."""
    return isinstance(key, str), key
