"""Cityscapes: raw annotations to classes (docs/protocol.md, section 7)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.acquire.conversion import (
    REFUSED,
    UNLABELLED,
    Classes,
    Job,
    checked_size,
    converted,
    json_parts,
    paths_in,
)
from sclip_core.config import ImageError, UserError
from sclip_core.datasets import read_label
from sclip_core.datasets.annotations import shapes
from sclip_core.datasets.official_ids import CITYSCAPES_IDS as IDS
from sclip_core.datasets.official_ids import CITYSCAPES_LABELS as LABELS

NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
VOID = frozenset(
    {
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
        *("ground", "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup"),
        *("caravan", "trailer"),
    }
)
LEFT_OUT = "license plate"  # has no id: the object beneath it counts
RAW_VALUES = "Cityscapes' label ids: 0..33, or 255"


def cityscapes_table() -> NDArray[np.uint8]:
    """The table (256,) from Cityscapes' label ids to the 19 train ids; 255 for all others.

    >>> cityscapes_table()[[0, 7, 8, 9, 33]].tolist()
    [255, 0, 1, 255, 18]
    """
    table = np.full(256, REFUSED, np.uint8)
    table[:LABELS] = UNLABELLED
    table[list(IDS)] = np.arange(len(IDS))
    table[UNLABELLED] = UNLABELLED  # id -1 in 8 bits
    return table


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


def _cityscapes_class(label: str, name: str) -> int | None:
    """The train id of a label, 255 if it is not evaluated; None if it is not drawn."""
    known = {*NAMES, *VOID, LEFT_OUT}
    plain = label if label in known else label.removesuffix("group")
    if plain in NAMES:
        return NAMES.index(plain)
    if plain in VOID:
        return UNLABELLED
    if plain == LEFT_OUT:
        return None
    raise ImageError(f"{name}: '{label}' is not a label of Cityscapes; expected e.g. 'road', 'car'")


def cityscapes_jobs(tree: Path, source: str) -> list[Job]:
    """Cityscapes, from its label ids or from the polygons that these were drawn from."""
    folder = tree / "gtFine/val"
    suffix = f"_gtFine_{'labelIds.png' if source == 'labelIds' else 'polygons.json'}"
    raw = [p for city in paths_in(folder) if city.is_dir() for p in paths_in(city)]
    raw = [path for path in raw if path.name.endswith(suffix)]
    if not raw:
        raise UserError(
            f"no *{suffix} below {folder}: expected those of gtFine_trainvaltest.zip "
            "(sclip data download cityscapes says where to get it)"
        )
    draw = _from_label_ids if source == "labelIds" else _from_polygons
    return [
        Job(
            path.name.removesuffix(suffix),
            path.with_name(path.name.removesuffix(suffix) + "_gtFine_labelTrainIds.png"),
            functools.partial(draw, path),
        )
        for path in raw
    ]


def _from_label_ids(path: Path) -> Classes:
    return converted(read_label(path), cityscapes_table(), RAW_VALUES, str(path))


def _from_polygons(path: Path) -> Classes:
    try:
        annotation = json_parts(path, ("objects",), "copy it again")
    except UserError as error:  # of this file alone: the others are drawn
        raise ImageError(str(error)) from None
    return cityscapes_polygons(annotation, str(path))
