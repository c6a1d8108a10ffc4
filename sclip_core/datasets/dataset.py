"""A dataset: its samples, its vocabulary, and how its label maps are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import Settings, UserError, tables
from sclip_core.config.counts import number_of
from sclip_core.config.data import OF_OWN_LABELS
from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.chosen import chosen_ids
from sclip_core.datasets.images import as_tagged
from sclip_core.datasets.label_files import ColourError, stored_colours
from sclip_core.datasets.labels import IGNORED, StrayValueError, decode_label, label_classes
from sclip_core.datasets.layouts import benchmark_root, benchmark_samples
from sclip_core.datasets.palettes import (
    STRAY,
    Palette,
    colour_advice,
    names_of,
    palette_of,
    read_colours,
    unknown_colours,
)
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.sample_columns import without_labels
from sclip_core.datasets.samples import find_samples
from sclip_core.datasets.vocabulary import BACKGROUND, Vocabulary


@dataclass(frozen=True)
class Dataset:
    """Images with or without ground truth, and the classes of the labels.

    Attributes:
        name: the benchmark, or the name that the user gave to a folder.
        samples: images and label maps, in a fixed order.
        vocabulary: classes and words; class k is label k (k+1 with ``reduce_zero_label``).
        reduce_zero_label: label 0 is not evaluated and label k means class k-1.
        ignore_label: label values that are not evaluated.
        root: the folder with a benchmark's layout; None for the user's own images.
        left_out: images that were found and are no samples, each with a line on why. A run names
            them, counts them as failed and goes on without them.
        notes: what a user should know about the data before a run, a line each.
        faults: lines on parts of the ground truth that are left out, where the rest of it is
            right. A run says them, scores the images and ends with exit code 1.
        ignored_unasked: whether ``ignore_label`` is only the default, which nobody asked for.
        palette: the class of each colour, of label maps in colours; None: they have values.
        palette_file: where the palette is from.
        exif: whether images, and label maps with a tag of their own, are turned: apply or ignore.
    """

    name: str
    samples: Sequence[Sample]
    vocabulary: Vocabulary
    reduce_zero_label: bool = False
    ignore_label: tuple[int, ...] = (255,)
    root: Path | None = None
    left_out: tuple[tuple[Sample, str], ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    ignored_unasked: bool = False
    palette: Palette | None = None
    palette_file: Path | None = None
    exif: str = "apply"

    def __repr__(self) -> str:
        """One line: its name, how many images and classes, the first names."""
        truth = "" if not any(without_labels(self.samples)) else " without ground truth"
        classes = number_of(self.vocabulary.num_classes, "class")
        found = f"{number_of(len(self), 'image')}{truth}"
        return f"Dataset({self.name}, {found}, {classes}: {few(self.vocabulary.class_names)})"

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    @property
    def layout(self) -> str | None:
        """The name of the benchmark's layout; None for the user's own images."""
        return None if self.root is None else str(tables()["benchmarks"][self.name]["layout"])

    def classes(self, path: Place, data: bytes) -> NDArray[np.int32]:
        """The classes (H, W) of a label map's pixels; -1 where they are not evaluated.

        Args:
            path: of the label map, for the errors.
            data: what is in it.

        Raises:
            ImageError: not a label map, or with values beyond the classes.
        """
        return self.classes_of(self.stored(path, data), path)

    def stored(self, path: Place, data: bytes) -> NDArray[np.int32]:
        """What a label map holds, before it is known what it stands for.

        Args:
            path: of the label map, for the errors.
            data: what is in it.

        Returns:
            (H, W) values or, where there is a palette, colours, 0xRRGGBB.

        Raises:
            ImageError: not a label map.
        """
        if self.palette is not None:
            return as_tagged(stored_colours(data, str(path)), data, self.exif)
        try:
            return as_tagged(decode_label(data, str(path)), data, self.exif)
        except ColourError as error:
            if self.root is not None:
                raise
            advice = colour_advice(stored_colours(data, str(path)), path)
            raise ColourError(f"{error}; {advice}") from None

    def classes_of(self, stored: NDArray[np.int32], path: Place) -> NDArray[np.int32]:
        """The classes (H, W) of what a label map holds; -1 where it is not evaluated.

        Raises:
            StrayValueError: a value or a colour that has no class.
        """
        if self.palette is None:
            return label_classes(
                stored,
                self.vocabulary.num_classes,
                self.reduce_zero_label and not self.vocabulary.is_raw,
                self.ignored_values,
                str(path),
                self.layout,
                self.vocabulary.labels or None,
            )
        classes = self.palette.classes_of(stored)
        stray = classes == STRAY
        if stray.any():
            source = self.palette_file or Path("palette")
            raise StrayValueError(unknown_colours(stored[stray], stored.size, str(path), source))
        return classes

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """All values that are not evaluated, with those that the vocabulary names."""
        words = self.vocabulary
        shift = int(self.reduce_zero_label and not words.is_raw)
        named = (number + shift for number, _ in words.ignored)
        zero = (0,) if self.reduce_zero_label and words.is_raw else ()
        return tuple(dict.fromkeys((*self.ignore_label, *named, *zero)))

    def empty(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """The classes (H, W) of an image that has nothing on it and so no label map."""
        return np.full(size, 0 if self.has_background else IGNORED, np.int32)

    @property
    def has_background(self) -> bool:
        """Whether class 0 is what no other class names, and has a value in the label maps."""
        named = self.vocabulary.has_background or BACKGROUND in self.vocabulary.words[0]
        return named and not self.reduce_zero_label

    def head(self, n: int) -> Self:
        """The same dataset with its first n samples, or all if it has fewer."""
        return replace(self, samples=self.samples[:n])


def open_dataset(
    settings: Settings,
    left_out: tuple[tuple[Sample, str], ...] = (),
    faults: tuple[str, ...] = (),
) -> Dataset:
    """Find the files of the dataset that the settings name; no image is opened.

    A benchmark is looked up below ``data_root``. The user's own images are given by ``images`` and
    ``classes``, their ground truth by ``labels``. ``num_samples`` takes only the first so many.

    Args:
        settings: of a run.
        left_out: images of the user's own that are known to have no ground truth, and why.
        faults: lines on what is left out of the ground truth of others.

    Raises:
        UserError: an option is missing, or what it names is missing or does not fit.
    """
    if settings.images is None:
        name = _benchmark(settings)
        vocabulary = _benchmark_vocabulary(settings, name)
        split, listed = settings.split, settings.images_list
        samples = benchmark_samples(
            name, settings.data_root, settings.num_samples, split=split, images_list=listed
        )
        root = benchmark_root(name, settings.data_root, split)
        ignore, zero = settings.ignore_label, settings.reduce_zero_label
        return Dataset(name, samples, vocabulary, zero, ignore, root)
    own = _own(settings, left_out)
    return replace(own, exif=settings.exif, left_out=left_out, faults=faults)


def _own(settings: Settings, left_out: tuple[tuple[Sample, str], ...]) -> Dataset:
    """The dataset of the user's own images, without some of them."""
    assert settings.images is not None
    if settings.split is not None:
        raise UserError(
            f"--split {settings.split} is for benchmarks: for images of your own pass the folders "
            "of that split, or --images-list FILE"
        )
    vocabulary = own_vocabulary(settings)
    _refuse_ignored_class(settings, vocabulary)
    vocabulary = _with_values(settings, vocabulary)
    ignored, usual = settings.ignore_label, settings.ignores_as_usual
    if usual:
        ignored = tuple(value for value in ignored if value not in settings.label_values)
    palette = None
    if settings.palette is not None and settings.labels is not None:
        colours = read_colours(settings.palette)
        palette = palette_of(colours, vocabulary.class_names, vocabulary.words, settings.palette)
    samples, notes = find_samples(
        settings.images,
        settings.labels,
        settings.num_samples,
        settings.label_pattern,
        settings.missing_labels,
        partial(chosen_ids, listed=settings.images_list) if settings.images_list else list,
        {sample.image_id for sample, _ in left_out},
    )
    dataset = Dataset(
        settings.dataset,
        samples,
        vocabulary,
        settings.reduce_zero_label,
        ignored,
        notes=notes,
        ignored_unasked=usual,
        palette=palette,
        palette_file=settings.palette,
    )
    empty = [sample.image_id for sample in without_labels(samples)]
    if not empty or settings.labels is None:
        return dataset
    meaning = f"taken for all '{vocabulary.class_names[0]}'"
    if not dataset.has_background:
        meaning = "not evaluated, since the first class is not the background"
    line = (
        f"{number_of(len(empty), 'image', 'have', len(samples))} no label map, {meaning}, as "
        f"--missing-labels empty says: {few(empty)}"
    )
    return replace(dataset, notes=(*notes, line))


def _benchmark(settings: Settings) -> str:
    """The canonical name of the benchmark that the settings name."""
    if settings.dataset == "custom" or settings.labels is not None:
        raise UserError(
            "--images is missing: give --images DIR --classes FILE (and --labels DIR to score) for "
            "your own images, or --dataset NAME --data-root DIR for a benchmark"
        )
    for name in OF_OWN_LABELS:
        if getattr(settings, name) != type(settings).model_fields[name].default:
            raise UserError(
                f"--{name.replace('_', '-')} is for label maps of your own, --labels DIR: those of "
                "a benchmark are as published"
            )
    return benchmark_name(settings.dataset)


def own_vocabulary(
    settings: Settings, expected: str = "one class a line, in label order"
) -> Vocabulary:
    """The vocabulary of the user's own images: a file, or a built-in one by its name.

    Args:
        settings: the settings of a run.
        expected: what the file should hold, for the error.

    Raises:
        UserError: none is given, or it cannot be read.
    """
    if settings.classes is not None:
        return Vocabulary.given(settings.classes)
    if settings.vocabulary is not None:
        return Vocabulary.named(settings.vocabulary)
    if settings.palette is not None:
        names = names_of(read_colours(settings.palette))
        if names is not None:
            return Vocabulary.from_classes(names)
    raise UserError(f"--classes is missing: pass a text file with {expected}")


def _refuse_ignored_class(settings: Settings, vocabulary: Vocabulary) -> None:
    """Raise if the default value of ignored pixels is the value of a class."""
    if settings.labels is None or not settings.ignores_as_usual:
        return
    if settings.label_values or settings.palette is not None:
        return
    (ignored,) = settings.ignore_label
    number = ignored - (settings.reduce_zero_label and not vocabulary.is_raw)
    if number in vocabulary.numbers:
        index = vocabulary.numbers.index(number)
        raise UserError(
            f"with {vocabulary.num_classes:,} classes, the value {ignored} of a label map is "
            f"'{vocabulary.class_names[index]}' and would not be evaluated: pass another value "
            "for pixels that are not, --ignore-label 65535"
        )


def _with_values(settings: Settings, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with the values that the classes have in the label maps.

    Raises:
        UserError: they cannot be that.
    """
    values = settings.label_values
    if not values:
        return vocabulary
    for other, given in (
        ("--reduce-zero-label", settings.reduce_zero_label),
        ("--palette", settings.palette is not None),
    ):
        if given:
            raise UserError(
                f"--label-values and {other} conflict: both say what the label maps hold; use one"
            )
    if len(values) != vocabulary.num_classes:
        raise UserError(
            f"--label-values has {len(values):,} values and there are "
            f"{vocabulary.num_classes:,} classes: expected one for each, in their order"
        )
    both = [value for value in settings.ignore_label if value in values]
    if both and not settings.ignores_as_usual:
        raise UserError(
            f"{both[0]} is in --ignore-label and in --label-values: leave it out of one"
        )
    usual = values == tuple(range(vocabulary.num_classes))
    return replace(vocabulary, labels=() if usual else values, ignored=())


def _benchmark_vocabulary(settings: Settings, name: str) -> Vocabulary:
    """The benchmark's vocabulary, or the file given in its place, with as many classes."""
    named = Vocabulary.named(name)
    if settings.classes is None:
        return named
    given = Vocabulary.given(settings.classes)
    if given.num_classes != named.num_classes:
        raise UserError(
            f"{settings.classes} has {given.num_classes} classes, but {name} has "
            f"{named.num_classes}: write one line for each, in the benchmark's order"
        )
    return given.with_background() if tables()["benchmarks"][name]["background"] else given
