"""YOLO segmentation: one text file an image, a line an object (docs.ultralytics.com, "Segment").

A line is the number of the category, counted from 0, and x, y, x, y, ... as fractions of the
image's width and height. An empty or missing file is an image without objects. The order of lines
means nothing, so the smaller object is painted over the larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import shown
from sclip_core.config.yaml_file import load_yaml
from sclip_core.datasets.annotations import reading, shapes
from sclip_core.datasets.annotations.categories import Category, plain

TEXT_NAMES = "classes.txt"  # one name a line
YAML_NAMES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "dataset.yml",
)  # `names:`, a list, or numbers with names
UP = 3  # folders searched for names: that of the labels and two above it
BOX = 4  # numbers in a line that is a box
UNIT = (1, 1)  # the size of a picture, in fractions of it


class Outline(NamedTuple):
    """One line of a file, whose points are not checked yet."""

    category: Category
    points: NDArray[np.float64]  # x, y, x, y, ... as fractions
    place: str  # what to call it in an error


class Yolo:
    """A folder of YOLO files.

    The names of the categories are in a ``data.yaml``, ``dataset.yaml`` (or ``.yml``) or
    ``classes.txt`` in the folder or one of the two above it; the nearest is used.
    """

    format = "YOLO"
    unlisted_is_empty = True

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Read all files.

        Args:
            folder: where the names are looked for.
            files: the files by image id.

        Raises:
            UserError: a file is not a YOLO file, or a category has no name.
        """
        self.files = {path.relative_to(folder).as_posix(): path for path in files.values()}
        self.names: tuple[str, ...] | None = None
        source = _names_file(folder)
        if source is not None:
            self.names = _names(source)
            self.files["names: "] = source
        self._outlines = {i: _outlines(path, self.names) for i, path in files.items()}
        drawn = (outline for part in self._outlines.values() for outline in part)
        self.used: frozenset[Category] = frozenset(outline.category for outline in drawn)

    def ids(self) -> list[str]:
        """The images that have a file."""
        return list(self._outlines)

    def draw(
        self, image_id: str, classes_of: Mapping[Category, int], size_hw: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Draw the map of one image; smaller objects are on top."""
        layers = []
        for outline in self._outlines.get(image_id, ()):
            if outline.points.size == BOX:
                raise ImageError(
                    f"{outline.place} is a box, which does not tell which pixels are meant: export "
                    "segments"
                )
            pairs = shapes.corners(outline.points, UNIT, outline.place) * size_hw[::-1]
            mask = shapes.polygon(pairs, size_hw, outline.place)
            layers.append(shapes.Layer(mask, classes_of[outline.category]))
        return shapes.paint(shapes.smaller_on_top(layers), size_hw)


def looks_like_yolo(path: Path) -> bool:
    """Whether the first line of a text file could be one of YOLO's; true for an empty file."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "0 0")
        [float(word) for word in first.split()]
    except (OSError, ValueError):
        return False
    return True


def _outlines(path: Path, names: tuple[str, ...] | None) -> tuple[Outline, ...]:
    """The lines of one file."""
    try:
        lines = reading.read_bytes_of(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not a text file: expected YOLO's lines 'category x y x y ...'"
        ) from None
    return tuple(
        _outline(line, names, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    )


def _outline(line: str, names: tuple[str, ...] | None, place: str) -> Outline:
    try:
        category, *points = map(float, line.split())
        number = int(category)
    except (ValueError, OverflowError):
        number, category, points = -1, 0, []
    if number != category or number < 0:
        raise UserError(f"{place} is {shown(line)}: expected 'category x y x y ...', in numbers")
    if names is None:
        return Outline(number, np.array(points), place)
    if number >= len(names):
        raise UserError(f"{place}: category {number}, but names are given for 0..{len(names) - 1}")
    return Outline(names[number], np.array(points), place)


def _names_file(folder: Path) -> Path | None:
    """The nearest file with names; a YAML file without ``names:`` does not count.

    YAML goes before ``classes.txt``, which may be the user's list of classes for ``--classes``: in
    another order, it would silently swap the classes.

    Raises:
        UserError: both are there and differ.
    """
    places = [folder, *folder.absolute().parents][:UP]

    def nearest(*names: str) -> Path | None:
        found = (place / name for place in places for name in names)
        return next((path for path in found if path.is_file() and _has_names(path)), None)

    text, yaml_file = nearest(TEXT_NAMES), nearest(*YAML_NAMES)
    if text is not None and yaml_file is not None:
        first, second = ([plain(n.partition(",")[0]) for n in _names(p)] for p in (text, yaml_file))
        if first != second:
            raise UserError(
                f"{text} and {yaml_file} name YOLO's categories differently: remove the wrong "
                "one, or, if it is a list of classes for --classes, give it another name"
            )
    return yaml_file or text


def _has_names(path: Path) -> bool:
    return path.name == TEXT_NAMES or "names" in _yaml(path)


def _yaml(path: Path) -> dict[str, object]:
    try:
        loaded = load_yaml(reading.read_bytes_of(path))
    except ValueError as error:
        raise UserError(f"{path} is not YAML ({error}): it should name the categories") from None
    return loaded if isinstance(loaded, dict) else {}


def _names(path: Path) -> tuple[str, ...]:
    """The names in a file that has some."""
    found: object
    if path.name == TEXT_NAMES:
        text = reading.read_bytes_of(path).decode("utf-8-sig", errors="replace")
        found = [line.strip() for line in text.rstrip().splitlines()]
    else:
        found = _yaml(path)["names"]
    if isinstance(found, dict) and set(found) == set(range(len(found))):
        found = [found[number] for number in range(len(found))]
    if not isinstance(found, list) or not found or not all(n and isinstance(n, str) for n in found):
        raise UserError(f"{path}: the names are {shown(found)}; expected a name for each, from 0")
    return tuple(found)
