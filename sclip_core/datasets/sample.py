"""One image of a dataset and its ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sclip_core.config.places import Place, listed_place


class Sample:
    """One image and its ground truth, if there is one.

    Attributes:
        image_id: unique in the dataset; "/" where the layout has folders.
        image_file: path of the image as text, which takes a fifth of the memory of a ``Path``.
        label_file: path of its label map; None: the user's own images without label maps.
    """

    __slots__ = ("image_file", "image_id", "label_file")

    def __init__(self, image_id: str, image: Place | str, label: Place | str | None) -> None:
        """Take the id and the paths."""
        self.image_id = image_id
        self.image_file = str(image)
        self.label_file = None if label is None else str(label)

    @property
    def image(self) -> Place:
        """The image."""
        return listed_place(self.image_file)

    @property
    def label(self) -> Place | None:
        """The label map, if there is one."""
        return None if self.label_file is None else listed_place(self.label_file)

    def __iter__(self) -> Iterator[Any]:
        """Id, image and label map."""
        return iter((self.image_id, self.image, self.label))

    def __eq__(self, other: object) -> bool:
        """Whether both have the same id and the same files; a tuple of the three is equal, too."""
        return isinstance(other, (Sample, tuple)) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        """As of a tuple of the three."""
        return hash(tuple(self))

    def __repr__(self) -> str:
        """As it is made."""
        return f"Sample({self.image_id!r}, {self.image_file!r}, {self.label_file!r})"

    @property
    def files(self) -> tuple[Place, ...]:
        """The image, and the label map if there is one."""
        return (self.image,) if self.label is None else (self.image, self.label)
