"""The raw annotations of each benchmark: where they lie, and how they become label maps."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.acquire.convert import (
    cityscapes_polygons,
    cityscapes_table,
    context_map,
    converted,
    object_map,
    object_table,
    stuff_table,
)
from sclip_core.acquire.sources import source_of
from sclip_core.config import ImageError, UserError, unknown
from sclip_core.config.errors import shown
from sclip_core.config.protocol import is_text
from sclip_core.datasets import read_label
from sclip_core.datasets.annotations.reading import read_json
from sclip_core.datasets.record import image_and_label_folders
from sclip_core.datasets.samples import entries, read_split
from sclip_core.store.files import write_whole, written_to

Classes = NDArray[np.uint8]

STUFF = "COCO-Stuff's raw values: 0..181, or 255 for unlabelled"
LABEL_IDS = "Cityscapes' label ids: 0..33, or 255"
INSTANCES = "instances_val2017.json"
OBJECTS = 80  # COCO's things
CONTEXT_FILE = "trainval_merged.json"
CONTEXT_SPLIT = "ImageSets/SegmentationContext/val.txt"
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


def _stuff_jobs(tree: Path, _: str) -> list[Job]:
    """COCO-Stuff: 182 values to 171 classes."""
    return _lookup_jobs(tree, "_labelTrainIds.png", stuff_table())


def _object_jobs(tree: Path, source: str) -> list[Job]:
    """COCO-Object, from the stuff maps or from the instance file."""
    if source == "stuff":
        return _lookup_jobs(tree, "_instanceTrainIds.png", object_table())
    return _instance_jobs(tree)


def _lookup_jobs(tree: Path, suffix: str, table: Classes) -> list[Job]:
    """One job for each raw map of COCO-Stuff; the converted ones lie beside them."""
    folder = tree / "annotations/val2017"
    ids = [p.stem for p in _listed(folder) if p.suffix == ".png" and "_" not in p.stem]
    if not ids:
        raise UserError(
            f"no raw maps of COCO-Stuff in {folder}: expected e.g. 000000000139.png, from "
            "stuffthingmaps_trainval2017.zip (sclip data download coco_stuff)"
        )

    def draw(path: Path) -> Classes:
        return converted(read_label(path), table, STUFF, str(path))

    return [
        Job(i, folder / f"{i}{suffix}", functools.partial(draw, folder / f"{i}.png")) for i in ids
    ]


def _instance_jobs(tree: Path) -> list[Job]:
    """One job for each image of COCO's instance file."""
    path = tree / "annotations" / INSTANCES
    hint = "from annotations_trainval2017.zip (sclip data download coco_object --source instances)"
    data = _json(path, ("images", "annotations", "categories"), hint)
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
        for stem, image in _stems(path, data["images"]).items()
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


def _stems(path: Path, images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Images by their file names without ending; each can be a file's, and is there once."""
    found: dict[str, dict[str, Any]] = {}
    for image in images:
        stem = os.path.splitext(image["file_name"])[0]
        if not is_text(stem) or not stem or {"\0", "/", "\\"} & set(stem) or stem in found:
            what = "twice" if stem in found else "which cannot be one"
            raise UserError(
                f"{path} lists the image {shown(image['file_name'])}, {what}: {FETCH_AGAIN}"
            )
        found[stem] = image
    if not found:
        raise UserError(f"{path} lists no images of the validation split: {FETCH_AGAIN}")
    return found


def _cityscapes_jobs(tree: Path, source: str) -> list[Job]:
    """Cityscapes, from its label ids or from the polygons that these were drawn from."""
    folder = tree / "gtFine/val"
    suffix = f"_gtFine_{'labelIds.png' if source == 'labelIds' else 'polygons.json'}"
    raw = [p for city in _listed(folder) if city.is_dir() for p in _listed(city)]
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
    return converted(read_label(path), cityscapes_table(), LABEL_IDS, str(path))


def _from_polygons(path: Path) -> Classes:
    try:
        annotation = _json(path, ("objects",), "copy it again")
    except UserError as error:  # of this file alone: the others are drawn
        raise ImageError(str(error)) from None
    return cityscapes_polygons(annotation, str(path))


def _context_jobs(tree: Path, _: str) -> list[Job]:
    """PASCAL Context: one job for each image of the validation split."""
    images, segments = _context(tree)
    stems = _stems(tree / CONTEXT_FILE, images)
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
    data = _json(tree / CONTEXT_FILE, ("images", "annos_segmentation"), hint)
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


def _context_split_is_there(tree: Path, stems: list[str], force: bool) -> bool:
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


def _write_context_split(tree: Path, stems: list[str], force: bool) -> None:
    """Write the split file beside the maps, unless it is there."""
    path = tree / CONTEXT_SPLIT
    if _context_split_is_there(tree, stems, force):
        return
    text = "".join(f"{stem}\n" for stem in stems)
    with written_to(path.parent, "choose a --root that can be written to"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: target.write_text(text, "utf-8"))


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if there is no such folder."""
    return [folder / name for name in entries(folder)] if folder.exists() else []


def _json(path: Path, parts: tuple[str, ...], hint: str) -> dict[str, Any]:
    """The object in a JSON file, which has these parts."""
    if not path.exists():
        raise UserError(f"no {path}: {hint}")
    data = read_json(path)
    missing = [part for part in parts if part not in data]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}: is it another file? {hint}")
    return data


# By layout. COCO-Object's two definitions differ, so none is chosen because it happens to be there.
CONVERSIONS: dict[str, Conversion] = {
    "coco_stuff": Conversion(("stuff",), _stuff_jobs),
    "coco_object": Conversion(("stuff", "instances"), _object_jobs),
    "cityscapes": Conversion(("labelIds", "polygons"), _cityscapes_jobs, choose_what_is_there=True),
    "voc2010": Conversion(
        ("trainval_merged",),
        _context_jobs,
        check=_context_split_is_there,
        finish=_write_context_split,
    ),
}


def checked_source(name: str, source: str | None) -> str | None:
    """The source that a user chose for a benchmark's label maps, in its usual spelling.

    Args:
        name: the benchmark.
        source: as the user wrote it; None: no choice was made.

    Raises:
        UserError: the benchmark's maps have one source only, or none of this name.
    """
    if source is None:
        return None
    conversion = CONVERSIONS.get(source_of(name).layout)
    if conversion is None:
        raise UserError(f"{name}: its label maps have one source, leave --source out")
    known = {one.lower(): one for one in conversion.sources}
    if source.lower() not in known:
        raise unknown("source", source, conversion.sources)
    return known[source.lower()]
