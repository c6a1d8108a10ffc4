"""``sclip data check`` of a set of one's own: what a run would score, before there is a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sclip_core.acquire import SILENT, Progress, counted
from sclip_core.acquire.check import AT_ONCE, Fault
from sclip_core.config import ImageError, Settings, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets import (
    Dataset,
    Reading,
    Sample,
    StrayValueError,
    check_sizes,
    decode_image,
    image_size,
    read_sample,
)
from sclip_core.datasets.annotations import is_annotations
from sclip_core.datasets.drawn import opened
from sclip_core.datasets.looking import Held, Seen, held_in, notes_of, refuse_hidden_class
from sclip_core.datasets.palettes import written
from sclip_core.datasets.samples import by_suffix, skipped_below
from sclip_core.datasets.suffixes import LABEL_SUFFIXES
from sclip_core.drawing import panel

PICTURES = 6
REMOTE_THREADS = 16  # of objects, for which each waits
NO_CLASS, NOT_EVALUATED = "no class", "not evaluated"


class Value(NamedTuple):
    """A value of the label maps, or a colour ``r,g,b``."""

    value: str
    meaning: str  # the name of its class, `NOT_EVALUATED` or `NO_CLASS`
    pixels: int


@dataclass
class OwnChecked:
    """What was found in a set of one's own.

    Attributes:
        dataset: as a run opens it.
        images: images that were found.
        labels: label maps that belong to one.
        sound: images that a run would score.
        sizes: how many images have each (width, height).
        seen: what the label maps hold.
        faults: what is wrong with single files, which a run would leave out.
        causes: what a run would refuse, with what to do.
        unlabelled: images without a label map.
        alone: label maps without an image.
        notes: what to know.
    """

    dataset: Dataset
    seen: Seen
    images: int = 0
    labels: int = 0
    sound: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def values(self) -> list[Value]:
        """The values of the label maps in ascending order, with what they stand for."""
        found = []
        for value, pixels in sorted(self.seen.values.items()):
            shown = str(value) if self.dataset.palette is None else written(value)
            found.append(Value(shown, self._meaning(value), pixels))
        return found

    @property
    def absent(self) -> list[str]:
        """The classes without a pixel, in maps with values without a class either."""
        there = {meaning for _, meaning, _ in self.values}
        return [name for name in self.dataset.vocabulary.class_names if name not in there]

    def _meaning(self, value: int) -> str:
        try:
            (number,) = self.dataset.classes_of(np.array([[value]], np.int32), Path())[0]
        except StrayValueError:
            return NO_CLASS
        return self.dataset.vocabulary.class_names[number] if number >= 0 else NOT_EVALUATED


class _Pair(NamedTuple):
    """What was found in an image and its label map."""

    size: tuple[int, int] | None
    held: Held | None
    faults: list[Fault]


def check_own(
    settings: Settings, workers: int | None = None, progress: Progress = SILENT
) -> OwnChecked:
    """Read the header of every image and every label map of a set of one's own.

    Args:
        settings: with ``images``, ``labels`` and ``classes``, as for a run.
        workers: threads; None: one a core.
        progress: shows how far it is.

    Returns:
        What was found; faults of single files raise no error.

    Raises:
        UserError: a folder or file that is not there or cannot be used at all.
    """
    if settings.labels is None:
        raise UserError("--labels is missing: without label maps there is nothing to check")
    notes: list[str] = []
    filled = settings.replace(missing_labels="empty")
    skips = settings.missing_labels == "skip"
    dataset = opened(settings if skips else filled, notes.append, keep=False)
    found = OwnChecked(dataset, Seen.nothing(dataset), notes=notes)
    found.notes += dataset.vocabulary.notes
    found.notes += [line for line in dataset.notes if "--missing-labels" not in line or skips]
    samples = dataset.samples
    found.unlabelled = [sample.image_id for sample in samples if sample.label is None]
    found.images, found.labels = len(samples), len(samples) - len(found.unlabelled)
    found.faults += [Fault(str(sample.image), why) for sample, why in dataset.left_out]
    threads = workers or os.cpu_count() or 1
    if isinstance(settings.images, ObjectPath) or isinstance(settings.labels, ObjectPath):
        threads = max(threads, REMOTE_THREADS)
    pairs = _parallel(dataset, Reading.of(settings), threads)
    for pair in counted(pairs, dataset.name, len(samples), progress):
        _add(found, pair)
    _judge(found, settings)
    return found


def pictures_of(
    found: OwnChecked, settings: Settings, most: int = PICTURES
) -> Iterator[tuple[str, Image.Image]]:
    """A few images, each beside its label map in the colours of the classes, above a legend.

    Args:
        found: what ``check_own`` found.
        settings: that it was given.
        most: how many.

    Yields:
        The id of an image and the picture.
    """
    dataset, reading = found.dataset, Reading.of(settings)
    labelled = [sample for sample in dataset.samples if sample.label is not None]
    for sample in labelled[:: max(1, len(labelled) // most)][:most]:
        assert sample.label is not None
        try:
            image = decode_image(read_sample(sample.image), str(sample.image), reading)
            classes = dataset.classes(sample.label, read_sample(sample.label))
            names = list(dataset.vocabulary.class_names)
            yield (
                sample.image_id,
                panel(image, None, classes, names, sample.image_id, result="label map"),
            )
        except (ImageError, ValueError):  # named among the faults
            continue


def _add(found: OwnChecked, pair: _Pair) -> None:
    found.faults += pair.faults
    found.sound += not pair.faults
    if pair.size is not None:
        found.sizes[pair.size[::-1]] += 1
    if pair.held is not None:
        found.seen.add(pair.held)


def _judge(found: OwnChecked, settings: Settings) -> None:
    """Say what the counts mean."""
    assert settings.labels is not None
    assert settings.images is not None
    try:
        found.seen.palettes.refuse_conflict()
        refuse_hidden_class(found.dataset, found.seen)
    except UserError as error:
        found.causes.append(str(error))
    if found.unlabelled and settings.missing_labels == "refuse":
        found.causes.append(
            f"{number_of(len(found.unlabelled), 'image', 'have', found.images)} no label map "
            f"({few(found.unlabelled)}): pass --missing-labels skip to leave them out, or empty if "
            "nothing is on them"
        )
    if found.faults and not found.sound:
        found.causes.append(f"no pair can be used, such as {': '.join(found.faults[0])}")
    if found.seen.classes.any():
        found.notes += notes_of(found.dataset, found.seen, every=True)
    skipped = skipped_below(settings.images, settings.labels)
    found.notes += [skipped] if skipped else []
    if not is_annotations(settings.labels):
        used = {_real(s.label) for s in found.dataset.samples if s.label is not None}
        used |= {_real(sample.image) for sample in found.dataset.samples}
        there = sorted(path for path, _, _ in by_suffix(settings.labels, LABEL_SUFFIXES))
        found.alone = [p for p in there if _real(settings.labels / p) not in used]


def _real(path: Place) -> str:
    """One name for a file that links may give several."""
    return str(path) if isinstance(path, ObjectPath) else os.path.realpath(path)


def _parallel(dataset: Dataset, reading: Reading, workers: int) -> Iterator[_Pair]:
    """What is in each pair, in order."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(dataset), AT_ONCE):
            samples = dataset.samples[start : start + AT_ONCE]
            yield from pool.map(lambda one: _examine(dataset, reading, one), samples)


def _examine(dataset: Dataset, reading: Reading, sample: Sample) -> _Pair:
    """Read an image and its label map."""
    faults: list[Fault] = []
    size = held = None
    try:
        size = image_size(read_sample(sample.image), str(sample.image), reading)
    except ImageError as error:
        faults.append(_fault(sample.image, error))
    if sample.label is None:
        return _Pair(size, None, faults)
    try:
        held = held_in(dataset, sample.label, read_sample(sample.label))
        if held.fault is not None:
            raise held.fault
        if size is not None:
            check_sizes(size, held.size, str(sample.label))
    except ImageError as error:
        faults.append(_fault(sample.label, error))
    return _Pair(size, held, faults)


def _fault(path: Place, error: ImageError) -> Fault:
    """The fault of a file; its path is not said twice."""
    return Fault(str(path), str(error).removeprefix(str(path)).lstrip(": "))
