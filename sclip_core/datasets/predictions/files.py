"""Predictions that are files: a label map for each image, PNG, TIFF, BMP, GIF or NPY."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.datasets.below import files_below
from sclip_core.datasets.images import as_tagged
from sclip_core.datasets.label_arrays import NPY_START, read_array
from sclip_core.datasets.label_files import COLOURED, ColourError, opened, stored_colours
from sclip_core.datasets.label_names import matched
from sclip_core.datasets.labels import decode_label
from sclip_core.datasets.palettes import colour_advice
from sclip_core.datasets.predictions.values import Values
from sclip_core.datasets.samples import by_suffix
from sclip_core.datasets.suffixes import LABEL_SUFFIXES

OPTION = "--prediction-pattern"


class PredictedFiles:
    """A folder with a label map for each image.

    Attributes:
        files: by the id of the image, of those that have one.
        notes: how they were found, a line each.
    """

    format = "files"
    by_file = True

    def __init__(
        self,
        folder: Path,
        ids: Sequence[str],
        values: Values,
        pattern: str | None = None,
        exif: str = "apply",
    ) -> None:
        """Find the files; none is opened.

        Args:
            folder: where they are, with its subfolders.
            ids: of the dataset's images.
            values: what their values stand for.
            pattern: their names with ``{id}`` for that of the image; None: not given.
            exif: whether files with an EXIF tag of their own are turned.

        Raises:
            UserError: there are none, none is of an image, or two are of one.
        """
        found = sorted(by_suffix(folder, LABEL_SUFFIXES))
        if not found:
            raise UserError(f"--predictions {folder} holds no prediction: {_instead(folder)}")
        self._values, self._exif = values, exif
        names, self.notes = _paired(folder, ids, found, pattern)
        if not names:
            raise UserError(
                f"--predictions {folder} has a prediction of none of "
                f"{number_of(len(ids), 'image')}: expected names as {ids[0]}.png, found "
                f"{found[0][0]}; if they are named otherwise, pass {OPTION} '{{id}}_pred.png'"
            )
        _refuse_two(folder, names, found)
        self.files: Mapping[str, Path] = {i: folder / name for i, name in names.items()}
        endings = Counter(path.suffix.lower().lstrip(".").upper() for path in self.files.values())
        self.told = (
            f"{' and '.join(f'{count:,} {ending}' for ending, count in endings.most_common())}, "
            f"{values.told}"
        )

    def __contains__(self, image_id: str) -> bool:
        """Whether an image has a prediction."""
        return image_id in self.files

    def identity(self) -> dict[str, object]:
        """What decides what is read from a file, as plain JSON values."""
        exif = {} if self._exif == "apply" else {"exif": self._exif}
        return {"format": self.format, "values": self._values.identity(), **exif}

    def named(self, image_id: str) -> str:
        """The file of an image."""
        return str(self.files[image_id])

    def digests(self, ids: Sequence[str], of_files: Callable[[list[str]], list[str]]) -> list[str]:
        """The sha256 of the predictions of some images."""
        return of_files([str(self.files[i]) for i in ids])

    def read(
        self, image_id: str, size_hw: tuple[int, int], load: Callable[[Path], bytes]
    ) -> NDArray[np.int32]:
        """The classes (H, W) of an image's pixels; -1 where there is no prediction.

        Args:
            image_id: one that has a prediction.
            size_hw: of its label map.
            load: gives what is in a file.

        Raises:
            UserError: it is damaged, of another size, or holds a value without a class.
        """
        path = self.files[image_id]
        return self._read(load(path), path)

    def _read(self, data: bytes, path: Path) -> NDArray[np.int32]:
        name, values = str(path), self._values
        if values.palette is not None and _has_colours(data, name):
            colours = as_tagged(stored_colours(data, name), data, self._exif)
            return values.of_colours(colours, name)
        try:
            return values.classes_of(as_tagged(decode_label(data, name), data, self._exif), name)
        except ColourError as error:
            advice = colour_advice(stored_colours(data, name), path)
            raise ColourError(f"{error}; {advice}") from None


def _paired(
    folder: Path,
    ids: Sequence[str],
    found: Sequence[tuple[str, str, str]],
    pattern: str | None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The file of each image, and how it was found where names differ.

    Tools write into one folder what lies in several, so the last parts of ids are tried, too.
    """
    flat = {os.path.basename(i): i for i in ids}
    ways = [{i: i for i in ids}]
    if len(flat) == len(ids) and any("/" in i for i in ids):
        ways.append(flat)
    for way in ways:
        named = matched(list(way), found, pattern, "prediction", OPTION)
        if named.files:
            files = {way[one]: name for one, name in named.files.items()}
            if named.pattern is None or pattern is not None:
                return files, ()
            first, name = next(iter(files.items()))
            return files, (
                f"the predictions are named differently from the images: {name} is that of {first} "
                f"({OPTION} '{named.pattern}')",
            )
    return {}, ()


def _refuse_two(
    folder: Path, names: Mapping[str, str], found: Sequence[tuple[str, str, str]]
) -> None:
    """See that no image has two files."""
    several: dict[str, list[str]] = {}
    for path, stem, _ in found:
        several.setdefault(stem, []).append(path)
    for image_id, name in names.items():
        same = several[os.path.splitext(name)[0]]
        if len(same) > 1:
            raise UserError(
                f"--predictions {folder} holds {' and '.join(same)}, both of {image_id}: expected "
                f"one prediction an image; remove one, or say which, {OPTION} "
                f"'{{id}}{os.path.splitext(same[0])[1]}'"
            )


def _instead(folder: Path) -> str:
    """What was expected in a folder, and what there is."""
    expected = f"expected {' '.join(LABEL_SUFFIXES)} or COCO's .json"
    endings = Counter(
        os.path.splitext(p)[1].lower() or "without an ending" for p in files_below(folder)
    )
    if not endings:
        return f"{expected}, and it is empty"
    there = few([f"{count:,} {ending}" for ending, count in endings.most_common()], 4)
    lossy = "; JPEG blurs labels, save PNG" if {".jpg", ".jpeg"} & endings.keys() else ""
    return f"{expected}, and there are {there}{lossy}"


def _has_colours(data: bytes, name: str) -> bool:
    """Whether a file has three channels, whatever is in them."""
    if data.startswith(NPY_START):
        return read_array(data, name).ndim == 3
    return opened(data, name).mode in COLOURED


def checked_size(
    classes: NDArray[np.int32], size_hw: tuple[int, int], what: str, of: str
) -> NDArray[np.int32]:
    """The same classes, if they have the size of the label map.

    Args:
        classes: (H, W) predicted.
        size_hw: of the label map.
        what: the prediction's name.
        of: the image's.

    Raises:
        ImageError: they have not.
    """
    height, width = classes.shape
    if (height, width) == size_hw:
        return classes
    swapped = " (width and height are swapped)" if (width, height) == size_hw else ""
    raise ImageError(
        f"{what} is {width}x{height} pixels (width x height), the label map of {of} "
        f"{size_hw[1]}x{size_hw[0]}{swapped}: predictions are scored at the size of the label map "
        "and never resized; save them at that size"
    )
