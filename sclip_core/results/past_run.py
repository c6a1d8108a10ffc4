"""Data of a run that ended some time ago, found by what its row in ``runs`` says.

Its images and ground truth are where they were then; its label maps are in the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError, resolve
from sclip_core.config.data import OWN_DATA
from sclip_core.config.places import Place, local_folder
from sclip_core.datasets import Dataset, Reading, decode_image, image_size, read_sample
from sclip_core.datasets.drawn import opened
from sclip_core.datasets.predictions import (
    NO_DIGEST,
    PredictionOptions,
    nothing_of,
    open_predictions,
)
from sclip_core.results.settings import is_of_tool
from sclip_core.store import places
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.artifact import Identity, identity_in
from sclip_core.store.digests import Digests
from sclip_core.store.objects.digests import DataDigests, ObjectDigests
from sclip_core.store.tables import array_table, artifact_of

OF_DATA = ("dataset", "data_root", *OWN_DATA, "ignore_label", "num_samples")
OF_READING = (
    "exif",
    "pixel_range",
    "split",
    "images_list",
)  # columns that tables of older versions lack
USUALLY_IGNORED = "255"


class LabelMaps:
    """The label maps of a run, by the digest of the image."""

    def __init__(self, root: Place, run: Mapping[str, Any], data_root: Path | None = None) -> None:
        """Find them: in the store, or where another tool's predictions were.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.
            data_root: where a benchmark lies now; None: where it lay then.

        Raises:
            UserError: they are not there any more, or cannot be read.
        """
        self._maps = (
            PredictedMaps(root, run, data_root) if is_of_tool(run) else StoredMaps(root, run)
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """What they were made with: versions, ``git_commit``, ``device``; empty: not known."""
        return self._maps.provenance

    def __contains__(self, digest: str) -> bool:
        """Whether there is a label map of an image."""
        return digest in self._maps

    def read(self, digest: str) -> NDArray[np.int32]:
        """The classes (H, W) of an image; -1 where a pixel has none.

        Raises:
            DamagedRow: its bytes are not those that were written.
        """
        return self._maps.read(digest)


class StoredMaps:
    """Label maps in the store, by the digest of the image."""

    def __init__(self, root: Place, run: Mapping[str, Any]) -> None:
        """Open the artifact.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.

        Raises:
            UserError: it is not there any more, or cannot be read.
        """
        stage = "refine" if run["mode"] == "dense" else "hybrid"
        folder = root / stage / str(run.get(f"key_{stage}"))
        manifest = folder / "manifest.json"
        try:
            identity = identity_in(manifest)
            found = json.loads(places.read(manifest)).get("provenance")
            if (identity.stage, identity.key) != (stage, folder.name):
                raise ValueError("of another folder")
            artifact = artifact_of(root, identity)
            found_layout = None if artifact.in_objects else ArrayTable.of_unknown_layout(artifact)
            self._table = found_layout or array_table(
                artifact, _dtype(root, identity), None, compress=True
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"the label maps of {run['run_id']} are not in {folder} any more: run it again"
            ) from None
        self._provenance: dict[str, Any] = found if isinstance(found, dict) else {}
        self._rows = artifact.rows()
        self._has_gaps = identity.settings.get("uncovered") == "unlabelled"

    @property
    def provenance(self) -> dict[str, Any]:
        """What they were made with: versions, ``git_commit``, ``device``."""
        return self._provenance

    def __contains__(self, digest: str) -> bool:
        """Whether there is a label map of an image."""
        return digest in self._rows

    def read(self, digest: str) -> NDArray[np.int32]:
        """The classes (H, W) of an image; -1 where a pixel has none.

        Raises:
            DamagedRow: its bytes are not those that were written.
        """
        values = self._table.read_map(self._rows[digest])
        labels = values.astype(np.int32)
        if self._has_gaps:
            labels[labels == np.iinfo(values.dtype).max] = -1
        return labels


def label_map_dtype(num_classes: int, spare: bool) -> str:
    """The dtype of stored label maps.

    Args:
        num_classes: of the vocabulary.
        spare: whether the highest value is kept for pixels without a label.
    """
    return "uint16" if num_classes + spare > 256 else "uint8"


def _dtype(root: Place, identity: Identity) -> str:
    """The dtype of an artifact's label maps by its classes, for where no array says it."""
    of_classes = identity
    if "query_class" not in identity.settings:  # masks that vote on the labels of ``refine``
        folder = root / "refine" / identity.upstream["refine"]
        of_classes = identity_in(folder / "manifest.json")
    num_classes = 1 + max(map(int, of_classes.settings["query_class"]))
    return label_map_dtype(num_classes, spare=identity.stage == "hybrid")


class Source:
    """The dataset of a run."""

    def __init__(self, root: Place, run: Mapping[str, Any], data_root: Path | None = None) -> None:
        """Open it.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.
            data_root: where a benchmark lies now; None: where it lay then.

        Raises:
            UserError: it is not there any more.
        """
        given = {name: run.get(name) for name in OF_DATA}
        given |= {name: run[name] for name in OF_READING if run.get(name) is not None}
        if given["ignore_label"] == USUALLY_IGNORED:  # nobody asked for it
            del given["ignore_label"]
        if given["images"] is not None:
            given |= {"data_root": None, "vocabulary": run.get("vocabulary")}
            given["reduce_zero_label"] = run.get("reduce_zero_label")
        elif data_root is not None:
            given["data_root"] = data_root
        settings = resolve(**given, artifacts=root)
        self._dataset = opened(settings, lambda line: None)
        self._reading = Reading.of(settings)
        self._samples = {sample.image_id: sample for sample in self._dataset.samples}
        files = Digests(local_folder(root) / "digests.jsonl")
        self._digests = DataDigests(files, ObjectDigests(root, keep=False))

    @property
    def dataset(self) -> Dataset:
        """The dataset, as it is now."""
        return self._dataset

    def file(self, image_id: str) -> Place:
        """Where an image lies."""
        return self._samples[image_id].image

    def __contains__(self, image_id: str) -> bool:
        """Whether the dataset still has an image."""
        return image_id in self._samples

    def has_file(self, path: Path) -> bool:
        """Whether a file that is there is one of its images or label maps."""
        files = (file for each in self._samples.values() for file in (each.image, each.label))
        local = (os.path.realpath(file) for file in files if isinstance(file, Path))
        return os.path.realpath(path) in local

    def digest(self, image_id: str) -> str:
        """Of the bytes of an image.

        Raises:
            ImageError: it cannot be read.
        """
        return self._digests.of(self._samples[image_id].image)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB.

        Raises:
            ImageError: it cannot be read.
        """
        path = self._samples[image_id].image
        return decode_image(read_sample(path), str(path), self._reading)

    def truth(self, image_id: str) -> NDArray[np.int32]:
        """The classes (H, W); -1 where a pixel is not evaluated.

        Raises:
            ImageError: it cannot be read.
        """
        sample = self._samples[image_id]
        path = sample.label
        if path is None:
            data = read_sample(sample.image)
            return self._dataset.empty(image_size(data, str(sample.image), self._reading))
        return self._dataset.classes(path, read_sample(path))

    def label_digest(self, image_id: str) -> str | None:
        """Of the bytes of an image's label map; None: it has none.

        Raises:
            ImageError: it cannot be read.
        """
        label = self._samples[image_id].label
        return None if label is None else self._digests.of(label)

    def digests_of(self, paths: list[str]) -> list[str]:
        """Of the bytes of some files.

        Raises:
            ImageError: one cannot be read.
        """
        return [self._digests.of(Path(path)) for path in paths]


class PredictedMaps:
    """Another tool's predictions, where they were when they were scored."""

    def __init__(self, root: Place, run: Mapping[str, Any], data_root: Path | None = None) -> None:
        """Find them.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.
            data_root: where a benchmark lies now; None: where it lay then.

        Raises:
            UserError: they are not there any more.
        """
        self.provenance: dict[str, Any] = {}
        self._source = Source(root, run, data_root)
        palette, labels = run.get("prediction_palette"), run.get("labels")
        options = PredictionOptions(
            Path(run["predictions"]),
            run.get("prediction_pattern"),
            run["prediction_values"],
            None if palette is None else Path(palette),
        )
        dataset = self._source.dataset
        truth = Path(labels) if labels and "://" not in labels else None
        self._predictions = open_predictions(options, dataset, truth)
        manifest = root / "metrics" / str(run.get("key_metrics")) / "manifest.json"
        try:
            self._scored = artifact_of(root, identity_in(manifest)).rows()
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{manifest} is not there any more: score the files again") from None

    @cached_property
    def _id_of(self) -> dict[str, str]:
        """The image with each digest."""
        ids = [sample.image_id for sample in self._source.dataset.samples]
        return {self._source.digest(i): i for i in reversed(ids)}

    def __contains__(self, digest: str) -> bool:
        """Whether the prediction of an image and its label map are those that were scored."""
        image_id = self._id_of.get(digest)
        if image_id is None:
            return False
        found = NO_DIGEST
        if image_id in self._predictions:
            (found,) = self._predictions.digests([image_id], self._source.digests_of)
        return f"{found}:{self._source.label_digest(image_id) or 'empty'}" in self._scored

    def read(self, digest: str) -> NDArray[np.int32]:
        """The classes (H, W) of an image; -1 where a pixel has none.

        Raises:
            ImageError: the prediction cannot be read.
        """
        image_id = self._id_of[digest]
        size = self._source.truth(image_id).shape
        if image_id not in self._predictions:
            return nothing_of(self._source.dataset, (size[0], size[1]))
        return self._predictions.read(image_id, (size[0], size[1]), read_sample)
