"""The settings of the data: what to segment and, where it is to be scored, its ground truth."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from sclip_core.config.paths import HomePath
from sclip_core.config.protocol import MOST, Checked, IntList
from sclip_core.config.roles import DATA, Role

OWN_DATA = ("images", "labels", "classes", "parquet_columns")


class DataSettings(Checked):
    """A benchmark in its published layout, or a user's own images."""

    dataset: Annotated[str, Field(min_length=1), Role("data", recorded=False)] = "custom"
    """A benchmark, or any name for your own images."""
    data_root: Annotated[HomePath | None, DATA] = None
    """Folder of the benchmark, in its published layout."""
    images: Annotated[HomePath | None, DATA] = None
    """Folder of your own images, or Parquet files of Hugging Face's: a file or their folder."""
    labels: Annotated[HomePath | None, DATA] = None
    """Folder of their label maps: one channel, same file names; without it nothing is scored."""
    classes: Annotated[HomePath | None, DATA] = None
    """Vocabulary file: one class per line, synonyms split by ', '; may replace a benchmark's."""
    ignore_label: Annotated[IntList, DATA] = (255,)
    """Label values that are not evaluated."""
    parquet_columns: Annotated[str | None, DATA] = None
    """Columns of images and label maps in Parquet files: image,annotation. [by their names]"""
    num_samples: Annotated[Annotated[PositiveInt, Field(le=MOST)] | None, DATA] = None
    """Only the first N images."""

    @property
    def ignores_as_usual(self) -> bool:
        """Whether ``ignore_label`` was left at its default."""
        return "ignore_label" not in self.model_fields_set

    @property
    def scored(self) -> bool:
        """Whether there is ground truth: a user's own images may come without label maps."""
        return self.images is None or self.labels is not None
