"""Predictions as segments in COCO's JSON: polygons, run lengths, or panoptic PNGs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import shown
from sclip_core.datasets.annotations import reading, shapes
from sclip_core.datasets.annotations.categories import NOT_EVALUATED
from sclip_core.datasets.annotations.panoptic import classes_of_segments, segment_numbers
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.labels import IGNORED
from sclip_core.datasets.predictions.coco import Categories, Coco, Entry, by_image
from sclip_core.datasets.predictions.values import NONE, Values

LARGEST = sys.float_info.max


class Segments:
    """Predictions as segments with polygons or run lengths."""

    format = "coco"
    by_file = False

    def __init__(self, coco: Coco, dataset: Dataset, values: Values) -> None:
        """Sort the segments and find their classes; none is drawn.

        Raises:
            UserError: an entry lacks a part, an image or a class.
        """
        self._path = coco.path
        ids = [sample.image_id for sample in dataset.samples]
        self._entries, self.notes = by_image(coco, ids)
        used = {
            reading.identity(each, "category_id", f"{coco.path}, a segment of {image_id}")
            for image_id, entries in self._entries.items()
            for each in entries
        }
        self._categories = Categories(coco, used, dataset, values)
        self._rest = 0 if dataset.has_background else NONE
        count = sum(map(len, self._entries.values()))
        self.told = (
            f"{number_of(count, 'segment')} of {number_of(len(self._entries), 'image')} in COCO's "
            f"JSON, {self._categories.told}"
        )

    def __contains__(self, image_id: str) -> bool:
        """Whether the file names an image."""
        return image_id in self._entries

    def identity(self) -> dict[str, object]:
        """What decides what is drawn of segments, as plain JSON values."""
        return {"format": self.format, "rest": self._rest}

    def named(self, image_id: str) -> str:
        """The image in the file."""
        return f"{image_id} in {self._path}"

    def digests(self, ids: Sequence[str], of_files: Callable[[list[str]], list[str]]) -> list[str]:
        """The sha256 of the predictions of some images: of their segments and classes."""
        return [_sha256([self._plain(each) for each in self._entries[i]]) for i in ids]

    def _plain(self, entry: Entry) -> list[object]:
        label = self._categories[reading.identity(entry, "category_id", "")]
        return [label, entry.get("segmentation"), entry.get("score")]

    def read(
        self, image_id: str, size_hw: tuple[int, int], load: Callable[[Path], bytes]
    ) -> NDArray[np.int32]:
        """The classes (H, W) of an image's pixels; -1 where there is no prediction.

        Of segments that overlap, that with the highest score is on top; without scores, the
        smallest. What no segment covers is background, where that is a class.

        Raises:
            UserError: a segment cannot be drawn, or is of another size.
        """
        layers, scores = [], []
        for place, entry in enumerate(self._entries[image_id]):
            where = f"{image_id} in {self._path}, segment {place}"
            mask = shapes.mask_of(entry.get("segmentation"), size_hw, where)
            label = self._categories[reading.identity(entry, "category_id", where)]
            layers.append(shapes.Layer(mask, NOT_EVALUATED if label == NONE else label))
            scores.append(_score(entry, where))
        if layers and None not in scores:
            order = sorted(range(len(layers)), key=lambda k: scores[k] or 0.0)
            layers = [layers[k] for k in order]
        else:
            layers = shapes.smaller_on_top(layers)
        painted = shapes.paint(layers, size_hw)
        painted[painted == IGNORED] = self._rest
        painted[painted == NOT_EVALUATED] = NONE
        return painted


class PanopticPngs:
    """Predictions as COCO's panoptic JSON and a folder of PNGs whose colours number segments."""

    format = "coco panoptic"
    by_file = False

    def __init__(self, coco: Coco, dataset: Dataset, values: Values) -> None:
        """Find the PNGs and the classes of their segments; none is opened.

        Raises:
            UserError: there is no folder of PNGs, or an entry lacks a part, an image or a class.
        """
        self._path = coco.path
        self._folder = _folder_of(coco)
        ids = [sample.image_id for sample in dataset.samples]
        entries, self.notes = by_image(coco, ids)
        self._entries: dict[str, Entry] = {}
        for image_id, of_image in entries.items():
            if len(of_image) > 1:
                raise UserError(f"{coco.path} has {len(of_image)} entries of {image_id}, not 1")
            if of_image:
                self._entries[image_id] = of_image[0]
        segments = [each for i in self._entries for each in self._segments(i)]
        where = f"{coco.path}, a segment"
        used = {reading.identity(each, "category_id", where) for each in segments}
        self._categories = Categories(coco, used, dataset, values)
        self._rest = 0 if dataset.has_background else NONE
        self.told = (
            f"{number_of(len(segments), 'segment')} of {number_of(len(self._entries), 'image')} in "
            f"COCO's panoptic JSON, {self._categories.told}"
        )

    def __contains__(self, image_id: str) -> bool:
        """Whether the file has an entry of an image."""
        return image_id in self._entries

    def identity(self) -> dict[str, object]:
        """What decides what is read of a PNG, as plain JSON values."""
        return {"format": self.format, "rest": self._rest}

    def named(self, image_id: str) -> str:
        """The PNG of an image."""
        return str(self._png(image_id))

    def digests(self, ids: Sequence[str], of_files: Callable[[list[str]], list[str]]) -> list[str]:
        """The sha256 of the predictions of some images: of their PNGs and segments' classes."""
        found = of_files([str(self._png(i)) for i in ids])
        pairs = zip(ids, found, strict=True)
        return [_sha256([digest, sorted(self._classes(i).items())]) for i, digest in pairs]

    def read(
        self, image_id: str, size_hw: tuple[int, int], load: Callable[[Path], bytes]
    ) -> NDArray[np.int32]:
        """The classes (H, W) of an image's pixels; -1 where there is no prediction.

        Raises:
            UserError: its PNG is damaged, of another size, or has a colour without a segment.
        """
        path = self._png(image_id)
        numbers = segment_numbers(load(path), path)
        return classes_of_segments(numbers, self._classes(image_id), path, self._path)

    def _png(self, image_id: str) -> Path:
        where = f"{self._path}, annotations"
        name = reading.field(self._entries[image_id], "file_name", str, where)
        return self._folder / reading.relative_name(name, where)

    def _segments(self, image_id: str) -> list[dict[str, Any]]:
        where = f"{self._path}, {image_id}"
        return reading.objects(self._entries[image_id], "segments_info", where)

    def _classes(self, image_id: str) -> dict[int, int]:
        where = f"{self._path}, segments_info of {image_id}"
        found = {0: self._rest}
        for segment in self._segments(image_id):
            number = reading.field(segment, "id", int, where)
            if number in found:
                twice = "is there twice" if number else "stands for no segment"
                raise UserError(f"{where}: the id {number} {twice}; export the file again")
            found[number] = self._categories[reading.identity(segment, "category_id", where)]
        return found


def _folder_of(coco: Coco) -> Path:
    """The folder of a panoptic file's PNGs: of its name, or the one in which it lies.

    Raises:
        UserError: neither has the first of them.
    """
    names = (entry.get("file_name") for entry in coco.entries)
    first = next((name for name in names if isinstance(name, str)), "a.png")
    folders = (coco.path.with_suffix(""), coco.path.parent)
    for folder in folders:
        if (folder / first).is_file():
            return folder
    raise UserError(
        f"{coco.path}: no {first} in {folders[0]} nor beside it: the PNGs of a panoptic file are "
        "expected in a folder of its name beside it"
    )


def _score(entry: Entry, where: str) -> float | None:
    """How sure the tool is of a segment; None: it does not say.

    Raises:
        UserError: it is no number, or none that others can be compared with.
    """
    score = entry.get("score")
    if score is None:
        return None
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not -LARGEST <= score <= LARGEST:
        raise UserError(
            f"{where}: 'score' is {shown(score)}; expected a number, or no score in the whole file"
        )
    return float(score)


def _sha256(plain: object) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
