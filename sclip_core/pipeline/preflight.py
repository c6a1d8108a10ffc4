"""Ground truth before anything is computed: drawn where need be, looked at, its origin."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import (
    Reading,
    StrayValueError,
    check_sizes,
    image_size,
    read_bytes,
    read_sample,
)
from sclip_core.datasets.causes import suspicion
from sclip_core.datasets.images import USUAL
from sclip_core.datasets.looking import (
    Held,
    Seen,
    held_in,
    hidden_class,
    ignored_in,
    notes_of,
    refuse_hidden_class,
)
from sclip_core.datasets.record import (
    OTHER_DEFINITION,
    benchmark_row,
    dataset_record,
    incomplete,
    made_from,
)
from sclip_core.datasets.sample_columns import with_labels

if TYPE_CHECKING:
    from sclip_core.datasets import Dataset, Sample

LOOK_AT = 16  # pairs
MOST = 5000  # label maps that are looked at for a second class
FURTHER = 500  # label maps of which one may still show that the set is right


def look_at(dataset: Dataset, whole: bool, reading: Reading = USUAL) -> list[str]:
    """Look at a few pairs before an hour goes into features that cannot be scored.

    Args:
        dataset: with ground truth.
        whole: whether all samples of the usual split were asked for.
        reading: how image files become pixels.

    Returns:
        What a user should know before the run, a line each.

    Raises:
        UserError: every one of them is wrong, as those of another dataset would be; or it is a
            benchmark, and one of them has values without a class, or they were not all made.
    """
    _refuse_incomplete(dataset)
    labelled = with_labels(dataset.samples)
    step = -(-len(labelled) // LOOK_AT) or 1
    looked_at = labelled[::step]
    seen = Seen.nothing(dataset)
    stray: list[str] = []  # maps with values without a class
    faults: list[str] = []  # what else is wrong
    ignored: set[int] = set()  # values
    for sample in looked_at:
        try:
            ignored |= ignored_in(dataset, _looked_at(dataset, sample, seen, reading))
        except StrayValueError as error:
            stray.append(str(error))
        except ImageError as error:
            faults.append(str(error))
    if dataset.layout is None:
        seen.palettes.refuse_conflict()
    if dataset.ignored_unasked:
        _look_further(dataset, labelled, step, seen, reading)
        refuse_hidden_class(dataset, seen)
    wrong = f"{len(stray)} of the {len(looked_at)} label maps that were looked at"
    if looked_at and len(stray) + len(faults) == len(looked_at):
        first = (stray + faults)[0]
        raise UserError(f"no label map that was looked at can be used, such as {first}")
    if stray and dataset.layout:  # a published set has none: the others are of this kind too
        raise UserError(f"{wrong} have values without a class, such as {stray[0]}")
    notes = [f"{wrong} will be left out, such as {stray[0]}"] if stray else []
    if looked_at and not seen.classes.any():
        shown = ", ".join(map(str, sorted(ignored)))
        blank = "the label maps that were looked at have no pixel to evaluate, only the ignored"
        notes.append(f"{blank} {shown}")
    if dataset.layout is None:
        notes += notes_of(dataset, seen, len(looked_at) == len(dataset))
    return notes + _notes(dataset, whole, ignored)


def _look_further(
    dataset: Dataset, labelled: Sequence[Sample], step: int, seen: Seen, reading: Reading
) -> None:
    """Look at more label maps while all pixels to evaluate are of one class, or one seems hidden.

    Each ``step``th was looked at before.

    Of a thousand masks of 0 and 255, a few may be all 0; and a rare class may be in other maps.
    """
    if len(seen.classes) < 2:
        return
    others = np.arange(len(labelled))
    others = others[others % step > 0]
    apart = -(-len(others) // FURTHER) or 1
    places = (k for start in range(apart) for k in others[start::apart].tolist())
    spread = (labelled[k] for k in places)
    for number, sample in enumerate(spread):
        is_refused = hidden_class(dataset, seen) is not None
        if number >= (FURTHER if is_refused else MOST):
            return
        if not is_refused and (seen.classes > 0).sum() > 1:
            return
        with suppress(ImageError):  # named later
            _looked_at(dataset, sample, seen, reading)


def _looked_at(dataset: Dataset, sample: Sample, seen: Seen, reading: Reading) -> Held:
    """What a sample's label map holds, if it fits its image and the vocabulary."""
    assert sample.label is not None
    held = held_in(dataset, sample.label, read_bytes(sample.label))
    seen.add(held)
    if held.fault is not None:
        raise held.fault
    try:
        size = image_size(read_sample(sample.image), str(sample.image), reading)
    except ImageError:  # left out later, and named; its label map may be right
        size = held.size
    check_sizes(size, held.size, str(sample.label))
    return held


def _notes(dataset: Dataset, whole: bool, values: set[int]) -> list[str]:
    """What is odd about a benchmark's data; ``whole``: all its samples were asked for."""
    row, found = benchmark_row(dataset), len(dataset)
    if row is None:
        return []
    notes = []
    expected = row.get("num_images")
    if expected and whole and found != expected:
        command = f"sclip data check {dataset.name} --root {dataset.root}"
        notes.append(
            f"{dataset.name}: {found:,} images, the validation split has {expected:,}: "
            f"figures cannot be compared ({command})"
        )
    if row["layout"] == "coco_object" and made_from(dataset) == "instances":
        notes.append(f"coco_object: {OTHER_DEFINITION}")
    odd = suspicion(row["layout"], values)
    return [*notes, f"{dataset.name}: {odd}"] if odd else notes


def _refuse_incomplete(dataset: Dataset) -> None:
    """Raise where only some of the label maps are those that ``sclip data prepare`` makes."""
    fault = dataset.root and incomplete(dataset.name, dataset.root, dataset_record(dataset))
    if fault:
        raise UserError(f"{dataset.name} in {dataset.root}: {fault}")
