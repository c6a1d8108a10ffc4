"""Images that the page sent, as a collection: they belong to no run, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.places import Place
from sclip_core.datasets import Sample
from sclip_core.explore.gallery import Collection
from sclip_core.explore.uploads import Uploads
from sclip_core.pipeline.run import Run

NAME = "uploads"


class UploadedCollection(Collection):
    """The images that were sent, looked at by the model of another collection."""

    def __init__(self, beside: Collection, uploads: Uploads) -> None:
        """Take the model, the settings and the words of a collection."""
        has_words = beside.vocabulary is not None
        arguments = beside.settings, beside.dataset, (), has_words, False
        super().__init__(NAME, NAME, *arguments)
        self._beside, self._uploads = beside, uploads

    @property
    def run(self) -> Run:
        """That of the other collection."""
        return self._beside.run

    @property
    def has_truth(self) -> bool:
        """There is none."""
        return False

    def __len__(self) -> int:
        """The number of images that are kept."""
        return len(self._uploads)

    def __contains__(self, image_id: object) -> bool:
        """Whether an image is kept."""
        return image_id in self._uploads.ids()

    def ids(self) -> Sequence[str]:
        """Of the images, the oldest first."""
        return self._uploads.ids()

    def place(self, image_id: str) -> int:
        """Which image it is, counted from 0."""
        self._uploads.of(image_id)
        return list(self.ids()).index(image_id)

    def sample(self, image_id: str) -> Sample:
        """Its name, in the place of a file."""
        return Sample(image_id, Path(self._uploads.of(image_id).name), None)

    def file(self, image_id: str) -> Place:
        """The name that it was sent with; there is no such file."""
        return Path(self._uploads.of(image_id).name)

    def digest(self, image_id: str) -> str:
        """Of its bytes."""
        return self._uploads.of(image_id).digest

    def remembered(self, images: Iterable[str]) -> list[str | None]:
        """The digests of images."""
        return [self.digest(image_id) for image_id in images]

    def pixels(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB."""
        return self._uploads.pixels(image_id)

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width."""
        return self._uploads.of(image_id).size

    def truth(self, image_id: str) -> NDArray[np.int32] | None:
        """None: there is none."""
        return None
