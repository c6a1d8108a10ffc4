"""Label maps as PNG files with the values that the dataset's own label maps have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import UserError
from sclip_core.datasets import Dataset
from sclip_core.datasets.official_ids import CITYSCAPES_IDS as IDS
from sclip_core.datasets.palettes import voc_colours
from sclip_core.exports.places import check_folder, file_in, whole_folder
from sclip_core.exports.stored import Segmented, StoredRun

VALUES = ("dataset", "classes", "label-ids")
UNLABELLED = 255  # of 8 bits; of 16 bits 65535
VOC = ("voc2012",)  # layouts whose label maps have VOC's palette
Values = NDArray[np.uint8] | NDArray[np.uint16]


def value_table(dataset: Dataset, num_classes: int, values: str = "dataset") -> tuple[Values, int]:
    """The value in a PNG of every class.

    Args:
        dataset: whose label maps decide.
        num_classes: C.
        values: ``dataset``: those of its own label maps (ADE20K: 1 to 150); ``classes``: 0 to C-1;
            ``label-ids``: of Cityscapes, those that its server takes.

    Returns:
        (C,) values, and the value of a pixel without a class: one that the dataset does not
        evaluate.

    Raises:
        UserError: unknown values, or label ids of another dataset than Cityscapes.
    """
    free = UNLABELLED if num_classes < UNLABELLED else np.iinfo(np.uint16).max
    numbers = np.arange(num_classes)
    if values == "label-ids":
        if dataset.layout != "cityscapes":
            raise UserError(
                f"label-ids are Cityscapes', and this run is on {dataset.name}: pass "
                "--values dataset or classes"
            )
        numbers, free = np.asarray(IDS), 0
    elif values == "dataset" and dataset.palette is None:
        words = dataset.vocabulary
        shift = int(dataset.reduce_zero_label and not words.is_raw)
        numbers = np.asarray(words.numbers) + shift
        ignored = [value for value in dataset.ignored_values if value not in numbers]
        free = 0 if dataset.reduce_zero_label else min(ignored, default=free)
    elif values not in VALUES:
        raise UserError(f"unknown values '{values}': expected {', '.join(VALUES)}")
    highest = max(int(numbers.max()), free)
    table: Values = numbers.astype(np.uint8) if highest < 256 else numbers.astype(np.uint16)
    return table, free


def as_values(labels: NDArray[np.integer[Any]], table: Values, free: int) -> Values:
    """A map (H, W) of classes as values; ``table`` and ``free`` as of ``value_table``."""
    with_free = np.append(table, table.dtype.type(free))  # class -1 is its last
    found: Values = with_free[labels]
    return found


def picture(values: Values, dataset: Dataset) -> Image.Image:
    """A label map as it is saved: grey of 8 or 16 bits; of PASCAL VOC with its palette."""
    image = Image.fromarray(values)
    if dataset.layout in VOC and values.dtype == np.uint8:
        codes = np.asarray(voc_colours())
        image.putpalette(
            np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype("u1").tobytes()
        )
    return image


def write_png(
    run: StoredRun,
    folder: Path,
    values: str = "dataset",
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write the label maps of a run as ``ID.png``; ``values`` as of ``value_table``.

    Args:
        run: a stored one.
        folder: new or empty.
        values: what stands for a class.
        each: is called with each image that was written.

    Raises:
        UserError: the folder has files, the run's label maps are gone, or the values do not fit.
    """
    check_folder(folder)
    dataset = run.source.dataset
    table, free = value_table(dataset, len(run.class_names), values)
    with whole_folder(folder) as place:
        for image in run:
            shown = picture(as_values(image.labels, table, free), dataset)
            shown.save(file_in(place, image.image_id, ".png"), compress_level=4)
            each(image)
