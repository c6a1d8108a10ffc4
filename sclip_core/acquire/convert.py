"""Raw annotations to the classes that are evaluated (docs/protocol.md, section 7), as arrays.

Painting masks needs pycocotools (extra ``data``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.config import ImageError
from sclip_core.config.errors import few, shown
from sclip_core.datasets.annotations import shapes

UNLABELLED = 255
REFUSED = 254  # in a table, a value that raw maps cannot have

LONGEST_SIDE = 1 << 15  # pixels; a larger map is a mistake in its annotations

# COCO-Stuff's raw maps hold (category id - 1): 0..181, of which 11 categories were never used.
STUFF_IDS = 182
STUFF_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
THINGS = 90  # ids 0..89 are COCO's things

# Cityscapes: label ids of the 19 classes that are evaluated, in the order of their train ids.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LABELS = 34
CITYSCAPES_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
CITYSCAPES_VOID = frozenset(
    {
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
        *("ground", "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup"),
        *("caravan", "trailer"),
    }
)
CITYSCAPES_LEFT_OUT = "license plate"  # has no id: the object beneath it counts

# PASCAL Context: the categories, of 459, that are the 59 classes, in their order; 0 is the rest.
CONTEXT_IDS = (
    *(0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105),
    *(113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308),
    *(324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454),
    458,
)


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


def cityscapes_table() -> NDArray[np.uint8]:
    """The table (256,) from Cityscapes' label ids to the 19 train ids; 255 for all others.

    >>> cityscapes_table()[[0, 7, 8, 9, 33]].tolist()
    [255, 0, 1, 255, 18]
    """
    table = np.full(256, REFUSED, np.uint8)
    table[:CITYSCAPES_LABELS] = UNLABELLED
    table[list(CITYSCAPES_IDS)] = np.arange(len(CITYSCAPES_IDS))
    table[UNLABELLED] = UNLABELLED  # id -1 in 8 bits
    return table


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


def cityscapes_polygons(annotation: Mapping[str, Any], name: str = "polygons") -> NDArray[np.uint8]:
    """Draw a Cityscapes polygon file as train ids, 255 for pixels that are not evaluated.

    Objects are drawn in their order, by Pillow, as the publisher's scripts do; ``cargroup`` is
    ``car``; deleted objects and license plates are left out.

    Args:
        annotation: the parsed JSON: ``imgHeight``, ``imgWidth``, ``objects``.
        name: what to call the file in an error, e.g. its path.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: a part is missing, or a label is not one of Cityscapes.
    """
    try:
        size = checked_size((annotation["imgHeight"], annotation["imgWidth"]), name)
        image = Image.new("L", size[::-1], UNLABELLED)
        draw = ImageDraw.Draw(image)
        for number, entry in enumerate(annotation["objects"]):
            value = None if entry.get("deleted") else _cityscapes_class(entry["label"], name)
            if value is not None:
                shapes.corners(entry["polygon"], size, f"{name}, object {number}")
                draw.polygon([(x, y) for x, y in entry["polygon"]], fill=value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(
            f"{name} is not a Cityscapes polygon file ({type(error).__name__}: {error}): expected "
            "imgHeight, imgWidth and objects with label and polygon"
        ) from None
    return np.asarray(image)


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


def _cityscapes_class(label: str, name: str) -> int | None:
    """The train id of a label, 255 if it is not evaluated; None if it is not drawn."""
    known = {*CITYSCAPES_NAMES, *CITYSCAPES_VOID, CITYSCAPES_LEFT_OUT}
    plain = label if label in known else label.removesuffix("group")
    if plain in CITYSCAPES_NAMES:
        return CITYSCAPES_NAMES.index(plain)
    if plain in CITYSCAPES_VOID:
        return UNLABELLED
    if plain == CITYSCAPES_LEFT_OUT:
        return None
    raise ImageError(f"{name}: '{label}' is not a label of Cityscapes; expected e.g. 'road', 'car'")


def context_map(
    size: tuple[int, int], segments: Iterable[Mapping[str, Any]], name: str = "image"
) -> NDArray[np.uint8]:
    """Paint the segments of an image of PASCAL Context as classes 1..59, and 0 elsewhere.

    Args:
        size: height and width, in pixels.
        segments: entries of ``annos_segmentation``: ``category_id``, ``segmentation`` (RLE).
            They should not overlap; where they do, the later is on top.
        name: what to call the image in an error.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: a category is not one of the 60, or masks cannot be read.
        UserError: pycocotools is not installed.
    """
    classes = np.zeros(checked_size(size, name), np.uint8)
    for number, segment in enumerate(segments):
        category = segment["category_id"]
        if category not in CONTEXT_IDS:
            raise ImageError(
                f"{name}: category {category} is not one of the 60 of trainval_merged.json; "
                "is it the file of another release?"
            )
        where = f"{name}, segment {number}"
        paint(classes, segment["segmentation"], CONTEXT_IDS.index(category), where)
    return classes


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
