"""What the page shows: an image of a collection, words, and the settings that make labels."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from sclip_core.config import Protocol, Settings
from sclip_core.config.methods import is_attention, method_protocol, template_set
from sclip_core.config.protocol import Checked

MOST_STEPS = 50  # of PAMR
LONGEST_WORDS = 40_000  # characters of a list of words
LARGEST_SHOWN = 2_000_000  # pixels of a map that is sent
MOST_SIDE, LEAST_SIDE = 2048, 16  # pixels of an image or window that the model sees

# What a view says of the protocol; all else is the collection's or the method's.
VIEWED = (
    *("pamr_steps", "pamr_dilations", "logit_scale", "prob_thd", "area_thd"),
    *("short_side", "slide_crop", "slide_stride"),
)
Name = Annotated[str, StringConstraints(max_length=1000)]


def _numbers(text: str) -> str:
    if not re.fullmatch(r" *\d{1,5}( *, *\d{1,5}){0,7} *", text, re.ASCII):
        raise ValueError("expected at most eight whole numbers, such as 8,16")
    return text


List = Annotated[str, AfterValidator(_numbers)]
Side = Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)]


class Point(NamedTuple):
    """A pixel of the original image."""

    row: int
    column: int


class View(Checked):
    """An image, words and settings; None: as the collection has it."""

    model_config = ConfigDict(strict=True)

    collection: Name
    """Its id."""
    image: Name = ""
    """Its id in the collection."""
    words: Annotated[str, StringConstraints(max_length=LONGEST_WORDS)] | None = None
    """Classes by ``;``, words of a class by ``,``."""
    method: Annotated[str, StringConstraints(max_length=200)] | None = None
    """An attention or a method."""
    pamr_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)] | None = None
    """Iterations of PAMR."""
    pamr_dilations: List | None = None
    """Distances of its neighbours in pixels, at most eight: ``8,16``."""
    logit_scale: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Factor on the cosines before the softmax."""
    prob_thd: Annotated[float, Field(ge=0, le=1)] | None = None
    """Pixels whose best class is less probable become class 0."""
    area_thd: Annotated[float, Field(ge=0, le=1)] | None = None
    """Classes of at most this share of the foreground are dropped."""
    short_side: Side | None = None
    """Pixels of the shorter side after the resize."""
    slide_crop: Annotated[int, Field(ge=0, le=MOST_SIDE)] | None = None
    """Side of a window in pixels; 0: the whole image."""
    slide_stride: Annotated[int, Field(ge=4, le=MOST_SIDE)] | None = None
    """Pixels from one window to the next."""


def method_of(settings: Settings) -> str:
    """The name of what labels the pixels: a method, or an attention."""
    return settings.method or settings.attention


def settings_of(view: View, base: Settings) -> Settings:
    """The settings of a view: those of the collection, with what the view changes.

    Another method than the collection's brings its parameters, its refiner and its steps after the
    decision, as in ``sclip run --method``; windows, PAMR and thresholds stay the view's.

    Raises:
        UserError: an unknown method, or values that do not go together.
    """
    given = {name: value for name in VIEWED if (value := getattr(view, name)) is not None}
    if view.method is None or view.method == method_of(base):
        return base.replace(**given) if given else base
    before = set(method_protocol(base.method, base.vocabulary)) - {*VIEWED, "method"}
    usual: dict[str, Any] = {
        name: Protocol.model_fields[name].get_default() for name in {*before, "parameters"}
    }
    if base.templates == (template_set(base.method) or "openai"):
        usual["templates"] = None  # a run's row names them, also where they are the usual ones
    if is_attention(view.method):
        return base.replace(**{**usual, "method": None, "attention": view.method, **given})
    own = method_protocol(view.method, base.vocabulary)
    brought = {name: value for name, value in own.items() if name not in VIEWED}
    windows: dict[str, Any] = {"method": view.method, "attention": "csa"}
    return base.replace(**{**usual, **windows, **brought, **given})


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the maps that are sent of an image: its own, or smaller."""
    height, width = size
    if height * width <= LARGEST_SHOWN:
        return height, width
    factor = (LARGEST_SHOWN / (height * width)) ** 0.5
    return max(1, int(height * factor)), max(1, int(width * factor))
