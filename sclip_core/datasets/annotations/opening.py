"""Annotations in any of the formats, which is recognised by what is in the files."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import UserError
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.annotations import reading
from sclip_core.datasets.annotations.categories import Category
from sclip_core.datasets.annotations.coco import CocoInstances
from sclip_core.datasets.annotations.kinds import advice_on, kinds_of, only_coco
from sclip_core.datasets.annotations.labelme import LabelMe
from sclip_core.datasets.annotations.objects import Tell, silent
from sclip_core.datasets.annotations.panoptic import CocoPanoptic
from sclip_core.datasets.annotations.yolo import Yolo
from sclip_core.datasets.label_files import SINGLE_CHANNEL
from sclip_core.datasets.samples import by_suffix
from sclip_core.datasets.suffixes import PICTURES

EXPECTED = (
    "expected a COCO file (.json), a folder of LabelMe files (.json) or one of YOLO files (.txt)"
)
FILES = (".json", ".xml")  # endings of a file that is no folder of label maps


class Annotations(Protocol):
    """Ground truth as shapes, from which label maps are drawn.

    Attributes:
        format: ``"COCO instances"``, ``"COCO panoptic"``, ``"LabelMe"`` or ``"YOLO"``.
        names: the names of the categories, in the order of their numbers; None: there are none.
        used: the categories that have an annotation, by name, or by number if there are no names.
        files: all files that the maps depend on, by a name that is independent of their place.
        unlisted_is_empty: whether an image without annotations has no objects for certain.
        also_named: other names of images in ``ids``, which count where no image has that one.
        foreign: whether the names of images are paths of another machine.
        faults: lines on annotations that are of no image and left out.
        notes: what a user should know, a line each.
    """

    format: str
    unlisted_is_empty: bool
    names: tuple[str, ...] | None
    used: frozenset[Category]
    files: dict[str, Path]
    also_named: Mapping[str, str]
    foreign: bool
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    def ids(self) -> list[str]:
        """The images with annotations: file names without ending, with subfolder (``a/b``)."""

    def draw(
        self,
        image_id: str,
        classes_of: Mapping[Category, int],
        size_hw: tuple[int, int],
        tell: Tell = silent,
    ) -> NDArray[np.int32]:
        """Draw the map of one image; several threads may call it.

        Args:
            image_id: one of `ids`, or any if ``unlisted_is_empty``.
            classes_of: the class of each category of ``used``.
            size_hw: the size of the image as it is read, after EXIF rotation.
            tell: called with a line for each shape that cannot be drawn as it should be, where
                the rest of the map is right.

        Returns:
            (H, W) int32, classes, `NOT_EVALUATED` (-2) where an object may be whose outline is
            not known, or `IGNORED` (-1) where nothing is annotated.

        Raises:
            ImageError: the image has another size than the annotations say, or it is not known
                where an object is.
            UserError: pycocotools is not installed.
        """


def open_annotations(path: Path) -> Annotations:
    """Open annotations in whatever format they are.

    Args:
        path: a COCO file, or a folder with one, or a folder of LabelMe or YOLO files; folders are
            searched with their subfolders, and may hold images as well.

    Raises:
        UserError: there are no annotations, they are in none or two of the formats, or damaged.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise UserError(f"no annotations at {path}: {EXPECTED}")
    if path.suffix.lower() != ".json":
        raise UserError(f"{path} is not a JSON file: {advice_on(path) or EXPECTED}")
    return _open_json(path)


def _open_json(path: Path) -> Annotations:
    advice = advice_on(path)
    if advice:
        raise UserError(f"{path} is not a COCO file: {advice}")
    loaded = reading.read_json(path)
    if "shapes" in loaded:
        raise UserError(f"{path} is a LabelMe file, which has one image: pass its folder")
    entries = reading.objects(loaded, "annotations", str(path))
    panoptic = any("segments_info" in entry for entry in entries)
    return CocoPanoptic(path, loaded) if panoptic else CocoInstances(path, loaded)


def is_annotations(path: Place, images: Place | None = None) -> bool:
    """Whether a path has annotations rather than label maps, judged by a few files.

    Places in object storage have none that are read.

    It has if it is a ``.json`` file, or a folder with COCO's or LabelMe's, or in which one of the
    first ``.txt`` files is YOLO's; unless the first PNG, TIFF or BMP is a label map, and not an
    image that lies beside its annotation.

    Args:
        path: of a file or a folder.
        images: the folder of the images.
    """
    if isinstance(path, ObjectPath):
        return False
    path = Path(os.path.expanduser(path))
    if not path.is_dir():
        return path.suffix.lower() in FILES and path.exists()
    found = kinds_of(path)
    if not (found.coco or found.labelme or found.yolo or found.advice):
        return False
    folder = images if isinstance(images, Path) else None
    return not _has_label_maps(path, folder, found.pages)


def in_fractions(path: Place) -> bool:
    """Whether a path has annotations in fractions, YOLO's, which fit an image of any size."""
    if isinstance(path, ObjectPath):
        return False
    path = Path(os.path.expanduser(path))
    if not path.is_dir() or not is_annotations(path):
        return False
    found = kinds_of(path)
    return found.yolo and not (found.coco or found.labelme)


def _open_folder(folder: Path) -> Annotations:
    found = kinds_of(folder)
    json_files = [*found.coco, *found.pages.values()]
    if (found.coco or found.labelme) and found.yolo:
        some = json_files[0].name, next(iter(found.texts.values())).name
        raise UserError(
            f"{folder} holds both JSON and YOLO files, e.g. {some[0]} and {some[1]}: leave one "
            "kind in it"
        )
    if found.coco and found.labelme:
        some = found.coco[0].name, next(iter(found.pages.values())).name
        raise UserError(f"{folder} holds COCO and LabelMe files, {some[0]} and {some[1]}: pass one")
    if found.coco:
        return _open_json(only_coco(found.coco, folder))
    if found.advice and not found.labelme:
        raise UserError(f"{folder} holds no annotations that can be read: {found.advice}")
    if found.pages:
        return LabelMe(folder, found.pages)
    if found.texts:
        return Yolo(folder, found.texts)
    raise UserError(f"{folder} holds no annotations: {EXPECTED}")


def _has_label_maps(folder: Path, images: Path | None, pages: Mapping[str, Path]) -> bool:
    """Whether the first picture in a folder is a label map; one without an image counts as none."""
    pictures = sorted(by_suffix(folder, PICTURES))
    if not pictures or not _is_label_map(folder / pictures[0][0]):
        return False
    name, image_id, _ = pictures[0]
    if image_id in pages and _image_of(pages[image_id]) == Path(name).name:
        return False
    return images is None or not _same(folder / name, Path(os.path.expanduser(images)) / name)


def _image_of(page: Path) -> str | None:
    """The name of the image that a LabelMe file says it is of."""
    with suppress(UserError):
        return Path(str(reading.read_json(page).get("imagePath")).replace("\\", "/")).name
    return None


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file, or of copies of it."""
    try:
        return one.samefile(other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _is_label_map(path: Path) -> bool:
    """Whether an image has one channel; a file that cannot be read counts as a label map."""
    try:
        with Image.open(path) as image:
            return image.mode in SINGLE_CHANNEL
    except Exception:  # Pillow's readers raise a dozen kinds
        return True
