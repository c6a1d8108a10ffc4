"""Label maps for FiftyOne: a folder that it imports, or a dataset in its database.

FiftyOne shows nothing where a mask is 0, so that class k has the value k + 1 and 0 is no class.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sclip_core.config import UserError
from sclip_core.config.places import ObjectPath
from sclip_core.exports.places import check_folder, file_in, whole_folder
from sclip_core.exports.png import Values, as_values
from sclip_core.exports.stored import Segmented, StoredRun

FIELD = "prediction"


def mask_targets(run: StoredRun) -> dict[int, str]:
    """The name of each value of a mask."""
    return {k + 1: name for k, name in enumerate(run.class_names)}


def _mask(run: StoredRun, image: Segmented) -> Values:
    """The label map (H, W) of an image as FiftyOne has it."""
    count = len(run.class_names)
    numbers = np.arange(1, count + 1)
    table: Values = numbers.astype(np.uint8) if count < 256 else numbers.astype(np.uint16)
    return as_values(image.labels, table, 0)


def write_fiftyone(
    run: StoredRun,
    folder: Path,
    with_images: bool = False,
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write a folder of FiftyOne's type ``ImageSegmentationDirectory``; FiftyOne is not needed.

    Args:
        run: a stored one.
        folder: new or empty; gets ``labels/ID.png``, ``mask_targets.json`` and, of the images,
            copies in ``data/`` or their absolute paths in ``data.json``, which
            FiftyOne wants to be told: ``data_path="data.json"``.
        with_images: whether the images are copied.
        each: is called with each image that was written.

    Raises:
        UserError: the folder has files, label maps are gone, or the images are in object storage.
    """
    check_folder(folder)
    with whole_folder(folder) as place:
        files: dict[str, str] = {}
        for image in run:
            local = _local(image)
            Image.fromarray(_mask(run, image)).save(
                file_in(place / "labels", image.image_id, ".png"), compress_level=4
            )
            if with_images:
                shutil.copyfile(local, file_in(place / "data", image.image_id, local.suffix))
            files[image.image_id] = os.path.abspath(local)
            each(image)
        if not with_images:
            _write_json(place / "data.json", files)
        _write_json(place / "mask_targets.json", mask_targets(run))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _local(image: Segmented) -> Path:
    """The file of an image.

    Raises:
        UserError: it is in object storage.
    """
    if isinstance(image.file, ObjectPath):
        raise UserError(f"{image.file} is in object storage, and FiftyOne opens files: copy them")
    return image.file


def samples(run: StoredRun) -> Iterator[Any]:
    """A ``fiftyone.Sample`` for each image, with the field ``prediction``, a ``Segmentation``.

    Raises:
        UserError: FiftyOne is not installed, or label maps are gone.
    """
    fiftyone = _fiftyone()
    for image in run:
        mask = fiftyone.Segmentation(mask=_mask(run, image))
        path = os.path.abspath(_local(image))
        yield fiftyone.Sample(filepath=path, image_id=image.image_id, **{FIELD: mask})


def to_fiftyone(run: StoredRun, name: str | None = None) -> Any:
    """A persistent ``fiftyone.Dataset`` of a run, in FiftyOne's database.

    Args:
        run: a stored one.
        name: of the dataset; None: the run's id.

    Raises:
        UserError: FiftyOne is not installed, or label maps are gone.
    """
    dataset = _fiftyone().Dataset(name or run.run_id, persistent=True)
    dataset.default_mask_targets = mask_targets(run)
    dataset.info = json.loads(json.dumps(run.row, default=str))
    dataset.add_samples(samples(run))
    return dataset


def _fiftyone() -> Any:
    """The library, which is in no extra: its pins exclude those of others here.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("fiftyone")
    except ModuleNotFoundError:
        raise UserError(
            "fiftyone is not installed: pip install fiftyone; or write the folder that it imports, "
            "`sclip export RUN --format fiftyone -o DIR`"
        ) from None
