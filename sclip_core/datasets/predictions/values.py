"""What the numbers and colours in predictions stand for: classes, or no prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.datasets.causes import counted_values
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.labels import StrayValueError, label_classes, ranges
from sclip_core.datasets.official_ids import Numbers, category_ids, pixel_values
from sclip_core.datasets.palettes import STRAY, Palette, palette_of, read_colours, unknown_colours

NONE = -1  # class of a pixel that was given none
USUAL_NONE = (255, 65535, -1)  # values of such pixels, where no class has them
CLASSES, RAW = "classes", "raw"
OTHER = {
    CLASSES: "if they are the dataset's own numbers, {}, pass --prediction-values raw",
    RAW: "if they are classes counted from 0, leave --prediction-values out",
}


@dataclass(frozen=True)
class Values:
    """How values become classes.

    Attributes:
        numbers: the number of each class, and those that mean "no prediction".
        said: ``classes``, ``raw``, or the numbers of the classes as they were given.
        raw: the numbers of the dataset's own label maps.
        palette: the class of each colour of predictions in colours.
        palette_file: where it is from.
    """

    numbers: Numbers
    said: str
    raw: Numbers
    palette: Palette | None = None
    palette_file: Path | None = None

    def identity(self) -> dict[str, Any]:
        """What decides the class of a value, as plain JSON values."""
        colours = self.palette
        return {
            "of_classes": list(self.numbers.of_classes),
            "of_none": sorted(self.numbers.of_none),
            "palette": None if colours is None else [colours.codes, colours.classes],
        }

    def classes_of(self, stored: NDArray[np.int32], name: str) -> NDArray[np.int32]:
        """The classes (H, W) of values; `NONE` where there is no prediction.

        Args:
            stored: (H, W), as they are in a file.
            name: of the file, for the error.

        Raises:
            UserError: a value is neither a class nor "no prediction".
        """
        known = [n for n in self.numbers.of_classes if n is not None]  # all: pixels have no None
        try:
            return label_classes(stored, len(known), False, self.numbers.of_none, name, None, known)
        except StrayValueError:
            raise self._stray(stored, name) from None

    def of_colours(self, stored: NDArray[np.int32], name: str) -> NDArray[np.int32]:
        """The classes (H, W) of colours, 0xRRGGBB; `NONE` of those that the palette calls void.

        Raises:
            UserError: a colour that the palette lacks.
        """
        assert self.palette is not None
        found = self.palette.classes_of(stored)
        stray = found == STRAY
        if stray.any():
            source = self.palette_file or Path("palette")
            raise UserError(unknown_colours(stored[stray], stored.size, name, source))
        return found

    @cached_property
    def class_of(self) -> dict[int, int]:
        """The class of each number; `NONE` of those without one."""
        found = dict.fromkeys(self.numbers.of_none, NONE)
        return found | {n: k for k, n in enumerate(self.numbers.of_classes) if n is not None}

    @property
    def told(self) -> str:
        """What the values are, in words."""
        if self.said == CLASSES:
            return f"classes 0..{len(self.numbers.of_classes) - 1}"
        return f"values {self.expected}, in the order of the classes"

    @property
    def expected(self) -> str:
        """The numbers of the classes: ``0..149``."""
        return ranges(sorted(n for n in self.numbers.of_classes if n is not None))

    def advice(self) -> str:
        """What to do about a number without a class."""
        raw = ranges(sorted(n for n in self.raw.of_classes if n is not None))
        if self.said in OTHER and (self.said == RAW or self.raw.of_classes != self._counted):
            return OTHER[self.said].format(raw)
        return (
            "if they are other numbers, pass those of the classes, in their order: "
            "--prediction-values 7,8,11,..."
        )

    @property
    def _counted(self) -> tuple[int, ...]:
        return tuple(range(len(self.numbers.of_classes)))

    def _stray(self, stored: NDArray[np.int32], name: str) -> UserError:
        """The error for values without a class."""
        values, counts = np.unique(stored, return_counts=True)
        strays = [k for k, value in enumerate(values.tolist()) if value not in self.class_of]
        told = counted_values(values[strays].tolist(), counts[strays].tolist())
        pixels = number_of(int(counts[strays].sum()), "pixel", "have")
        none = few(sorted(n for n in self.numbers.of_none if n >= 0), 4)
        return UserError(
            f"{name}: {pixels} a value without a class: {told}; expected {self.expected} "
            f"({len(self.numbers.of_classes)} classes)"
            f"{f', or {none} for no prediction' if none else ''}; {self.advice()}"
        )


def values_of(dataset: Dataset, said: str, palette: Path | None, of_categories: bool) -> Values:
    """How the numbers in predictions of a dataset become classes.

    Args:
        dataset: with the classes.
        said: ``classes``: counted from 0; ``raw``: as published, or as in the label maps; or the
            number of each class, with commas between them.
        palette: a list of colours; None: that of the dataset's label maps, if they have colours.
        of_categories: whether the numbers are categories of COCO's JSON, not values of pixels.

    Raises:
        UserError: they are not as expected.
    """
    classes = dataset.vocabulary.num_classes
    official = category_ids if of_categories else pixel_values
    raw = (official(dataset.name) if dataset.root is not None else None) or _of_label_maps(dataset)
    if said == CLASSES:
        chosen = Numbers(tuple(range(classes)), dataset.ignored_values)
    elif said == RAW:
        chosen = raw
    else:
        chosen = Numbers(_listed(said, classes), dataset.ignored_values)
    taken = {n for n in chosen.of_classes if n is not None}
    none = dict.fromkeys(n for n in (*chosen.of_none, *USUAL_NONE) if n not in taken)
    found = Values(Numbers(chosen.of_classes, tuple(none)), said, raw)
    if palette is None:
        return replace(found, palette=dataset.palette, palette_file=dataset.palette_file)
    words = dataset.vocabulary
    colours = palette_of(read_colours(palette), words.class_names, words.words, palette)
    return replace(found, palette=colours, palette_file=palette)


def _of_label_maps(dataset: Dataset) -> Numbers:
    """The values of the classes in the dataset's label maps."""
    words = dataset.vocabulary
    shift = int(dataset.reduce_zero_label and not words.is_raw)
    none = dataset.ignored_values + ((0,) if dataset.reduce_zero_label else ())
    return Numbers(tuple(n + shift for n in words.numbers), tuple(dict.fromkeys(none)))


def _listed(said: str, classes: int) -> tuple[int, ...]:
    """The numbers of the classes, as given."""
    parts = [part.strip() for part in said.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UserError(
            f"--prediction-values {shown(said)}: expected classes, raw, or the number of each "
            "class with commas between them: 7,8,11"
        )
    numbers = tuple(map(int, parts))
    if len(numbers) != classes or len(set(numbers)) < classes:
        raise UserError(
            f"--prediction-values has {len(set(numbers)):,} different numbers and there are "
            f"{classes:,} classes: expected one for each, in their order"
        )
    return numbers
