"""``sclip data check``: read all images and label maps of a benchmark, and list the faults."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.acquire import SILENT, Progress, counted
from sclip_core.acquire.trees import at
from sclip_core.config import ImageError, tables
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets import Vocabulary, check_sizes, decode_label, image_size, read_sample
from sclip_core.datasets.causes import IGNORE_LABEL, counted_values, likely_cause, suspicion
from sclip_core.datasets.layouts import Files, benchmark_files
from sclip_core.datasets.record import incomplete, record_of

VALUES = 1 << 16  # of a 16-bit label map
AT_ONCE = 256  # pairs that are submitted to the threads


class Fault(NamedTuple):
    """A file, and what is wrong with it."""

    file: str
    what: str


@dataclass
class Checked:
    """What was found in the tree of a benchmark.

    Attributes:
        name: the benchmark.
        root: the folder with its layout.
        class_names: the names (C,) of its classes.
        expected: images of the validation split; None if it has no fixed number.
        found: images that the tree has.
        made_from: what ``sclip data prepare`` made the maps from; None if it did not make them.
        incomplete: why not all maps are made from that; None if they are.
        sound: images without a fault in them or their label maps.
        faults: the faults, one a file.
        causes: the likely causes of faults and oddities, with what to do.
        pixels: pixels (C,) of each class.
        ignored: pixels that are not evaluated.
    """

    name: str
    root: Path
    class_names: tuple[str, ...]
    expected: int | None
    found: int
    made_from: str | None = None
    incomplete: str | None = None
    sound: int = 0
    faults: list[Fault] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: int = 0

    @property
    def ignored_share(self) -> float:
        """The share of pixels that are not evaluated, 0..1."""
        total = int(self.pixels.sum()) + self.ignored
        return self.ignored / total if total else 0.0

    @property
    def absent(self) -> list[str]:
        """The classes without a pixel."""
        return [n for n, count in zip(self.class_names, self.pixels, strict=True) if not count]

    @property
    def right(self) -> bool:
        """Whether all images of the benchmark are there, without a fault."""
        whole = self.expected is None or self.found == self.expected
        return whole and not (self.incomplete or self.faults or self.causes)


class _Values(NamedTuple):
    """What the values of a benchmark's label maps stand for."""

    first: int  # the value of class 0
    end: int  # the value after the last class
    known: NDArray[np.bool_]  # (VALUES,) whether a value is a class or ignored

    def stray(self, counts: NDArray[np.int64]) -> list[int]:
        """The values that occur and are neither a class nor ignored."""
        return [int(value) for value in np.flatnonzero((counts > 0) & ~self.known)]


def check(
    name: str, root: Path, workers: int | None = None, progress: Progress = SILENT
) -> Checked:
    """Read the header of every image and every label map of a benchmark.

    Args:
        name: the benchmark, e.g. ``"coco_stuff"``.
        root: the folder with its tree, or the one above it.
        workers: threads; None: one a core.
        progress: shows how far it is.

    Returns:
        What was found; faults raise no error.

    Raises:
        UserError: there is no such benchmark, or no part of its layout.
    """
    name = benchmark_name(name)
    row = tables()["benchmarks"][name]
    files = benchmark_files(name, root)
    record: dict[str, Any] = record_of(files.root, row["layout"]) or {}
    found = Checked(
        name,
        files.root,
        Vocabulary.named(name).class_names,
        row.get("num_images"),
        len(files.ids),
        record.get("made_from"),
        incomplete(name, files.root, record),
    )
    first = int(row["reduce_zero_label"])
    end = first + len(found.class_names)
    known = np.zeros(VALUES, bool)
    known[[*range(end), IGNORE_LABEL]] = True
    values = _Values(first, end, known)
    by_value = np.zeros(VALUES, np.int64)
    pairs = _parallel(files, values, workers or os.cpu_count() or 1)
    for counts, faults in counted(pairs, name, len(files.ids), progress):
        found.faults += faults
        found.sound += not faults
        if counts is not None:
            by_value += counts
    found.pixels = by_value[first:end]
    found.ignored = int(by_value[IGNORE_LABEL] + by_value[:first].sum())
    found.faults += _alone(files, "split" in tables()["layouts"][row["layout"]])
    occurring = np.flatnonzero(by_value).tolist()
    cause = likely_cause(occurring, row["layout"]) if values.stray(by_value) else None
    odd = suspicion(row["layout"], occurring)
    found.causes = [line for line in (cause, odd) if line]
    missing = len(set(files.ids) - files.labels)
    if missing and files.made:
        line = f"{missing:,} label maps are not there: run `sclip data prepare {name}{at(root)}`"
        found.causes.insert(0, line)
    return found


def _alone(files: Files, listed: bool) -> list[Fault]:
    """Label maps without image; if a split file lists the images, others are no fault."""
    extra = set() if listed else files.labels.difference(files.ids)
    return [Fault(str(files.label_of(i)), "no image of this name") for i in sorted(extra)]


def _parallel(
    files: Files, values: _Values, workers: int
) -> Iterator[tuple[NDArray[np.int64] | None, list[Fault]]]:
    """Pixels by value (None if the map cannot be read) and faults of each pair, in order."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files.ids), AT_ONCE):
            ids = files.ids[start : start + AT_ONCE]
            yield from pool.map(lambda one: _examine(files, one, values), ids)


def _examine(
    files: Files, image_id: str, values: _Values
) -> tuple[NDArray[np.int64] | None, list[Fault]]:
    """Read an image and its label map."""
    image, label = files.image_of(image_id), files.label_of(image_id)
    faults, sizes, counts = [], [], None
    try:
        sizes.append(image_size(read_sample(image), str(image)))
    except ImageError as error:
        faults.append(Fault(str(image), _without_path(error, image)))
    try:
        raw = decode_label(read_sample(label), str(label))
        sizes.append((raw.shape[0], raw.shape[1]))
        counts = np.bincount(np.clip(raw, 0, VALUES - 1).ravel(), minlength=VALUES)
        if stray := values.stray(counts):
            told = counted_values(stray, counts[stray].tolist())
            expected = f"0..{values.end - 1} or {IGNORE_LABEL}"
            faults.append(Fault(str(label), f"values without a class: {told}; expected {expected}"))
    except ImageError as error:
        faults.append(Fault(str(label), _without_path(error, label)))
    if len(sizes) == 2:
        try:
            check_sizes(sizes[0], sizes[1], image_id)
        except ImageError as error:
            faults.append(Fault(str(label), str(error).removeprefix(f"{image_id}: ")))
    return counts, faults


def _without_path(error: ImageError, path: Path) -> str:
    """The text of an error without the path, which the fault has already."""
    return str(error).removeprefix(str(path)).lstrip(": ")
