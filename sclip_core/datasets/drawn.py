"""The dataset of a run, with label maps drawn if its ground truth is annotations."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from sclip_core.config import Settings, UserError
from sclip_core.config.parquet import parquet_files
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.annotations import is_annotations
from sclip_core.datasets.annotations.maps import Maps, draw_maps, unlabelled
from sclip_core.datasets.chosen import chosen_ids
from sclip_core.datasets.dataset import Dataset, open_dataset, own_vocabulary
from sclip_core.datasets.parquet import MARKER, UNPACKED, opened_unpacked
from sclip_core.datasets.samples import ANNOTATION_SUFFIXES, by_suffix
from sclip_core.datasets.suffixes import LABEL_SUFFIXES
from sclip_core.store.objects.listing import list_again

DRAWN = "ground_truth"  # below the artifacts
MADE = (DRAWN, UNPACKED)  # folders of what is made of a user's data
__all__ = ["DRAWN", "MADE", "MARKER", "folders_of", "opened"]
OF_MAPS = ("label_values", "palette", "label_pattern")  # settings that only label maps have


def opened(settings: Settings, say: Callable[[str], None], keep: bool = True) -> Dataset:
    """The dataset that the settings name; annotations are drawn as label maps.

    Args:
        settings: the settings of a run.
        say: called with what a user should know before the run.
        keep: whether the maps are kept below the artifacts; False: missing ones are drawn into a
            temporary folder, which lasts as long as the dataset.

    Returns:
        Its ``left_out`` has the images whose maps cannot be drawn, and its ``faults`` what is not
        in the maps of others.

    Raises:
        UserError: the annotations cannot be used, or the dataset cannot be opened.
    """
    list_again(settings.images, settings.labels)
    if parquet_files(settings.images):
        return opened_unpacked(settings, say, keep, opened)
    images, labels = settings.images, settings.labels
    if images is None or labels is None or not _annotated(labels, images):
        return open_dataset(settings)
    assert isinstance(images, Path)
    assert isinstance(labels, Path)
    if keep:
        return _with_maps(settings, _drawn(settings, images, labels, say))
    elsewhere = Path(tempfile.mkdtemp(prefix="sclip-maps-"))
    try:
        dataset = _with_maps(settings, _drawn(settings, images, labels, say, elsewhere))
    except BaseException:
        shutil.rmtree(elsewhere, ignore_errors=True)
        raise
    weakref.finalize(dataset, shutil.rmtree, elsewhere, ignore_errors=True)
    return dataset


def _annotated(labels: Place, images: Place) -> bool:
    """Whether the ground truth is annotations.

    Raises:
        UserError: it is, and they or the images are in object storage.
    """
    if isinstance(labels, ObjectPath):
        is_file = labels.suffix.lower() in ANNOTATION_SUFFIXES
        if is_file or _has_annotations_alone(labels):
            raise UserError(
                f"--labels {labels} has annotations, which are read from a folder: pass a copy in "
                "a folder, with the images in a folder too, or label maps"
            )
        return False
    if isinstance(images, ObjectPath):
        if is_annotations(labels):
            raise UserError(
                f"--labels {labels} has annotations, and --images {images} is in object storage: "
                "pass a folder of the images, or label maps"
            )
        return False
    return is_annotations(labels, images)


def _has_annotations_alone(labels: ObjectPath) -> bool:
    """Whether there are files of annotations and no label maps below a place."""
    return not by_suffix(labels, LABEL_SUFFIXES) and bool(
        by_suffix(labels, tuple(ANNOTATION_SUFFIXES))
    )


def _drawn(
    settings: Settings,
    images: Path,
    labels: Path,
    say: Callable[[str], None],
    elsewhere: Path | None = None,
) -> Maps:
    """The label maps of COCO, LabelMe or YOLO annotations.

    They are kept below the artifacts, so that they are drawn once.

    Args:
        settings: the settings of a run.
        images: the folder of the images.
        labels: the annotations.
        say: called with what a user should know before the run.
        elsewhere: a folder for maps that are not there yet; None: below the artifacts.

    Raises:
        UserError: the annotations cannot be used, or do not fit the classes.
    """
    if settings.reduce_zero_label:
        raise UserError(
            f"{labels} names its categories, so there is no zero label to reduce: "
            "leave --reduce-zero-label out"
        )
    for name in OF_MAPS:
        if getattr(settings, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} is for label maps, and {labels} holds annotations: leave it out"
            )
    expected = f"the categories of {labels} to be found, one a line, synonyms split by ', '"
    vocabulary = own_vocabulary(settings, expected)
    return draw_maps(
        labels,
        images,
        vocabulary,
        settings.local_artifacts / DRAWN,
        settings.workers,
        lambda ids: chosen_ids(ids, settings.images_list, settings.num_samples),
        say,
        elsewhere,
        all_listed=settings.missing_labels == "refuse",
        exif=settings.exif,
    )


def _with_maps(settings: Settings, maps: Maps) -> Dataset:
    """The dataset whose label maps were drawn."""
    given = () if settings.ignores_as_usual else settings.ignore_label
    ignored = dict.fromkeys((*given, unlabelled(own_vocabulary(settings))))
    drawn = settings.replace(labels=maps.folder, ignore_label=tuple(ignored))
    return open_dataset(drawn, maps.left_out, maps.faults)


def folders_of(dataset: Dataset, artifacts: Path) -> set[Path]:
    """The folders below the artifacts that hold files of a dataset."""
    places = (artifacts.resolve() / part for part in MADE)
    parents = [
        parent
        for sample in dataset.samples[:1]  # a dataset has one folder of each kind
        for path in (sample.image, sample.label)
        if isinstance(path, Path)
        for parent in path.resolve().parents
    ]
    return {parent for place in places for parent in parents if parent.parent == place}
