"""``sclip data check``: every pair of a set read, every value looked at, each fault by its file."""

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
from sclip_core.datasets.causes import IGNORE_LABEL, likely_cause, suspicion
from sclip_core.datasets.record import incomplete, record_of
from sclip_core.datasets.samples import Files, benchmark_files

VALUES = 1 << 16  # of a 16-bit label map
AT_ONCE = 256  # pairs that are read ahead
SHOWN = 5  # values named in a fault


class Fault(NamedTuple):
    """What is wrong with a file."""

    file: str
    what: str


@dataclass
class Checked:
    """What was found in a benchmark's tree.

    Attributes:
        name: the benchmark.
        root: the folder with its layout.
        class_names: (C,) of its vocabulary.
        expected: images that the validation split has; None: not a set of the field.
        found: images that the tree lists.
        made_from: what ``sclip data prepare`` made the maps from; None: it did not make them.
        incomplete: why not all maps are made from it; None: they are, or it did not make them.
        sound: pairs without a fault.
        faults: by file.
        causes: what the faults, or what is odd, most likely come from.
        pixels: (C,) of each class.
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
        """Of all pixels, 0..1."""
        total = int(self.pixels.sum()) + self.ignored
        return self.ignored / total if total else 0.0

    @property
    def absent(self) -> list[str]:
        """Classes without a pixel."""
        return [n for n, count in zip(self.class_names, self.pixels, strict=True) if not count]

    @property
    def right(self) -> bool:
        """Whether it is the benchmark, whole and without a fault."""
        whole = self.expected is None or self.found == self.expected
        return whole and not (self.incomplete or self.faults or self.causes)


@dataclass(frozen=True)
class _Meaning:
    """What the values of a benchmark's label maps stand for."""

    num_classes: int
    reduce_zero_label: bool

    @property
    def first(self) -> int:
        """The value of class 0."""
        return int(self.reduce_zero_label)

    def stray(self, counts: NDArray[np.int64]) -> list[int]:
        """The values that occur and are neither a class nor ignored."""
        known = np.zeros(len(counts), bool)
        known[: self.num_classes + self.first] = True
        known[IGNORE_LABEL] = True
        return [int(value) for value in np.flatnonzero((counts > 0) & ~known)]


def check(
    name: str, root: Path, workers: int | None = None, progress: Progress = SILENT
) -> Checked:
    """Read every image's header and every label map of a benchmark.

    Args:
        name: the benchmark, e.g. ``"coco_stuff"``.
        root: the folder with its tree, or the one above it.
        workers: threads; None: one a core.
        progress: shows how far it is.

    Returns:
        What was found; faults are no errors here.

    Raises:
        UserError: no such benchmark, or its layout is not there at all.
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
    meaning = _Meaning(len(found.class_names), row["reduce_zero_label"])
    by_value = np.zeros(VALUES, np.int64)
    pairs = _parallel(files, meaning, workers or os.cpu_count() or 1)
    for counts, faults in counted(pairs, name, len(files.ids), progress):
        found.faults += faults
        found.sound += not faults
        if counts is not None:
            by_value += counts
    first, last = meaning.first, meaning.first + meaning.num_classes
    found.pixels = by_value[first:last]
    found.ignored = int(by_value[IGNORE_LABEL] + by_value[:first].sum())
    found.faults += _alone(files, "split" in tables()["layouts"][row["layout"]])
    found.causes = _causes(row["layout"], meaning, by_value)
    missing = len(set(files.ids) - files.labels)
    if missing and files.made:
        line = f"{missing:,} label maps are not there: run `sclip data prepare {name}{at(root)}`"
        found.causes.insert(0, line)
    return found


def _alone(files: Files, listed: bool) -> list[Fault]:
    """Label maps whose image is not there; where a file lists the images, others may lie there."""
    extra = set() if listed else files.labels.difference(files.ids)
    return [Fault(str(files.label_of(i)), "no image of this name") for i in sorted(extra)]


def _causes(layout: str, meaning: _Meaning, by_value: NDArray[np.int64]) -> list[str]:
    """What the values of all maps together say."""
    values = np.flatnonzero(by_value).tolist()
    stray = likely_cause(values, layout) if meaning.stray(by_value) else None
    return [line for line in (stray, suspicion(layout, values)) if line]


def _parallel(
    files: Files, meaning: _Meaning, workers: int
) -> Iterator[tuple[NDArray[np.int64] | None, list[Fault]]]:
    """Each pair, in order: pixels by value (None: not to be read), and its faults."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files.ids), AT_ONCE):
            ids = files.ids[start : start + AT_ONCE]
            yield from pool.map(lambda one: _examine(files, one, meaning), ids)


def _examine(
    files: Files, image_id: str, meaning: _Meaning
) -> tuple[NDArray[np.int64] | None, list[Fault]]:
    """Read one pair."""
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
        if stray := meaning.stray(counts):
            faults.append(Fault(str(label), _stray(stray, counts, meaning)))
    except ImageError as error:
        faults.append(Fault(str(label), _without_path(error, label)))
    if len(sizes) == 2:
        try:
            check_sizes(sizes[0], sizes[1], image_id)
        except ImageError as error:
            faults.append(Fault(str(label), str(error).removeprefix(f"{image_id}: ")))
    return counts, faults


def _stray(values: list[int], counts: NDArray[np.int64], meaning: _Meaning) -> str:
    """The fault of values without a class."""
    shown = ", ".join(f"{value} ({counts[value]:,} px)" for value in values[:SHOWN])
    more = f" and {len(values) - SHOWN} more values" if len(values) > SHOWN else ""
    last = meaning.num_classes + meaning.first - 1
    return f"values without a class: {shown}{more}; expected 0..{last} or {IGNORE_LABEL}"


def _without_path(error: ImageError, path: Path) -> str:
    """What is wrong, without the path that the fault has anyway."""
    return str(error).removeprefix(str(path)).lstrip(": ")
