"""COCO-Stuff and COCO-Object: raw annotations to classes (docs/protocol.md, section 7)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.acquire.conversion import (
    FETCH_AGAIN,
    REFUSED,
    UNLABELLED,
    Classes,
    Job,
    checked_size,
    converted,
    images_by_name,
    json_parts,
    paint,
    paths_in,
)
from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import shown
from sclip_core.datasets import read_label
from sclip_core.datasets.official_ids import STUFF_IDS, STUFF_UNUSED, THINGS
from sclip_core.datasets.record import image_and_label_folders

RAW_VALUES = "COCO-Stuff's raw values: 0..181, or 255 for unlabelled"
INSTANCES = "instances_val2017.json"
OBJECTS = 80  # COCO's things


def stuff_table() -> NDArray[np.uint8]:
    """The table (256,) from raw COCO-Stuff values to 171 classes in the order of their ids.

    255 stays 255.

    >>> table = stuff_table()
    >>> table[[0, 10, 12, 181, 255]].tolist()
    [0, 10, 11, 170, 255]
    """
    table = np.full(256, REFUSED, np.uint8)
    kept = [i for i in range(STUFF_IDS) if i not in STUFF_UNUSED]
    table[kept] = np.arange(len(kept))
    table[[*STUFF_UNUSED, UNLABELLED]] = UNLABELLED
    return table


def object_table() -> NDArray[np.uint8]:
    """The table (256,) from raw COCO-Stuff values to COCO-Object: 1..80 for things, else 0.

    >>> table = object_table()
    >>> table[[0, 12, 89, 90, 181, 255]].tolist()
    [1, 12, 80, 0, 0, 0]
    """
    table = np.full(256, REFUSED, np.uint8)
    table[:STUFF_IDS] = 0
    table[UNLABELLED] = 0
    things = [i for i in range(THINGS) if i not in STUFF_UNUSED]
    table[things] = np.arange(1, len(things) + 1)
    return table


def object_map(
    size: tuple[int, int],
    annotations: Sequence[Mapping[str, Any]],
    class_of: Mapping[int, int],
    name: str = "image",
) -> NDArray[np.uint8]:
    """Paint the instances of a COCO image, the other definition of COCO-Object.

    Crowd regions are painted first, then objects from the largest to the smallest.

    Args:
        size: height and width, in pixels.
        annotations: entries of an instance file: ``category_id``, ``segmentation`` (polygons or
            RLE), ``area``, ``iscrowd``.
        class_of: 1..80 by category id.
        name: what to call the image in an error.

    Returns:
        (H, W) uint8, 0 where there is no instance.

    Raises:
        ImageError: a category is unknown, or masks cannot be read.
        UserError: pycocotools is not installed.
    """
    classes = np.zeros(checked_size(size, name), np.uint8)
    for one in sorted(annotations, key=lambda a: (not a.get("iscrowd"), -a["area"], a["id"])):
        if one["category_id"] not in class_of:
            raise ImageError(f"{name}: category {one['category_id']} is not in the file's own list")
        where = f"{name}, annotation {one['id']}"
        paint(classes, one["segmentation"], class_of[one["category_id"]], where)
    return classes


def stuff_jobs(tree: Path, _: str) -> list[Job]:
    """COCO-Stuff: 182 values to 171 classes."""
    return _lookup_jobs(tree, "_labelTrainIds.png", stuff_table())


def object_jobs(tree: Path, source: str) -> list[Job]:
    """COCO-Object, from the stuff maps or from the instance file."""
    if source == "stuff":
        return _lookup_jobs(tree, "_instanceTrainIds.png", object_table())
    return _instance_jobs(tree)


def _lookup_jobs(tree: Path, suffix: str, table: Classes) -> list[Job]:
    """One job for each raw map of COCO-Stuff; the converted ones lie beside them."""
    folder = tree / "annotations/val2017"
    ids = [p.stem for p in paths_in(folder) if p.suffix == ".png" and "_" not in p.stem]
    if not ids:
        raise UserError(
            f"no raw maps of COCO-Stuff in {folder}: expected e.g. 000000000139.png, from "
            "stuffthingmaps_trainval2017.zip (sclip data download coco_stuff)"
        )

    def draw(path: Path) -> Classes:
        return converted(read_label(path), table, RAW_VALUES, str(path))

    return [
        Job(i, folder / f"{i}{suffix}", functools.partial(draw, folder / f"{i}.png")) for i in ids
    ]


def _instance_jobs(tree: Path) -> list[Job]:
    """One job for each image of COCO's instance file."""
    path = tree / "annotations" / INSTANCES
    hint = "from annotations_trainval2017.zip (sclip data download coco_object --source instances)"
    data = json_parts(path, ("images", "annotations", "categories"), hint)
    categories = sorted({row["id"] for row in data["categories"]})
    if len(categories) != OBJECTS or len(data["categories"]) != OBJECTS:
        raise UserError(
            f"{path} lists {len(data['categories'])} categories; expected COCO's {OBJECTS}, each "
            f"once: is it another file? {hint}"
        )
    class_of = {category: index for index, category in enumerate(categories, 1)}
    by_image = _by_image(path, data["images"], "id", data["annotations"])
    folder = tree / image_and_label_folders("coco_object")[1]

    def draw(image: dict[str, Any]) -> Classes:
        size = (image["height"], image["width"])
        return object_map(size, by_image[image["id"]], class_of, image["file_name"])

    return [
        Job(stem, folder / f"{stem}_instanceTrainIds.png", functools.partial(draw, image))
        for stem, image in images_by_name(path, data["images"]).items()
    ]


def _by_image(
    path: Path, images: list[dict[str, Any]], key: str, entries: list[dict[str, Any]]
) -> dict[int, list[dict[str, Any]]]:
    """The annotations of each image by its number, each of an image that is there."""
    found: dict[int, list[dict[str, Any]]] = {image[key]: [] for image in images}
    if len(found) != len(images):
        raise UserError(f"{path} has an image's number twice: {FETCH_AGAIN}")
    for entry in entries:
        if entry["image_id"] not in found:
            raise UserError(
                f"{path}: an annotation is of image {shown(entry['image_id'])}, which it does not "
                f"list: {FETCH_AGAIN}"
            )
        found[entry["image_id"]].append(entry)
    return found
