"""The settings of the data: what to segment and, where it is to be scored, its ground truth."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from sclip_core.config.paths import HomePath
from sclip_core.config.protocol import MOST, Checked, IntList, split_commas
from sclip_core.config.roles import DATA, Role

OWN_DATA = ("images", "labels", "classes")


class DataSettings(Checked):
    """A benchmark in its published layout, or a user's own images."""

    dataset: Annotated[str, Field(min_length=1), Role("data", recorded=False)] = "custom"
    """A benchmark, or any name for your own images."""
    data_root: Annotated[HomePath | None, DATA] = None
    """Folder of the benchmark, in its published layout."""
    images: Annotated[HomePath | None, DATA] = None
    """Folder of your own images."""
    labels: Annotated[HomePath | None, DATA] = None
    """Folder of their label maps: one channel, same file names; without it nothing is scored."""
    classes: Annotated[HomePath | None, DATA] = None
    """A file with a class a line, or words: 'cat, kitten; grass'; may replace a benchmark's."""
    ignore_label: Annotated[IntList, DATA] = (255,)
    """Label values that are not evaluated."""
    num_samples: Annotated[Annotated[PositiveInt, Field(le=MOST)] | None, DATA] = None
    """Only the first N images."""
    exif: Annotated[Literal["apply", "ignore"], DATA] = "apply"
    """Turn images as EXIF asks for; ignore: as they are stored, if label maps are drawn on that."""
    pixel_range: Annotated[Annotated[tuple[float, ...], BeforeValidator(split_commas)], DATA] = ()
    """Values that are black and white, of images of 16 bits or floats: 0,10000. [whole range]"""

    @field_validator("pixel_range")
    @classmethod
    def _two_in_order(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values and (len(values) != 2 or values[0] >= values[1]):
            raise ValueError("expected two values, the lower one first: 0,10000")
        return values

    @property
    def ignores_as_usual(self) -> bool:
        """Whether ``ignore_label`` was left at its default."""
        return "ignore_label" not in self.model_fields_set

    @property
    def scored(self) -> bool:
        """Whether there is ground truth: a user's own images may come without label maps."""
        return self.images is None or self.labels is not None
