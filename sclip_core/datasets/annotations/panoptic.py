"""COCO panoptic: a JSON file and, beside it, a folder of PNGs whose colours number the segments.

The folder has the JSON's name without ``.json``. A colour is R + 256 G + 256^2 B; 0 is no segment
(cocodataset.org, format-data). Segments do not overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import few
from sclip_core.datasets.annotations import reading
from sclip_core.datasets.annotations.categories import Category
from sclip_core.datasets.annotations.coco import CocoFile
from sclip_core.datasets.annotations.objects import Tell, silent
from sclip_core.datasets.images import decode_image, read_sample
from sclip_core.datasets.labels import IGNORED, check_sizes

WEIGHTS = np.array([1, 256, 256**2], np.int32)  # of R, G, B
PNG = b"\x89PNG"
BITS = 24  # the byte of a PNG that tells its bits a channel


class CocoPanoptic:
    """A COCO panoptic file with its folder."""

    format = "COCO panoptic"
    unlisted_is_empty = False
    notes: tuple[str, ...] = ()
    also_named: Mapping[str, str] = MappingProxyType({})

    def __init__(self, path: Path, loaded: Mapping[str, Any]) -> None:
        """Check and sort what was read; no PNG is opened.

        Raises:
            UserError: the file is not as `CocoFile` expects it, no image has an entry that can be
                used, or the folder is missing.
        """
        self._file = CocoFile(path, loaded)
        self._folder = path.with_suffix("")
        if not self._folder.is_dir():
            raise UserError(
                f"no folder {self._folder}: the PNGs of a panoptic file are expected in a folder "
                "of its name beside it"
            )
        self.names: tuple[str, ...] | None = tuple(self._file.categories.values())
        self.files = {"": path}
        self.faults, self.foreign = self._file.faults, self._file.foreign
        segments: list[dict[str, Any]] = []
        errors: list[UserError] = []
        for image_id in self._file.pictures:
            try:
                segments += self._checked(image_id)
            except UserError as error:
                errors.append(error)
                self._file.refuse(image_id, str(error))
        if errors and not segments:
            raise errors[0]
        self.used: frozenset[Category] = self._file.used(segments)

    def ids(self) -> list[str]:
        """The images in the file, with or without annotations."""
        return list(self._file.pictures)

    def draw(
        self,
        image_id: str,
        classes_of: Mapping[Category, int],
        size_hw: tuple[int, int],
        tell: Tell = silent,
    ) -> NDArray[np.int32]:
        """Draw the map of one image from its PNG."""
        entries = self._file.of(image_id, size_hw)
        if not entries:
            return np.full(size_hw, IGNORED, np.int32)
        path = self._folder / self._png(entries[0])
        numbers = segment_numbers(read_sample(path), path)
        check_sizes(size_hw, (numbers.shape[0], numbers.shape[1]), f"{image_id} in {path}")
        class_of_segment = {0: IGNORED}
        for segment in self._segments(entries[0]):
            where = f"{self._file.path}, segments_info of {image_id}"
            number = reading.field(segment, "id", int, where)
            if number in class_of_segment:
                found = "is there twice" if number else "stands for no segment"
                raise ImageError(f"{where}: the id {number} {found}; export the file again")
            class_of_segment[number] = self._file.label(
                segment, classes_of, f"{where}, segment {number}", tell
            )
        return classes_of_segments(numbers, class_of_segment, path, self._file.path)

    def _checked(self, image_id: str) -> list[dict[str, Any]]:
        """The segments of an image, whose PNG becomes one of the files.

        Raises:
            UserError: it has two entries that differ, or one that is not as it should be.
        """
        entries = self._file.entries(image_id)
        if any(entry != entries[0] for entry in entries):
            where = f"{self._file.path}: image {image_id}"
            raise UserError(f"{where} has {len(entries)} entries that differ; expected 1")
        if not entries:
            return []
        name, segments = self._png(entries[0]), self._segments(entries[0])
        self.files[name] = self._folder / name
        return segments

    def _png(self, entry: Mapping[str, Any]) -> str:
        where = f"{self._file.path}, annotations"
        return reading.relative_name(reading.field(entry, "file_name", str, where), where)

    def _segments(self, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
        return reading.objects(entry, "segments_info", f"{self._file.path}, annotations")


def segment_numbers(data: bytes, path: Path) -> NDArray[np.int32]:
    """The number (H, W) of the segment that each pixel of a PNG is in.

    Args:
        data: what is in the file.
        path: of the file, for the errors.

    Raises:
        ImageError: it is no PNG of 8 bits a channel, or damaged.
    """
    if data and not data.startswith(PNG):
        raise ImageError(f"{path} is not a PNG (it starts {data[:8]!r}): others blur ids")
    if len(data) > BITS and data[BITS] > 8:
        raise ImageError(
            f"{path} has {data[BITS]} bits a channel; expected 8: a segment's number is "
            "R + 256 G + 65536 B"
        )
    numbers: NDArray[np.int32] = decode_image(data, str(path)) @ WEIGHTS
    return numbers


def classes_of_segments(
    numbers: NDArray[np.int32], class_of: Mapping[int, int], path: Path, source: Path
) -> NDArray[np.int32]:
    """The class (H, W) of each pixel.

    Args:
        numbers: (H, W) of the segments.
        class_of: the class of each segment.
        path: of the PNG, for the error.
        source: the file that lists the segments, for the error.

    Raises:
        ImageError: a segment is not listed.
    """
    found, places = np.unique(numbers, return_inverse=True)
    stray = [str(number) for number in found.tolist() if number not in class_of]
    if stray:
        raise ImageError(
            f"{path}: ids {few(stray)} are not in segments_info of "
            f"{source}; is it the PNG of another file, or saved with other colours?"
        )
    table = np.array([class_of[number] for number in found.tolist()], np.int32)
    classes: NDArray[np.int32] = table[places.reshape(numbers.shape)]
    return classes
