"""The label maps of a stored run, image by image, for all exports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.results.area_rows import AreaRows, area_rows
from sclip_core.results.files import ARTIFACTS, read_run, root_of
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.tables import find_run

Labels = NDArray[np.int32]


class Segmented(NamedTuple):
    """An image of a run, and what the run made of it."""

    image_id: str
    file: Place  # the image
    name: str  # its path below ``StoredRun.image_root``, with "/"
    labels: Labels  # (H, W) classes; -1 where a pixel has none


@dataclass(frozen=True)
class StoredRun:
    """A run whose label maps are in the store.

    Attributes:
        row: the run in the table ``runs``.
        class_names: by class.
        image_ids: sorted.
        source: its dataset.
    """

    row: dict[str, Any]
    class_names: tuple[str, ...]
    image_ids: tuple[str, ...]
    source: Source
    _maps: LabelMaps
    _root: Place

    @classmethod
    def open(
        cls,
        name: str,
        artifacts: Place | str = ARTIFACTS,
        data_root: Path | None = None,
        images: Sequence[str] = (),
    ) -> StoredRun:
        """Open a run.

        Args:
            name: as ``find_run`` takes it: an id, how it begins, ``latest``, ``latest~1``.
            artifacts: the folder of all artifacts.
            data_root: where its benchmark lies now; None: where it lay then.
            images: the ids of those that are wanted; none: all.

        Raises:
            UserError: no such run or image; its label maps or its dataset are gone.
        """
        root = root_of(artifacts)
        run_id = find_run(name, root)
        row = read_run(root, run_id)[0]
        named = sorted(read_run(root, run_id, "class_iou"), key=lambda each: each["class_id"])
        maps = LabelMaps(root, row, data_root)
        source = Source(root, row, data_root)
        rows = area_rows(root, run_id)
        known = sorted(rows.ids.to_pylist())
        if unknown := sorted(set(images).difference(known)):
            raise UserError(f"{run_id} has no image {few(unknown)}: it has {few(known)}")
        chosen = tuple(sorted(set(images)) if images else known)
        return cls(row, tuple(each["class_name"] for each in named), chosen, source, maps, root)

    @property
    def run_id(self) -> str:
        """Its id."""
        return str(self.row["run_id"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What the label maps were made with: versions, ``git_commit``, ``device``."""
        return self._maps.provenance

    @cached_property
    def areas(self) -> AreaRows:
        """What was scored of each image."""
        return area_rows(self._root, self.run_id)

    @cached_property
    def image_root(self) -> Path | None:
        """The folder that all images lie below; None: they are in object storage."""
        folders = {os.path.dirname(str(self.source.file(i))) for i in self._there}
        try:
            return Path(os.path.commonpath(folders)) if "://" not in "".join(folders) else None
        except ValueError:
            return None

    @cached_property
    def _there(self) -> tuple[str, ...]:
        """The images that are still in the dataset.

        Raises:
            UserError: one is not.
        """
        gone = [i for i in self.image_ids if i not in self.source]
        if gone:
            raise UserError(
                f"{few(gone)} of {self.run_id} is no longer in the dataset: put the images back, "
                "or pass their new place, --data-root DIR"
            )
        return self.image_ids

    def file_name(self, image_id: str) -> str:
        """The path of an image below ``image_root``, with ``/``; in object storage its URL."""
        file = self.source.file(image_id)
        if self.image_root is None:
            return str(file)
        return os.path.relpath(str(file), self.image_root).replace(os.sep, "/")

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Segmented]:
        """The images in the order of their ids; each label map is read when its turn comes.

        Raises:
            UserError: an image has changed since, or its label map is gone.
        """
        for image_id in self._there:
            file = self.source.file(image_id)
            yield Segmented(image_id, file, self.file_name(image_id), self._labels(image_id))

    def _labels(self, image_id: str) -> Labels:
        """The label map of an image.

        Raises:
            UserError: it is not there, or its bytes are damaged.
        """
        digest = self.source.digest(image_id)
        if digest not in self._maps:
            raise UserError(
                f"{image_id} has no label map in {self.run_id}: the image was changed or the map "
                "removed since; run it again"
            )
        try:
            return self._maps.read(digest)
        except ValueError as error:
            raise ImageError(f"{image_id}: {error}; run it again") from None
