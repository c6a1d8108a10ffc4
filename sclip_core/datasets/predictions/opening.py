"""Predictions in any of the forms, which is recognised by what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.config.json_file import read_json
from sclip_core.datasets.annotations.kinds import kinds_of
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.predictions.coco import EXPECTED, Coco, is_coco, open_coco
from sclip_core.datasets.predictions.files import PredictedFiles
from sclip_core.datasets.predictions.segments import PanopticPngs, Segments
from sclip_core.datasets.predictions.values import CLASSES, NONE, values_of
from sclip_core.datasets.samples import by_suffix
from sclip_core.datasets.suffixes import LABEL_SUFFIXES

JSON = (".json",)
NO_DIGEST = "no-prediction"  # in place of the digest of a prediction, of an image without


@dataclass(frozen=True)
class PredictionOptions:
    """Where predictions are and how they are read.

    Attributes:
        path: a folder of label maps, or a file or folder of COCO's JSON.
        pattern: names of the files, with ``{id}`` for that of the image; None: they have those
            of the images, or the same addition to them throughout.
        values: ``classes``: counted from 0; ``raw``: as the dataset's own; or the number of each
            class, with commas between them.
        palette: the list of colours of RGB predictions; None: that of the dataset's label maps.
    """

    path: Path
    pattern: str | None = None
    values: str = CLASSES
    palette: Path | None = None


class Predictions(Protocol):
    """The label maps that another tool made.

    Attributes:
        format: ``files``, ``coco`` or ``coco panoptic``.
        by_file: whether the digest of a prediction is that of its file.
        told: what was found, in words.
        notes: what a user should know, a line each.
    """

    format: str
    by_file: bool
    told: str
    notes: tuple[str, ...]

    def __contains__(self, image_id: str) -> bool:
        """Whether an image has a prediction."""

    def identity(self) -> dict[str, object]:
        """What decides what is read, beside the files, as plain JSON values."""

    def named(self, image_id: str) -> str:
        """What to call the prediction of an image in an error."""

    def digests(self, ids: Sequence[str], of_files: Callable[[list[str]], list[str]]) -> list[str]:
        """The sha256 of the predictions of some images, given how to digest files."""

    def read(
        self, image_id: str, size_hw: tuple[int, int], load: Callable[[Path], bytes]
    ) -> NDArray[np.int32]:
        """The classes (H, W) of an image's pixels; -1 where there is no prediction.

        Args:
            image_id: one that has a prediction.
            size_hw: of its label map.
            load: gives what is in a file.

        Raises:
            UserError: it cannot be read, or holds a value without a class.
        """


def open_predictions(
    options: PredictionOptions, dataset: Dataset, truth: Path | None = None
) -> Predictions:
    """Find the predictions of a dataset's images.

    Args:
        options: where they are, and how they are read.
        dataset: what they are of.
        truth: the file or folder of the dataset's label maps or annotations.

    Raises:
        UserError: there are none, none is of an image, or an option does not fit.
    """
    path = Path(os.path.expanduser(options.path))
    if not path.exists():
        raise UserError(f"--predictions {path} does not exist: expected a folder or a JSON file")
    file = _json_of(path)
    if file is not None:
        coco = open_coco(file, _annotations(truth))
        if options.pattern is not None:
            raise UserError(f"--prediction-pattern is for files of label maps, {file} is COCO's")
        values = values_of(dataset, options.values, None, of_categories=True)
        return _segments(coco)(coco, dataset, values)
    values = values_of(dataset, options.values, options.palette, of_categories=False)
    ids = [sample.image_id for sample in dataset.samples]
    return PredictedFiles(path, ids, values, options.pattern, dataset.exif)


def _segments(coco: Coco) -> type[Segments] | type[PanopticPngs]:
    return PanopticPngs if coco.is_panoptic else Segments


def _json_of(path: Path) -> Path | None:
    """The file of COCO's that a path is or holds; None: it is a folder of label maps.

    Raises:
        UserError: it is another file, or holds several of COCO's, or one and label maps.
    """
    if path.is_file():
        if path.suffix.lower() not in JSON:
            raise UserError(f"--predictions {path} is a file: expected a folder, or COCO's .json")
        return path
    files = [path / name for name, _, _ in sorted(by_suffix(path, JSON)) if "/" not in name]
    maps = by_suffix(path, LABEL_SUFFIXES)
    if not files:
        return None
    loaded: dict[Path, Any] = {}
    for file in files:
        try:
            loaded[file] = read_json(file, "predictions ")
        except UserError:
            if not maps:
                raise
    coco = [file for file, content in loaded.items() if is_coco(content)]
    if len(coco) > 1:
        raise UserError(
            f"--predictions {path} holds {len(coco)} files of COCO's, "
            f"{few([file.name for file in coco])}: pass one of them"
        )
    if not coco and not maps:
        raise UserError(f"{files[0]} is not COCO's: {EXPECTED}")
    if coco and maps and not any("segments_info" in e for e in _entries(loaded[coco[0]])[:1]):
        raise UserError(
            f"--predictions {path} holds both {coco[0].name} and label maps such as {maps[0][0]}: "
            "pass the file, or move it elsewhere"
        )
    return coco[0] if coco else None


def _entries(loaded: Any) -> list[Any]:
    return list(loaded["annotations"] if isinstance(loaded, dict) else loaded)


def _annotations(truth: Path | None) -> Path | None:
    """The file of COCO's that a dataset's ground truth is; None: it is none."""
    if truth is None or not truth.exists():
        return None
    if truth.is_file():
        return truth if truth.suffix.lower() in JSON else None
    found = kinds_of(truth).coco
    return found[0] if len(found) == 1 else None


def nothing_of(dataset: Dataset, size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """The classes (H, W) of an image without a prediction: background where that is a class."""
    return np.full(size_hw, 0 if dataset.has_background else NONE, np.int32)
