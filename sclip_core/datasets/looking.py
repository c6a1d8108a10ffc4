"""What label maps of a user's own hold, and whether their values can mean what they are read as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import fitting
from sclip_core.config.errors import few, shown
from sclip_core.config.places import Place
from sclip_core.datasets.agreement import Drawn, Palettes, drawn_with
from sclip_core.datasets.causes import listed
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.label_files import is_grey_in_colour, is_mask_in_alpha
from sclip_core.datasets.labels import IGNORED, StrayValueError

COUNTED = 1 << 16  # values up to which each has a counter
COMMON = 0.05  # share of the pixels from which on an ignored value may well be a class
WORTH_A_NOTE = 0.01
PAIR = 2


class Held(NamedTuple):
    """What one label map holds.

    Attributes:
        size: (height, width), pixels.
        values: pixels of each value or, with a palette, of each colour.
        classes: pixels (C,) of each class; None: some values have no class.
        fault: which those are.
        drawn: its palette.
        grey_in_colour: it has several channels, all equal.
        in_alpha: it has one colour, and its alpha channel is the mask.
    """

    size: tuple[int, int]
    values: Counter[int]
    classes: NDArray[np.int64] | None
    fault: StrayValueError | None = None
    drawn: Drawn | None = None
    grey_in_colour: bool = False
    in_alpha: bool = False


def held_in(dataset: Dataset, path: Place, data: bytes) -> Held:
    """Look at a label map.

    Args:
        dataset: that it belongs to.
        path: of the label map, for the errors.
        data: what is in it.

    Raises:
        ImageError: not a label map.
    """
    stored = dataset.stored(path, data)
    size, values = (stored.shape[0], stored.shape[1]), counted(stored)
    try:
        classes = dataset.classes_of(stored, path)
    except StrayValueError as error:
        return Held(size, values, None, error)
    pixels = np.bincount(classes[classes >= 0], minlength=dataset.vocabulary.num_classes)
    if dataset.palette is not None:
        return Held(size, values, pixels)
    in_alpha = is_mask_in_alpha(data, str(path))
    in_colour = not in_alpha and is_grey_in_colour(data, str(path))
    drawn = drawn_with(data, str(path), values)
    return Held(size, values, pixels, None, drawn, in_colour, in_alpha)


def ignored_in(dataset: Dataset, held: Held) -> set[int]:
    """The values of a label map, all of which have a meaning, that are not evaluated."""
    values = list(held.values)
    (classes,) = dataset.classes_of(np.array([values], np.int32), Path())
    return {value for value, number in zip(values, classes, strict=True) if number == IGNORED}


@dataclass
class Seen:
    """What some or all label maps of a set hold.

    Attributes:
        values: pixels of each value or, with a palette, of each colour.
        classes: pixels (C,) of each class.
        grey_in_colour: label maps that have several channels, all equal.
        in_alpha: label maps of one colour, whose alpha channel is the mask.
        maps: label maps that were looked at and have classes only.
        pairs: label maps by the two values that they hold, of those that hold two.
        palettes: colours of the indices.
    """

    classes: NDArray[np.int64]
    values: Counter[int] = field(default_factory=Counter)
    grey_in_colour: int = 0
    in_alpha: int = 0
    maps: int = 0
    pairs: Counter[tuple[int, ...]] = field(default_factory=Counter)
    palettes: Palettes = field(default_factory=Palettes)

    @classmethod
    def nothing(cls, dataset: Dataset) -> Seen:
        """Before the first label map."""
        return cls(np.zeros(dataset.vocabulary.num_classes, np.int64))

    def add(self, held: Held) -> None:
        """Add a label map."""
        self.values += held.values
        if len(held.values) == PAIR:
            self.pairs[tuple(sorted(held.values))] += 1
        self.grey_in_colour += held.grey_in_colour
        self.in_alpha += held.in_alpha
        self.palettes.add(held.drawn)
        if held.classes is not None:
            self.maps += 1
            self.classes += held.classes

    @property
    def pixels(self) -> int:
        """How many pixels the label maps have."""
        return sum(self.values.values())

    def ignored(self, dataset: Dataset) -> dict[int, int]:
        """The pixels of each value that is not evaluated though it might be a class."""
        if dataset.palette is not None:
            return {}
        return {value: self.values[value] for value in dataset.ignore_label if self.values[value]}


def counted(stored: NDArray[np.int32]) -> Counter[int]:
    """How many pixels each value of a label map has."""
    if stored.size and stored.min() >= 0 and stored.max() < COUNTED:
        counts = np.bincount(stored.ravel())
        values = np.flatnonzero(counts)
        return Counter(dict(zip(values.tolist(), counts[values].tolist(), strict=True)))
    found, counts = np.unique(stored, return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def refuse_hidden_class(dataset: Dataset, seen: Seen) -> None:
    """Raise where ignoring a value that nobody asked to ignore most likely hides a class.

    Args:
        dataset: of the user's own.
        seen: what its label maps hold.

    Raises:
        UserError: as ``hidden_class`` says.
    """
    fault = hidden_class(dataset, seen)
    if fault is not None:
        raise UserError(fault)


def hidden_class(dataset: Dataset, seen: Seen) -> str | None:
    """What is wrong where ignoring a value that nobody asked to ignore most likely hides a class.

    That is so in masks of 0 and 255: what is left would be one class, and its score 100.

    Args:
        dataset: of the user's own.
        seen: what its label maps hold.

    Returns:
        A line if all other pixels are of one class; or the value is common, and of all classes
        only the last has no pixel; or the second of two classes has the ignored value in some
        label maps and its own in others. Else None.
    """
    hidden = seen.ignored(dataset) if dataset.ignored_unasked else {}
    two_codes = _two_codes(seen, dataset, list(hidden))
    if two_codes:
        return two_codes
    names, total = dataset.vocabulary.class_names, max(seen.pixels, 1)
    there = [name for name, count in zip(names, seen.classes, strict=True) if count]
    absent = [name for name in names if name not in there]
    share = sum(hidden.values()) / total
    alone = len(there) == 1
    last = absent == [names[-1]] and share >= COMMON  # 0, 1 and 255 of three classes
    if not (hidden and there and (alone or last)):
        return None
    value = next(iter(hidden))
    found = sorted(seen.values)
    what = (
        f"hold {_several(found)}, and {value} ({share:.1%} of the pixels) is not evaluated unless"
    )
    left = (
        f"so that all that is left to score is '{there[0]}'"
        if alone
        else f"so that '{absent[0]}' has no pixel"
    )
    advice = f"--ignore-label {value} if those pixels are not labelled"
    if len(found) == len(names):
        advice = f"--label-values {listed(found)} if {value} is '{names[-1]}', or {advice}"
    elif len(names) == 1:
        advice = (
            f"two classes in --classes, the first for 0, and --label-values 0,{value}; or {advice}"
        )
    else:
        advice = f"--label-values with the value of each class if {value} is a class, or {advice}"
    return f"the label maps {what} --ignore-label says so, {left}: pass {advice}"


def _two_codes(seen: Seen, dataset: Dataset, hidden: Sequence[int]) -> str | None:
    """What is said where some masks are of 0 and 1 and the others of 0 and 255; else None."""
    numbers = dataset.vocabulary.numbers
    if len(numbers) != PAIR or not hidden:
        return None
    first, second = (number + dataset.reduce_zero_label for number in numbers)
    own, other = tuple(sorted((first, second))), tuple(sorted((first, hidden[0])))
    if set(seen.values) != {first, second, hidden[0]} or set(seen.pairs) != {own, other}:
        return None
    return (
        f"{seen.pairs[own]:,} label maps hold {own[0]} and {own[1]}, {seen.pairs[other]:,} "
        f"hold {other[0]} and {other[1]}, and none all three: if {hidden[0]} is "
        f"'{dataset.vocabulary.class_names[1]}' as well, save them with one value for it; pass "
        f"--ignore-label {hidden[0]} if it means 'not labelled'"
    )


def notes_of(dataset: Dataset, seen: Seen, every: bool) -> list[str]:
    """What a user should know of the label maps, a line each.

    Args:
        dataset: of the user's own.
        seen: what its label maps hold.
        every: whether all of them were looked at.
    """
    notes = []
    which = "" if every else " that were looked at"
    if seen.in_alpha:
        notes.append(
            f"{seen.in_alpha:,} of the label maps{which} have one colour and the mask in their "
            "alpha channel: alpha is read"
        )
    if seen.grey_in_colour:
        notes.append(
            f"{seen.grey_in_colour:,} of the label maps{which} "
            f"{fitting('have', seen.grey_in_colour)} several channels, all equal; read as grey"
        )
    names = dataset.vocabulary.class_names
    absent = [name for name, count in zip(names, seen.classes, strict=True) if not count]
    if not absent or not seen.classes.any():
        return notes
    hidden = seen.ignored(dataset) if dataset.ignored_unasked else {}
    share = sum(hidden.values()) / max(seen.pixels, 1)
    line = f"never labelled in the label maps{which}: {_quoted(absent)}"
    if share >= WORTH_A_NOTE:
        value = next(iter(hidden))
        line += f", while {value}, which is not evaluated, has {share:.1%} of the pixels"
    elif not every and seen.maps < 2 * len(names):  # a few label maps show some classes
        return notes
    notes.append(line + _why_absent(dataset, seen, absent))
    there = [name for name in names if name not in absent]
    if len(there) == 1:
        notes.append(
            f"all pixels that are evaluated are '{there[0]}': the score is of that class alone, "
            "and 100 if everything is taken for it"
        )
    return notes


def _why_absent(dataset: Dataset, seen: Seen, absent: Sequence[str]) -> str:
    """What most likely keeps the first or the last class from having a pixel, or nothing."""
    names, values = dataset.vocabulary.class_names, seen.values
    if dataset.palette or dataset.vocabulary.labels:
        return ""
    if dataset.reduce_zero_label:
        share = values[0] / max(seen.pixels, 1)
        if absent == [names[-1]] and share >= WORTH_A_NOTE:
            return (
                f", while 0, which --reduce-zero-label leaves out, has {share:.1%} of the pixels; "
                "if 0 is the first class, leave that flag out"
            )
        return ""
    if absent == [names[0]]:
        if values[0]:
            return f": its value, 0, is in --ignore-label {listed(dataset.ignore_label)}"
        return "; if their values begin at 1, pass --reduce-zero-label"
    # Annotations, which go by names, come with a value that is ignored because that was asked for.
    if absent == [names[-1]] and len(names) > 2 and dataset.ignored_unasked:
        return (
            "; if the list of classes has a line too many, such as a background in front, all "
            "classes behind that line are off by one"
        )
    return ""


def _several(values: Sequence[int]) -> str:
    shown_values = few(values, 8)
    return f"the values {shown_values}" if len(values) > 1 else f"only the value {shown_values}"


def _quoted(names: Sequence[str]) -> str:
    return few([shown(name) for name in names], 6) + (
        f" ({len(names)} classes)" if len(names) > 6 else ""
    )
