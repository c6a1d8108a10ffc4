"""The dataset of a run, with label maps drawn if its ground truth is annotations."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from sclip_core.config import Settings, UserError
from sclip_core.config.parquet import parquet_files
from sclip_core.datasets.annotations import is_annotations
from sclip_core.datasets.annotations.maps import label_maps, unlabelled
from sclip_core.datasets.dataset import Dataset, open_dataset, own_vocabulary
from sclip_core.datasets.parquet import opened_unpacked

DRAWN = "ground_truth"  # below the artifacts


def opened(settings: Settings, say: Callable[[str], None], keep: bool = True) -> Dataset:
    """The dataset that the settings name; annotations are drawn as label maps.

    Args:
        settings: the settings of a run.
        say: called with what a user should know before the run.
        keep: whether the maps are kept below the artifacts; False: missing ones are drawn into a
            temporary folder, which lasts as long as the dataset.

    Raises:
        UserError: the annotations cannot be used, or the dataset cannot be opened.
    """
    if parquet_files(settings.images):
        return opened_unpacked(settings, say, keep, opened)
    if keep or settings.labels is None or not is_annotations(settings.labels):
        return open_dataset(drawn(settings, say))
    elsewhere = Path(tempfile.mkdtemp(prefix="sclip-maps-"))
    try:
        dataset = open_dataset(drawn(settings, say, elsewhere))
    except BaseException:
        shutil.rmtree(elsewhere, ignore_errors=True)
        raise
    weakref.finalize(dataset, shutil.rmtree, elsewhere, ignore_errors=True)
    return dataset


def drawn(
    settings: Settings, say: Callable[[str], None], elsewhere: Path | None = None
) -> Settings:
    """The settings with label maps in place of COCO, LabelMe or YOLO annotations.

    The maps are kept below the artifacts, so that they are drawn once.

    Args:
        settings: the settings of a run.
        say: called with what a user should know before the run.
        elsewhere: a folder for maps that are not there yet; None: below the artifacts.

    Raises:
        UserError: the annotations cannot be used, or do not fit the classes.
    """
    images, labels = settings.images, settings.labels
    if images is None or labels is None or not is_annotations(labels):
        return settings
    if settings.reduce_zero_label:
        raise UserError(
            f"{labels} names its categories, so there is no zero label to reduce: "
            "leave --reduce-zero-label out"
        )
    for name in ("palette", "label_values", "label_pattern"):
        if getattr(settings, name):
            raise UserError(
                f"--{name.replace('_', '-')} is for label maps, and {labels} holds annotations: "
                "leave it out"
            )
    expected = f"the categories of {labels} to be found, one a line, synonyms split by ', '"
    vocabulary = own_vocabulary(settings, expected)
    folder, limit = settings.artifacts / DRAWN, settings.first_drawn
    all_listed = settings.missing_labels == "refuse"
    workers, exif = settings.workers, settings.exif
    maps = label_maps(
        *(labels, images, vocabulary, folder, workers, limit, say, elsewhere, all_listed, exif)
    )
    given = () if settings.ignores_as_usual else settings.ignore_label
    ignored = dict.fromkeys((*given, unlabelled(vocabulary)))
    return settings.replace(labels=maps, ignore_label=tuple(ignored))
