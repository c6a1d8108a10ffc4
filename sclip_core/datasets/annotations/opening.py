"""Annotations in any of the formats, which is recognised by what is in the files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import UserError
from sclip_core.datasets.annotations import reading
from sclip_core.datasets.annotations.categories import Category
from sclip_core.datasets.annotations.coco import CocoInstances
from sclip_core.datasets.annotations.labelme import LabelMe
from sclip_core.datasets.annotations.panoptic import CocoPanoptic
from sclip_core.datasets.annotations.yolo import TEXT_NAMES, Yolo, looks_like_yolo
from sclip_core.datasets.label_files import SINGLE_CHANNEL
from sclip_core.datasets.samples import by_suffix, files_of
from sclip_core.datasets.suffixes import LABEL_SUFFIXES

EXPECTED = (
    "expected a COCO file (.json), a folder of LabelMe files (.json) or one of YOLO files (.txt)"
)
LOOK_AT = 20  # files of a folder that are read to recognise the format


class Annotations(Protocol):
    """Ground truth as shapes, from which label maps are drawn.

    Attributes:
        format: ``"COCO instances"``, ``"COCO panoptic"``, ``"LabelMe"`` or ``"YOLO"``.
        names: the names of the categories, in the order of their numbers; None: there are none.
        used: the categories that have an annotation, by name, or by number if there are no names.
        files: all files that the maps depend on, by a name that is independent of their place.
        unlisted_is_empty: whether an image without annotations has no objects for certain.
    """

    format: str
    unlisted_is_empty: bool
    names: tuple[str, ...] | None
    used: frozenset[Category]
    files: dict[str, Path]

    def ids(self) -> list[str]:
        """The images with annotations: file names without ending, with subfolder (``a/b``)."""

    def draw(
        self, image_id: str, classes_of: Mapping[Category, int], size_hw: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Draw the map of one image; several threads may call it.

        Args:
            image_id: one of `ids`, or any if ``unlisted_is_empty``.
            classes_of: the class of each category of ``used``.
            size_hw: the size of the image as it is read, after EXIF rotation.

        Returns:
            (H, W) int32, classes, or `IGNORED` (-1) where nothing is annotated.

        Raises:
            ImageError: the image has another size than the annotations say, or a shape cannot be
                drawn.
            UserError: pycocotools is not installed.
        """


def open_annotations(path: Path) -> Annotations:
    """Open annotations in whatever format they are.

    Args:
        path: a COCO file, or a folder of LabelMe or YOLO files, searched with its subfolders.

    Raises:
        UserError: there are no annotations, they are in none or two of the formats, or damaged.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise UserError(f"no annotations at {path}: {EXPECTED}")
    if path.suffix.lower() != ".json":
        raise UserError(f"{path} is not a JSON file: {EXPECTED}")
    loaded = reading.read_json(path)
    if "shapes" in loaded:
        raise UserError(f"{path} is a LabelMe file, which has one image: pass its folder")
    entries = reading.objects(loaded, "annotations", str(path))
    panoptic = any("segments_info" in entry for entry in entries)
    return CocoPanoptic(path, loaded) if panoptic else CocoInstances(path, loaded)


def is_annotations(path: Path) -> bool:
    """Whether a path has annotations rather than label maps, judged by a few files.

    It has if it is a ``.json`` file, or a folder in which the first ``.json`` file is LabelMe's or
    one of the first ``.txt`` files YOLO's, unless the first PNG, TIFF or BMP is a label map.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_dir():
        return path.suffix.lower() == ".json" and path.exists()
    pictures = sorted(by_suffix(path, LABEL_SUFFIXES))
    if pictures and _is_label_map(path / pictures[0][0]):
        return False
    pages, texts = _candidates(path)
    return _is_labelme(pages) or _is_yolo(texts)


def in_fractions(path: Path) -> bool:
    """Whether a path has annotations in fractions, YOLO's, which fit an image of any size."""
    path = Path(os.path.expanduser(path))
    return path.is_dir() and is_annotations(path) and not by_suffix(path, (".json",))


def _open_folder(folder: Path) -> Annotations:
    pages, texts = _candidates(folder)
    yolo = _is_yolo(texts)
    if pages and yolo:
        some = next(iter(pages.values())).name, next(iter(texts.values())).name
        raise UserError(
            f"{folder} holds both JSON and YOLO files, e.g. {some[0]} and {some[1]}: leave one "
            "kind in it"
        )
    if pages:
        return LabelMe(folder, pages)
    if texts:
        return Yolo(folder, texts)
    raise UserError(f"{folder} holds no annotations: {EXPECTED}")


def _candidates(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files that may be LabelMe's, and those that may be YOLO's, by image id."""
    texts = files_of(folder, (".txt",))
    named = {image_id: path for image_id, path in texts.items() if path.name != TEXT_NAMES}
    return files_of(folder, (".json",)), named


def _is_labelme(pages: Mapping[str, Path]) -> bool:
    loaded: dict[str, Any] = {}
    for path in list(pages.values())[:1]:
        try:
            loaded = reading.read_json(path)
        except UserError:
            return False
    return "shapes" in loaded


def _is_yolo(texts: Mapping[str, Path]) -> bool:
    """Whether one of the first text files is YOLO's; a README may be among them."""
    return any(looks_like_yolo(path) for path in islice(texts.values(), LOOK_AT))


def _is_label_map(path: Path) -> bool:
    """Whether an image has one channel; a file that cannot be read counts as a label map."""
    try:
        with Image.open(path) as image:
            return image.mode in SINGLE_CHANNEL
    except Exception:  # Pillow's readers raise a dozen kinds
        return True
