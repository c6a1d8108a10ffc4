"""What the conversions of raw annotations to label maps share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import few, shown
from sclip_core.config.protocol import is_text
from sclip_core.datasets.annotations import shapes
from sclip_core.datasets.annotations.reading import read_json
from sclip_core.datasets.below import entries

Classes = NDArray[np.uint8]
UNLABELLED = 255  # in raw maps and in those that are evaluated
REFUSED = 254  # in a table, a value that raw maps cannot have
LONGEST_SIDE = 1 << 15  # pixels; a larger map is a mistake in its annotations
FETCH_AGAIN = "it is not the file as published, download it again"


class Job(NamedTuple):
    """A label map to be made."""

    image_id: str
    target: Path
    draw: Callable[[], Classes]


@dataclass(frozen=True)
class Conversion:
    """How the label maps of a layout are made.

    Attributes:
        sources: what they can be made from; the default is the first.
        jobs: lists the maps of a tree, made from one of the sources.
        version: raised by hand whenever the maps change.
        choose_what_is_there: whether all sources give the same maps, so that any will do.
        check: checks, before any map is drawn, what ``finish`` will write.
        finish: writes what remains once all maps are there. Both take the tree, the images in
            order, and whether files that differ are replaced.
    """

    sources: tuple[str, ...]
    jobs: Callable[[Path, str], list[Job]]
    version: int = 1
    choose_what_is_there: bool = False
    check: Callable[[Path, list[str], bool], object] = lambda tree, images, force: None
    finish: Callable[[Path, list[str], bool], object] = lambda tree, images, force: None

    def listed(self, tree: Path, source: str) -> list[Job]:
        """The maps to be made.

        Raises:
            UserError: the raw annotations are missing, or not as published.
        """
        try:
            return self.jobs(tree, source)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"the annotations in {tree} lack a part or have an unexpected form ({error!r}): "
                "are they the files as published? sclip data list names them"
            ) from None

    def present(self, tree: Path, source: str) -> bool:
        """Whether the raw annotations are there."""
        try:
            return bool(self.listed(tree, source))
        except UserError:
            return False


def converted(
    raw: NDArray[np.integer], table: NDArray[np.uint8], expected: str, name: str = "label map"
) -> NDArray[np.uint8]:
    """Replace every value of a raw label map by its class.

    Args:
        raw: (H, W) values.
        table: (256,) the class of each value, from a function of this module.
        expected: what raw maps hold, for the error.
        name: what to call the map in an error, e.g. its path.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: a value that no raw map has.
    """
    low, high = (int(raw.min()), int(raw.max())) if raw.size else (0, 0)
    if low < 0 or high > UNLABELLED:
        raise ImageError(f"{name}: values {low}..{high}; expected {expected}")
    out = table[raw.astype(np.uint8)]
    if (table == REFUSED).any() and (out == REFUSED).any():
        found = sorted(set(raw[out == REFUSED].tolist()))
        raise ImageError(
            f"{name}: found the values {few(found, 5)}; expected {expected}: "
            "is it a raw map, as published?"
        )
    return out


def checked_size(size_hw: tuple[Any, Any], name: str) -> tuple[int, int]:
    """The size of a map to be drawn, as its annotations give it.

    Args:
        size_hw: height and width, in pixels.
        name: what to call the annotations in an error.

    Raises:
        ImageError: they are not whole numbers, or larger than any picture.
    """
    for side in size_hw:
        if type(side) is not int or not 0 < side <= LONGEST_SIDE:
            raise ImageError(
                f"{name}: the size is {shown(size_hw)} (height, width); expected two whole "
                f"numbers of 1..{LONGEST_SIDE:,}"
            )
    return size_hw


def paint(classes: NDArray[np.uint8], segmentation: Any, value: int, name: str = "image") -> None:
    """Set the pixels of a COCO segmentation, in place.

    Args:
        classes: (H, W).
        segmentation: a list of polygons, or an RLE with packed or plain counts.
        value: for the pixels inside.
        name: what to call the annotation in an error.

    Raises:
        ImageError: it is neither, of another size, or damaged.
        UserError: pycocotools is not installed.
    """
    height, width = classes.shape
    classes[shapes.pixels(shapes.mask_of(segmentation, (height, width), name))] = value


def images_by_name(path: Path, images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The images of an annotation file by file name without ending.

    Args:
        path: the annotation file, for the error.
        images: its entries of images, each with a ``file_name``.

    Raises:
        UserError: there are none, a name is there twice, or cannot be that of a file.
    """
    found: dict[str, dict[str, Any]] = {}
    for image in images:
        stem = os.path.splitext(image["file_name"])[0]
        if not is_text(stem) or not stem or {"\0", "/", "\\"} & set(stem) or stem in found:
            what = "twice" if stem in found else "which cannot be a file name"
            raise UserError(
                f"{path} lists the image {shown(image['file_name'])}, {what}: {FETCH_AGAIN}"
            )
        found[stem] = image
    if not found:
        raise UserError(f"{path} lists no images of the validation split: {FETCH_AGAIN}")
    return found


def paths_in(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if there is no such folder."""
    return [folder / name for name in entries(folder)] if folder.exists() else []


def json_parts(path: Path, parts: tuple[str, ...], hint: str) -> dict[str, Any]:
    """The object in a JSON file, which has these parts."""
    if not path.exists():
        raise UserError(f"no {path}: {hint}")
    data = read_json(path)
    missing = [part for part in parts if part not in data]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}: is it another file? {hint}")
    return data
