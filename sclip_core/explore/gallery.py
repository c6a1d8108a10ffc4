"""A collection: images that a model looks at, with their runs; nothing is read before it is asked.

Any number of threads may ask: thumbnails are made in several, beside the one that computes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection as SomeOf
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, Settings, UserError, unknown
from sclip_core.config.places import Place
from sclip_core.datasets import (
    Dataset,
    Sample,
    Vocabulary,
    decode_image,
    image_size,
    read_sample,
)
from sclip_core.datasets.headers import Header, read_header
from sclip_core.datasets.sample_columns import ids_of
from sclip_core.pipeline.inputs import Inputs
from sclip_core.pipeline.run import Run

RunRow = dict[str, Any]  # a row of the table ``runs``
OF_FILES = ("images", "image_ids", "_by_digest", "_digested")  # what ``Inputs`` keeps of its files


class Collection:
    """Images, the model that looks at them, and the runs that are stored of both.

    Attributes:
        id: names it in addresses.
        title: names it on the page.
        settings: the base of every view of it; of mode ``dense``.
        dataset: the images and their label maps.
        vocabulary: the words that the images came with; None: none were given.
        runs: rows of the table ``runs``, newest first.
        writable: whether what is computed can be kept.
    """

    def __init__(
        self,
        name: str,
        title: str,
        settings: Settings,
        dataset: Dataset,
        runs: Sequence[RunRow] = (),
        has_words: bool = True,
        writable: bool = True,
    ) -> None:
        """Take what ``opening`` found.

        Args:
            name: the id.
            title: for people.
            settings: of its runs, or of the command.
            dataset: that these name.
            runs: rows of ``runs`` on these images by this model, newest first.
            has_words: whether the vocabulary of the dataset was asked for.
            writable: whether the artifacts can be written.
        """
        self.id, self.title, self.settings, self.dataset = name, title, settings, dataset
        self.vocabulary: Vocabulary | None = dataset.vocabulary if has_words else None
        self.runs, self.writable = list(runs), writable
        self._lock = RLock()
        self._sizes: dict[str, tuple[Any, tuple[int, int]]] = {}  # with the state of the file

    @property
    def run(self) -> Run:
        """The run of ``settings``, opened once; weights may be fetched when they are needed.

        Other runs can be made ``beside`` it. Its ``inputs`` would read every image where they are
        asked for digests: ``run_of`` gives a run over a few.
        """
        with self._lock:
            return self._run

    @cached_property
    def _run(self) -> Run:
        run = Run(self.settings)
        run.inputs.dataset = self.dataset
        return run

    def run_of(
        self, images: Iterable[str], settings: Settings, vocabulary: Vocabulary | None = None
    ) -> Run:
        """A run over some images alone, beside ``run``, whose models it shares.

        Args:
            images: their ids.
            settings: its own.
            vocabulary: its words; None: those of the dataset.
        """
        run = Run(settings, beside=self.run)
        run.inputs = self.inputs_of(images, vocabulary)
        return run

    def inputs_of(self, images: Iterable[str], vocabulary: Vocabulary | None = None) -> Inputs:
        """The inputs of a run over some images alone: no other file is read."""
        samples = tuple(map(self.sample, images))
        inputs = copy(self.run.inputs)
        for name in OF_FILES:
            inputs.__dict__.pop(name, None)
        words = vocabulary or self.dataset.vocabulary
        inputs.dataset = replace(self.dataset, samples=samples, vocabulary=words)
        return inputs

    def __len__(self) -> int:
        """The number of images."""
        return len(self.dataset)

    def ids(self) -> Sequence[str]:
        """The ids of the images, in the order of the dataset."""
        with self._lock:
            return self._ids

    @cached_property
    def _ids(self) -> list[str]:
        return list(ids_of(self.dataset.samples))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: place for place, image_id in enumerate(self._ids)}

    def __contains__(self, image_id: object) -> bool:
        """Whether there is such an image."""
        with self._lock:
            return image_id in self._places

    def place(self, image_id: str) -> int:
        """Which image it is, counted from 0.

        Raises:
            UserError: there is none with this id.
        """
        with self._lock:
            if image_id in self._places:
                return self._places[image_id]
        raise UserError(f"no image {image_id[:200]!r} in {self.title}: it has {len(self):,} others")

    def sample(self, image_id: str) -> Sample:
        """An image and its label map.

        Raises:
            UserError: there is no such image.
        """
        return self.dataset.samples[self.place(image_id)]

    def file(self, image_id: str) -> Place:
        """Where an image lies."""
        return self.sample(image_id).image

    def digest(self, image_id: str) -> str:
        """Of the bytes of an image, which are read where it is not remembered.

        Raises:
            ImageError: it cannot be read.
        """
        file, digests = self.file(image_id), self.run.inputs.data_digests
        with self._lock:  # one at a time writes down what it read
            return digests.of(file)

    def remembered(self, images: Iterable[str]) -> list[str | None]:
        """The digests of images as far as they are known; no image is read."""
        digests = self.run.inputs.data_digests
        return digests.remembered([self.sample(image_id).image_file for image_id in images])

    def looked_up(self, images: Sequence[str], most: int) -> Iterator[str | None]:
        """The digests of images, one after the other; None: not known.

        Args:
            images: their ids.
            most: bytes that are read in all, of local files whose digests are not remembered, as
                after a copy of the artifacts.
        """
        for image_id, digest in zip(images, self.remembered(images), strict=True):
            file = self.file(image_id)
            if digest is None and isinstance(file, Path):
                with suppress(OSError, ImageError):
                    size = file.stat().st_size
                    if size <= most:
                        most -= size
                        digest = self.digest(image_id)
            yield digest

    def pixels(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB.

        Raises:
            ImageError: the image cannot be read.
        """
        file = self.file(image_id)
        return decode_image(read_sample(file), str(file), self.run.inputs.reading)

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of ``pixels``, of the header where that says it.

        Raises:
            ImageError: the image cannot be read.
        """
        file = self.file(image_id)
        state, known = _state(file), self._sizes.get(image_id)
        if known is None or known[0] != state:
            known = self._sizes[image_id] = state, self._size(file)
        return known[1]

    def _size(self, file: Place) -> tuple[int, int]:
        reading = self.run.inputs.reading
        if isinstance(file, Path):
            try:
                header = _mapped_header(file)
            except (OSError, ValueError):  # gone, a folder, a pipe, empty: told of below
                header = None
            if header is not None and min(header.size) > 0:
                return header.shown if reading.exif == "apply" else header.size
        return image_size(read_sample(file), str(file), reading)

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth."""
        return self.settings.scored

    def truth(self, image_id: str) -> NDArray[np.int32] | None:
        """The classes (H, W) of ``dataset``; -1 where a pixel is not evaluated; None: no truth.

        Raises:
            ImageError: the label map cannot be read.
        """
        if not self.has_truth:
            return None
        label = self.sample(image_id).label
        if label is None:
            return self.dataset.empty(self.size(image_id))
        return self.dataset.classes(label, read_sample(label))

    def run_row(self, run_id: str) -> RunRow:
        """One of the runs.

        Raises:
            UserError: there is none with this id.
        """
        for row in self.runs:
            if row["run_id"] == run_id:
                return row
        raise unknown(f"run of {self.title}", run_id, [row["run_id"] for row in self.runs])


def _state(file: Place) -> tuple[int, ...] | None:
    """What changes with a file; None: nothing tells, as of an object."""
    if not isinstance(file, Path):
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _mapped_header(file: Path) -> Header | None:
    """The header of a file, of which little is read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is empty.
    """
    if not file.is_file():  # opening a pipe would wait for a writer
        return None
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return read_header(data)


def find(collections: SomeOf[Collection], name: str) -> Collection:
    """A collection by its id.

    Raises:
        UserError: there is none.
    """
    for each in collections:
        if each.id == name:
            return each
    raise unknown("collection", name, [each.id for each in collections])
