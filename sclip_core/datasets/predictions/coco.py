"""Predictions in COCO's JSON: results, annotations, and what tools for semantic maps write.

A file is a list of segments (``image_id`` or ``file_name``, ``category_id``, ``segmentation``,
maybe ``score``), as pycocotools' ``loadRes`` takes it and Detectron2 writes it, or an object with
such a list below ``annotations``, and with ``images`` and ``categories`` or without.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.config.json_file import read_json
from sclip_core.datasets.annotations import reading
from sclip_core.datasets.annotations.categories import match
from sclip_core.datasets.annotations.pairing import paired
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.predictions.values import NONE, Values

EXPECTED = (
    "expected COCO's results, a list of objects with image_id (or file_name), category_id and "
    "segmentation, or an object with such a list below 'annotations'"
)
LAST_NUMBER = re.compile(r"(?:^|\D)0*(\d+)$")  # of COCO_val2014_000000000139
Entry = Mapping[str, Any]


class Coco(NamedTuple):
    """A file of predictions, and what another file says of its numbers."""

    path: Path
    entries: list[dict[str, Any]]
    names: dict[int | str, str]  # of images, by number
    categories: dict[int | str, str]  # names by number

    @property
    def is_panoptic(self) -> bool:
        """Whether its segments are in PNGs."""
        return any("segments_info" in entry for entry in self.entries)


def open_coco(path: Path, truth: Path | None = None) -> Coco:
    """Read a file of predictions.

    Args:
        path: of the file.
        truth: the dataset's own annotations, whose numbers results have; None: it has none.

    Raises:
        UserError: it cannot be read, or is not COCO's.
    """
    loaded = read_json(path, "predictions ")
    if isinstance(loaded, list):
        loaded = {"annotations": loaded}
    if not is_coco(loaded):
        raise UserError(f"{path} is not COCO's: {EXPECTED}")
    entries = reading.objects(loaded, "annotations", str(path))
    names, categories = _listed(loaded, path)
    if truth is not None and not (names and categories):
        more = read_json(truth, "annotations ")
        of_truth = _listed(more, truth) if isinstance(more, dict) else ({}, {})
        names, categories = names or of_truth[0], categories or of_truth[1]
    return Coco(path, entries, names, categories)


def is_coco(loaded: object) -> bool:
    """Whether what was read from a file are segments of COCO's."""
    entries = loaded.get("annotations") if isinstance(loaded, dict) else loaded
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries[:1]):
        return False
    needed = ({"category_id", "segmentation"}, {"segments_info"})
    return not entries or any(keys <= entries[0].keys() for keys in needed)


def _listed(
    loaded: Mapping[str, Any], path: Path
) -> tuple[dict[int | str, str], dict[int | str, str]]:
    """Names of images and of categories by their numbers, of those that a file lists."""
    found: list[dict[int | str, str]] = []
    for key, name in (("images", "file_name"), ("categories", "name")):
        entries = reading.objects(loaded, key, str(path)) if loaded.get(key) else []
        where = f"{path}, {key}"
        found.append(
            {
                reading.identity(each, "id", where): reading.field(each, name, str, where)
                for each in entries
                if name in each
            }
        )
    return found[0], found[1]


def by_image(coco: Coco, ids: Sequence[str]) -> tuple[dict[str, list[Entry]], tuple[str, ...]]:
    """The entries of each image that the file names, and how names were found.

    Raises:
        UserError: an entry names no image, or none of them is one of the dataset.
    """
    of_number: dict[int | str, list[Entry]] = {number: [] for number in coco.names}
    of_name: dict[str, list[Entry]] = {}
    for place, entry in enumerate(coco.entries):
        where = f"{coco.path}, segment {place}"
        if entry.get("image_id") is not None:
            of_number.setdefault(reading.identity(entry, "image_id", where), []).append(entry)
        else:
            name = reading.field(entry, "file_name", str, where)
            of_name.setdefault(reading.id_of(name, where), []).append(entry)
    numbered = _numbered(ids)
    for number, entries in of_number.items():
        if number in coco.names:
            name = reading.id_of(coco.names[number], str(coco.path))
        elif isinstance(number, int):
            name = numbered.get(number, str(number))
        else:
            name = reading.id_of(number, str(coco.path)) if "." in number else number
        of_name.setdefault(name, []).extend(entries)
    if not of_name:
        raise UserError(f"{coco.path} holds no segment: {EXPECTED}")
    found, notes = _known(of_name, ids, str(coco.path))
    lost = {name: len(of) for name, of in of_name.items() if of}
    kept = sum(map(len, found.values()))
    if kept == sum(lost.values()):
        return found, notes
    used = {id(entries) for entries in found.values()}
    names = [name for name in lost if id(of_name[name]) not in used]
    segments = number_of(sum(lost.values()) - kept, "segment")
    return found, (
        *notes,
        f"{coco.path}: {segments} of {number_of(len(names), 'image')} that the data does not have "
        f"left out: {few(names)}",
    )


def _known(
    of_name: Mapping[str, list[Entry]], ids: Sequence[str], source: str
) -> tuple[dict[str, list[Entry]], tuple[str, ...]]:
    """Entries by the id of the image; paths of another machine are known by their last parts."""
    flat = {os.path.basename(i): i for i in ids}
    if not of_name.keys() & set(ids) and len(flat) == len(ids):
        short = {os.path.basename(name): name for name in of_name}
        if len(short) == len(of_name) and short.keys() & flat.keys():
            return {flat[s]: of_name[name] for s, name in short.items() if s in flat}, ()
    try:
        found = paired(list(of_name), ids, source, foreign=True)
    except UserError as error:
        raise UserError(str(error).replace("--images holds", "the dataset holds")) from None
    return {i: of_name[name] for i, name in found.known_as.items()}, found.notes


def _numbered(ids: Sequence[str]) -> dict[int, str]:
    """Ids by the number that they end in, where no two end in the same."""
    found: dict[int, str] = {}
    for image_id in ids:
        ending = LAST_NUMBER.search(image_id)
        if ending is None or int(ending[1]) in found:
            return {}
        found[int(ending[1])] = image_id
    return found


class Categories:
    """The class of each category: by name where names are known, else by number."""

    def __init__(self, coco: Coco, used: set[int | str], dataset: Dataset, values: Values) -> None:
        """Find the class of every category that is used.

        Raises:
            UserError: one has none.
        """
        words = dataset.vocabulary
        if used and used <= coco.categories.keys():
            names = {coco.categories[number] for number in used}
            label_of = match(names, words, str(coco.path))
            class_of = {number: label_of[coco.categories[number]] for number in used}
            index = {value: k for k, value in enumerate(words.numbers)}
            self.class_of = {n: index.get(label, NONE) for n, label in class_of.items()}
            self.how = "categories by name"
        else:
            self.class_of = {}
            for number in sorted(used, key=str):
                if not isinstance(number, int) or number not in values.class_of:
                    raise UserError(
                        f"{coco.path}: category {shown(number)} is no class: expected "
                        f"{values.expected} ({words.num_classes} classes); {values.advice()}"
                    )
                self.class_of[number] = values.class_of[number]
            self.how = "categories by number"
        pairs = [
            f"{number} is '{words.class_names[k]}'"
            for number, k in sorted(self.class_of.items(), key=lambda pair: str(pair[0]).zfill(9))
            if k != NONE
        ]
        self.told = f"{self.how}: {few(pairs)}" if pairs else self.how

    def __getitem__(self, number: int | str) -> int:
        """The class of a category; `NONE`: none."""
        return self.class_of[number]
