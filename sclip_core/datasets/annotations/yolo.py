"""YOLO segmentation: one text file an image, a line an object (docs.ultralytics.com, "Segment").

A line is the number of the category, counted from 0, and x, y, x, y, ... as fractions of the
image's width and height. An empty or missing file is an image without objects. The order of lines
means nothing, so the smaller object is painted over the larger.

Lines of detection have a box in place of an outline: x and y of its centre, width and height.
Lines of poses have key points after the box.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import few, shown
from sclip_core.datasets.annotations import objects, reading, shapes
from sclip_core.datasets.annotations.categories import NOT_EVALUATED, Category
from sclip_core.datasets.annotations.objects import Tell, silent
from sclip_core.datasets.annotations.yolo_names import Names, find_names
from sclip_core.datasets.annotations.yolo_poses import BOX, poses_in

UNIT = (1, 1)  # the size of a picture, in fractions of it
EXCEPTIONS = 0.2  # of the lines, whose categories may have no name
ROUNDED = 0.01  # by which rounding may lead out of the picture


class Outline(NamedTuple):
    """One line of a file, whose points are not checked yet."""

    category: int
    points: NDArray[np.float64]  # x, y, x, y, ... as fractions
    place: str  # what to call it in an error


class Yolo:
    """A folder of YOLO files.

    The names of the categories are in a YAML file with ``names:``, or in ``classes.txt`` or another
    of the usual text files, in the folder or one of the two above it; the nearest is used.
    """

    format = "YOLO"
    unlisted_is_empty = True
    faults: tuple[str, ...] = ()
    foreign = False
    also_named: Mapping[str, str] = MappingProxyType({})

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Read all files.

        Args:
            folder: where the names are looked for.
            files: the files by image id.

        Raises:
            UserError: none of them is a YOLO file, or a category has no name.
        """
        self.files = {path.relative_to(folder).as_posix(): path for path in files.values()}
        self._outlines: dict[str, tuple[Outline, ...]] = {}
        self._errors: dict[str, UserError] = {}  # of the other files
        for image_id, path in files.items():
            try:
                self._outlines[image_id] = _outlines(path)
            except UserError as error:
                self._errors[image_id] = error
        if self._errors and not any(self._outlines.values()):
            raise next(iter(self._errors.values()))
        self._ids = list(files)
        names = find_names(folder)
        self._names = names.by_number if names else None
        self.names: tuple[str, ...] | None = names and tuple(names.by_number.values())
        self.notes: tuple[str, ...] = names.notes if names else ()
        lines = [outline for part in self._outlines.values() for outline in part]
        if names:
            self.files["names: "] = names.path
            _refuse_nameless(lines, names)
        elif lines:
            self.notes = (_numbers(lines, folder),)
        found = (self._category(line) for line in lines)
        self.used: frozenset[Category] = frozenset(name for name in found if name is not None)
        poses = poses_in(line.points for line in lines)
        self._pose = BOX + names.key_points if names and names.key_points else None
        self._poses = poses.sizes if self._pose is None else poses.sizes | {self._pose}
        if self._pose is None:
            self.notes += poses.notes
        self._has_outlines = any(self._kind(line) is None for line in lines)

    def ids(self) -> list[str]:
        """The images that have a file."""
        return self._ids

    def draw(
        self,
        image_id: str,
        classes_of: Mapping[Category, int],
        size_hw: tuple[int, int],
        tell: Tell = silent,
    ) -> NDArray[np.int32]:
        """Draw the map of one image; smaller objects are on top."""
        if image_id in self._errors:
            raise ImageError(str(self._errors[image_id]))
        layers: list[shapes.Layer] = []
        boxes: list[shapes.Layer] = []  # above all: it is not known what of them is seen
        for line in self._outlines.get(image_id, ()):
            category = self._category(line)
            if category is None:
                why = f"category {line.category} has no name: left out of the evaluation"
                tell(f"{line.place}: {why}")
            label = NOT_EVALUATED if category is None else classes_of[category]
            mask, box = partial(self._mask, line, size_hw, tell), partial(self._box, line, size_hw)
            layer = objects.layer_of(mask, label, box, size_hw, tell)
            if layer is not None:
                above = layer.label == NOT_EVALUATED != label
                (boxes if above else layers).append(layer)
        return shapes.paint([*shapes.smaller_on_top(layers), *boxes], size_hw)

    def _category(self, line: Outline) -> Category | None:
        """The name of a line's category, or its number; None: there are names, and it has none."""
        return line.category if self._names is None else self._names.get(line.category)

    def _kind(self, line: Outline) -> str | None:
        """What a line is that is no outline, as the end of a sentence."""
        if line.points.size == BOX:
            return "is a box"
        if line.points.size in self._poses:
            verb = "is" if line.points.size == self._pose else "looks like"
            return f"{verb} a box with key points of a pose"
        return None

    def _mask(self, line: Outline, size_hw: tuple[int, int], tell: Tell) -> dict[str, Any]:
        kind = self._kind(line)
        if kind is not None:
            raise shapes.NoAreaError(
                f"{line.place} {kind}, which does not tell which pixels are meant (export segments)"
            )
        pairs = shapes.corners(line.points, UNIT, line.place)
        if len(pairs) >= shapes.LEAST and not objects.has_area(pairs):
            few_points = f"an outline of {len(pairs)} points without area"
            raise objects.NothingError(f"{line.place}: {few_points}")
        if pairs.size and (pairs.min() < -ROUNDED or pairs.max() > 1 + ROUNDED):
            least, most = pairs.min(), pairs.max()
            tell(
                f"{line.place}: coordinates from {least:g} to {most:g}, expected 0 to 1: what lies "
                "beyond is left out"
            )
        return shapes.polygon(pairs * size_hw[::-1], size_hw, line.place)

    def _box(self, line: Outline, size_hw: tuple[int, int]) -> objects.Box | None:
        """The box of a line that is one, in a set that has outlines as well."""
        if self._kind(line) is None or not self._has_outlines:
            return None
        x, y, width, height = line.points[:BOX].tolist()
        left, top = (x - width / 2) * size_hw[1], (y - height / 2) * size_hw[0]
        return objects.box_of((left, top, width * size_hw[1], height * size_hw[0]))


def looks_like_yolo(path: Path) -> bool:
    """Whether the first line of a text file could be one of YOLO's; true for an empty file."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "0 0")
        [float(word) for word in first.split()]
    except (OSError, ValueError):
        return False
    return True


def _outlines(path: Path) -> tuple[Outline, ...]:
    """The lines of one file."""
    try:
        lines = reading.read_bytes_of(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not a text file: expected YOLO's lines 'category x y x y ...'"
        ) from None
    return tuple(
        _outline(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    )


def _outline(line: str, place: str) -> Outline:
    try:
        category, *points = map(float, line.split())
        number = int(category)
    except (ValueError, OverflowError):
        number, category, points = -1, 0, []
    if number != category or number < 0:
        raise UserError(f"{place} is {shown(line)}: expected 'category x y x y ...', in numbers")
    return Outline(number, np.array(points), place)


def _refuse_nameless(lines: list[Outline], names: Names) -> None:
    """Raise if categories without a name are no exception: the names may be of another set."""
    nameless = [line for line in lines if line.category not in names.by_number]
    if len(nameless) > EXCEPTIONS * len(lines):
        given = sorted(names.by_number)
        raise UserError(
            f"{nameless[0].place}: category {nameless[0].category}, but names are given for "
            f"{given[0]}..{given[-1]} in {names.path}"
        )


def _numbers(lines: list[Outline], folder: Path) -> str:
    """The note where there are no names."""
    used = few(sorted({line.category for line in lines}), 5)
    return (
        f"no names for YOLO's categories in or above {folder} (a YAML file with 'names:', or "
        f"classes.txt): the numbers {used} are taken for lines of --classes, counted from 0"
    )
