"""COCO's JSON of annotations: images, categories, and a segment for each region."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.optional import optional
from sclip_core.exports.places import as_json, check_file, write_new
from sclip_core.exports.polygons import coco_polygons, rings_of
from sclip_core.exports.regions import regions
from sclip_core.exports.stored import Segmented, StoredRun

Row = dict[str, Any]
FIRST = 1  # category of class 0: to many readers category 0 is what nothing has


def rle_of(mask: NDArray[np.uint8]) -> Row:
    """COCO's compressed RLE of a mask (H, W), as JSON has it.

    Raises:
        UserError: pycocotools is not installed.
    """
    coded = optional("pycocotools.mask", "data").encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode()}


def coco_annotations(
    labels: NDArray[np.integer[Any]],
    image_id: int = 1,
    first: int = 1,
    components: bool = False,
    polygons: bool = False,
    simplify: float = 0.0,
) -> Iterator[Row]:
    """The annotations of a label map.

    Args:
        labels: (H, W) classes; negative values are left out.
        image_id: of the image in the file.
        first: id of the first annotation.
        components: whether each connected part of a class is an annotation of its own.
        polygons: whether segments are polygons; else RLE.
        simplify: pixels by which a polygon may leave the region's border.

    Yields:
        ``id``, ``image_id``, ``category_id`` (class + 1), ``segmentation``, ``area`` in pixels,
        ``bbox`` (x, y, width, height), ``iscrowd`` 0, and ``score`` 1, which
        ``pycocotools.coco.COCO.loadRes`` and its evaluation ask for. A region that ``simplify``
        leaves no polygon of is left out.
    """
    for k, mask in regions(labels, components):
        segment: Any = coco_polygons(rings_of(mask, simplify)) if polygons else rle_of(mask)
        if not segment:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        yield {
            "id": first,
            "image_id": image_id,
            "category_id": k + FIRST,
            "segmentation": segment,
            "area": int(mask.sum()),
            "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
            "iscrowd": 0,
            "score": 1.0,
        }
        first += 1


def image_numbers(image_ids: Sequence[str]) -> dict[str, int]:
    """The number of each image: its id where all are numbers, as COCO's own are, else 1, 2, ...

    >>> image_numbers(["000000000139", "000000000285"]), image_numbers(["a", "7"])
    ({'000000000139': 139, '000000000285': 285}, {'a': 1, '7': 2})
    """
    if all(i.isdecimal() and i.isascii() for i in image_ids):
        numbers = {i: int(i) for i in image_ids}
        if len(set(numbers.values())) == len(image_ids):
            return numbers
    return {image_id: number for number, image_id in enumerate(image_ids, 1)}


def write_coco(
    run: StoredRun,
    path: Path,
    components: bool = False,
    polygons: bool = False,
    simplify: float = 0.0,
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write the label maps of a run as one JSON file of COCO's.

    Args:
        run: a stored one.
        path: the file, .json.
        components: as of ``coco_annotations``.
        polygons: as of ``coco_annotations``.
        simplify: as of ``coco_annotations``.
        each: is called with each image that was written.

    Raises:
        UserError: the file is there, or the run's label maps are not; pycocotools is missing.
    """
    check_file(path, ".json")
    optional("pycocotools.mask", "data")

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            _write(file)

    def _write(file: TextIO) -> None:
        numbers, images, first = image_numbers(run.image_ids), [], 1
        categories = [
            {"id": k + FIRST, "name": name, "supercategory": ""}
            for k, name in enumerate(run.class_names)
        ]
        info = {"description": f"label maps of {run.run_id}", "image_root": str(run.image_root)}
        file.write(f'{{"info":{as_json(info)},"licenses":[],"categories":{as_json(categories)},')
        file.write('"annotations":[')
        for image in run:
            number = numbers[image.image_id]
            height, width = image.labels.shape
            images.append({"id": number, "file_name": image.name, "height": height, "width": width})
            found = coco_annotations(image.labels, number, first, components, polygons, simplify)
            for annotation in found:
                file.write(("," if first > 1 else "") + "\n" + as_json(annotation))
                first += 1
            each(image)
        file.write(f'],\n"images":{as_json(images)}}}\n')

    write_new(path, write)
