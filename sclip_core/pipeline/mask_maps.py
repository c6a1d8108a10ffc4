"""The id maps of a run's images, in a folder of files: their digests, and the masks in them."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from sclip_core.config import ImageError
from sclip_core.masks.id_maps import decode_id_map, proposals_of
from sclip_core.masks.proposals import Proposals
from sclip_core.masks.sources import MaskFiles
from sclip_core.pipeline.inputs import Inputs
from sclip_core.store.keys import canonical_json


class MaskMaps:
    """The id map of each image of a run, by the image's digest."""

    def __init__(self, source: MaskFiles, inputs: Inputs) -> None:
        """Read nothing yet.

        Args:
            source: the folder.
            inputs: images by name.
        """
        self._source, self._inputs = source, inputs

    @cached_property
    def _files(self) -> dict[str, dict[Path, str | ImageError] | ImageError]:
        """The files of each image and their digests; of an image without any, why.

        Copies of an image share its digest, and each may have a file of its own name.
        """
        found: dict[str, list[Path]] = {}
        lacking: dict[str, ImageError] = {}
        for sample, digest in zip(self._inputs.samples, self._inputs.image_digests, strict=True):
            try:
                path = self._source.find(sample.image_id)
            except ImageError as error:
                lacking.setdefault(digest, error)
            else:
                found.setdefault(digest, []).append(path)
        paths = [path for several in found.values() for path in several]
        digests = dict(zip(paths, self._inputs.digests.of_many(paths), strict=True))
        there = {
            image: {path: digests[path] for path in several} for image, several in found.items()
        }
        return {**lacking, **there}

    @cached_property
    def digest(self) -> str:
        """Of all the maps with the images that they are of: another map is another artifact."""
        listed = sorted(
            [image, sorted(str(value) if isinstance(value, str) else "" for value in maps.values())]
            for image, maps in self._files.items()
            if not isinstance(maps, ImageError)
        )
        return hashlib.sha256(canonical_json(listed).encode()).hexdigest()

    def masks(self, image: str) -> Proposals:
        """The masks of an image, in the order of their ids.

        Args:
            image: its digest.

        Raises:
            ImageError: it has no id map, or one that cannot be used; or copies of it have several.
        """
        maps = self._files[image]
        if isinstance(maps, ImageError):
            raise maps
        height, width = self._inputs.image(image).shape[:2]
        read = {}
        for path, digest in maps.items():
            if isinstance(digest, ImageError):
                raise digest
            data = self._inputs.read(path, digest)
            read[path] = decode_id_map(data, path, (height, width))
        (first, ids), *others = read.items()
        for path, of_copy in others:
            if not np.array_equal(ids, of_copy):
                raise ImageError(
                    f"{first} and {path} differ, and are of copies of one image: give both the "
                    "same id map"
                )
        return proposals_of(ids)
