"""The settings of the data: what to segment and, where it is to be scored, its ground truth."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from sclip_core.config.paths import HomePath
from sclip_core.config.places import AnyPlace
from sclip_core.config.protocol import MOST, Checked, IntList, split_commas
from sclip_core.config.roles import DATA, Role

# How label maps of a user's own are read and found, where not as usual.
OF_OWN_LABELS = ("palette", "label_values", "label_pattern", "missing_labels")
OWN_DATA = ("images", "labels", "classes", "parquet_columns", *OF_OWN_LABELS)
ClassValue = Annotated[int, Field(ge=0, le=65535)]
ClassValues = Annotated[tuple[ClassValue, ...], BeforeValidator(split_commas)]


class DataSettings(Checked):
    """A benchmark in its published layout, or a user's own images."""

    dataset: Annotated[str, Field(min_length=1), Role("data", recorded=False)] = "custom"
    """A benchmark, or any name for your own images; `sclip run` takes several: voc21,ade20k."""
    data_root: Annotated[HomePath | None, DATA] = None
    """Folder of the benchmark, in its published layout."""
    images: Annotated[AnyPlace | None, DATA] = None
    """Folder of your own images, or s3://bucket/prefix, or Parquet files of Hugging Face's."""
    labels: Annotated[AnyPlace | None, DATA] = None
    """Folder of their label maps, or s3://bucket/prefix; without it nothing is scored."""
    classes: Annotated[HomePath | None, DATA] = None
    """A file with a class a line, or words: 'cat, kitten; grass'; may replace a benchmark's."""
    ignore_label: Annotated[IntList, DATA] = (255,)
    """Label values that are not evaluated."""
    parquet_columns: Annotated[str | None, DATA] = None
    """Columns of images and label maps in Parquet files: image,annotation. [by their names]"""
    label_values: Annotated[ClassValues, DATA] = ()
    """The value of each class in the label maps, in their order: 0,255. [0,1,2, ...]"""
    palette: Annotated[HomePath | None, DATA] = None
    """Colours of RGB label maps: labelmap.txt, class_dict.csv, lines 'name:r,g,b'; or voc."""
    label_pattern: Annotated[str | None, DATA] = None
    """Names of the label maps, where they are not those of the images: {id}_mask.png"""
    missing_labels: Annotated[Literal["refuse", "skip", "empty"], DATA] = "refuse"
    """Images without a label map: refuse; skip them; empty: all background, or not evaluated."""
    num_samples: Annotated[Annotated[PositiveInt, Field(le=MOST)] | None, DATA] = None
    """Only the first N images."""
    images_list: Annotated[HomePath | None, DATA] = None
    """Only the images in this file: an id or a path a line."""
    split: Annotated[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None, DATA] = None
    """A benchmark's split: train, val, test, or the name of a list of its own. [val]"""
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

    @field_validator("label_pattern")
    @classmethod
    def _has_an_id(cls, pattern: str | None) -> str | None:
        if pattern is not None and "{id}" not in pattern:
            raise ValueError("expected {id} in it, for the name of the image: {id}_mask.png")
        return pattern

    @field_validator("label_values")
    @classmethod
    def _all_different(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value twice: expected another one for each class")
        return values

    @property
    def takes_all(self) -> bool:
        """Whether all images of the usual split are taken, as published figures are of them."""
        return self.num_samples is None and self.images_list is None and self.split is None

    @property
    def first_drawn(self) -> int | None:
        """Of how many images, the first of all, label maps are made; None: of all."""
        return self.num_samples if self.images_list is None else None

    @property
    def ignores_as_usual(self) -> bool:
        """Whether ``ignore_label`` was left at its default."""
        return "ignore_label" not in self.model_fields_set

    @property
    def scored(self) -> bool:
        """Whether there is ground truth: a user's own images may come without label maps."""
        return self.images is None or self.labels is not None
