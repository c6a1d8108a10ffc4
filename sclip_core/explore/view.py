"""What the page shows: an image of a collection, words, and the settings that make labels."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class Point(NamedTuple):
    """A pixel of the original image."""

    row: int
    column: int


class View(BaseModel):
    """An image, words and settings; None: as the collection has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collection: str
    image: str = ""
    words: str | None = None
    method: str | None = None
    pamr_steps: int | None = None
    pamr_dilations: str | None = None
    logit_scale: float | None = None
    prob_thd: float | None = None
    area_thd: float | None = None
    short_side: int | None = None
    slide_crop: int | None = None
    slide_stride: int | None = None
