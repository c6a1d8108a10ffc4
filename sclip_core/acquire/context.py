"""PASCAL Context: raw annotations to classes (docs/protocol.md, section 7)."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.acquire.conversion import (
    Classes,
    Job,
    checked_size,
    images_by_name,
    json_parts,
    paint,
)
from sclip_core.config import ImageError, UserError
from sclip_core.datasets.samples import read_split
from sclip_core.store.files import write_whole, written_to

# PASCAL Context: the categories, of 459, that are the 59 classes, in their order; 0 is the rest.
CONTEXT_IDS = (
    *(0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105),
    *(113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308),
    *(324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454),
    458,
)
CONTEXT_FILE = "trainval_merged.json"
CONTEXT_SPLIT = "ImageSets/SegmentationContext/val.txt"


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


def context_jobs(tree: Path, _: str) -> list[Job]:
    """PASCAL Context: one job for each image of the validation split."""
    images, segments = _context(tree)
    stems = images_by_name(tree / CONTEXT_FILE, images)
    folder = tree / "SegmentationClassContext"

    def draw(image: dict[str, Any]) -> Classes:
        size = (image["height"], image["width"])
        return context_map(size, segments[image["image_id"]], image["file_name"])

    return [
        Job(stem, folder / f"{stem}.png", functools.partial(draw, image))
        for stem, image in stems.items()
    ]


def _context(tree: Path) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    """The images of the validation split, and the segments of each image."""
    hint = "sclip data download context60 says where to get it"
    data = json_parts(tree / CONTEXT_FILE, ("images", "annos_segmentation"), hint)
    images = list(_kept_by_detail(data["images"], lambda image: image["phase"] == "val"))
    ids = {image["image_id"] for image in images}
    segments: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for segment in _kept_by_detail(data["annos_segmentation"], lambda one: one["image_id"] in ids):
        segments[segment["image_id"]].append(segment)
    return images, segments


def _kept_by_detail(
    entries: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """The entries of a list that the Detail API keeps, which made the published maps and split.

    It removes unwanted entries from the list while iterating over it, and so skips the entry after
    each of them. That is why the split has 5,104 of the 5,105 images.
    """
    skip_next = False
    for entry in entries:
        if skip_next:
            skip_next = False
        elif wanted(entry):
            yield entry
        else:
            skip_next = True


def context_split_is_there(tree: Path, stems: list[str], force: bool) -> bool:
    """Whether the split file has these images, in whatever order.

    Raises:
        UserError: it has others and is not to be replaced.
    """
    path = tree / CONTEXT_SPLIT
    if not os.path.lexists(path):
        return False
    try:
        there = read_split(path)
    except UserError as error:
        if force:
            return False
        raise UserError(f"{error}; or pass --force to replace it") from None
    if set(there) == set(stems) or force:
        return set(there) == set(stems)
    odd = sorted(set(there) ^ set(stems))
    raise UserError(
        f"{path} is another split: it has {len(there):,} images, that of {CONTEXT_FILE} "
        f"{len(stems):,}, and {odd[0]} is in only one of them; it was left unchanged: pass --force "
        "to replace it"
    )


def write_context_split(tree: Path, stems: list[str], force: bool) -> None:
    """Write the split file beside the maps, unless it is there."""
    path = tree / CONTEXT_SPLIT
    if context_split_is_there(tree, stems, force):
        return
    text = "".join(f"{stem}\n" for stem in stems)
    with written_to(path.parent, "choose a --root that can be written to"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: target.write_text(text, "utf-8"))
