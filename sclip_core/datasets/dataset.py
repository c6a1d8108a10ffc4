"""A dataset: its samples, its vocabulary, and how its label maps are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import Settings, UserError, tables
from sclip_core.config.errors import few
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.labels import decode_label, label_classes
from sclip_core.datasets.layouts import benchmark_root, benchmark_samples
from sclip_core.datasets.samples import Sample, folder_samples
from sclip_core.datasets.vocabulary import Vocabulary


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
    """

    name: str
    samples: tuple[Sample, ...]
    vocabulary: Vocabulary
    reduce_zero_label: bool = False
    ignore_label: tuple[int, ...] = (255,)
    root: Path | None = None
    left_out: tuple[tuple[Sample, str], ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: its name, how many images and classes, the first names."""
        kind = "images" if all(s.label for s in self.samples) else "images without ground truth"
        classes = f"{self.vocabulary.num_classes} classes: {few(self.vocabulary.class_names)}"
        return f"Dataset({self.name}, {len(self):,} {kind}, {classes})"

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    @property
    def layout(self) -> str | None:
        """The name of the benchmark's layout; None for the user's own images."""
        return None if self.root is None else str(tables()["benchmarks"][self.name]["layout"])

    def classes(self, path: Path, data: bytes) -> NDArray[np.int32]:
        """The classes (H, W) of a label map's pixels; -1 where they are not evaluated.

        Args:
            path: of the label map, for the errors.
            data: what is in it.

        Raises:
            ImageError: not a label map, or with values beyond the classes.
        """
        raw, words = decode_label(data, str(path)), self.vocabulary
        reduced = self.reduce_zero_label and not words.is_raw
        shift = int(reduced)
        ignored = (*self.ignore_label, *(number + shift for number, _ in words.ignored))
        zero = (0,) if self.reduce_zero_label and words.is_raw else ()
        return label_classes(
            raw,
            words.num_classes,
            reduced,
            tuple(dict.fromkeys((*ignored, *zero))),
            str(path),
            self.layout,
            words.labels or None,
        )

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
        samples = benchmark_samples(name, settings.data_root, settings.num_samples)
    else:
        name = settings.dataset
        vocabulary = own_vocabulary(settings)
        _refuse_ignored_class(settings, vocabulary)
        samples = folder_samples(
            settings.images,
            settings.labels,
            settings.num_samples,
            {sample.image_id for sample, _ in left_out},
        )
    root = benchmark_root(name, settings.data_root) if settings.images is None else None
    return Dataset(
        name,
        samples,
        vocabulary,
        settings.reduce_zero_label,
        settings.ignore_label,
        root,
        left_out,
        faults=faults,
    )


def _benchmark(settings: Settings) -> str:
    """The canonical name of the benchmark that the settings name."""
    if settings.dataset == "custom" or settings.labels is not None:
        raise UserError(
            "--images is missing: give --images DIR --classes FILE (and --labels DIR to score) for "
            "your own images, or --dataset NAME --data-root DIR for a benchmark"
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
    raise UserError(f"--classes is missing: pass a text file with {expected}")


def _refuse_ignored_class(settings: Settings, vocabulary: Vocabulary) -> None:
    """Raise if the default value of ignored pixels is the value of a class."""
    if settings.labels is None or not settings.ignores_as_usual:
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
