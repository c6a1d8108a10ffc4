"""Why label maps do not fit: the mistakes that are made with these sets, by their symptoms."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Cause(NamedTuple):
    """Maps of a layout whose highest value, 255 left out, lies in a range."""

    lowest: int
    highest: int
    line: str


# By layout of config/benchmarks.yaml; the first that fits is named.
BY_HIGHEST = {
    "coco_stuff": (
        Cause(
            171,
            171,
            "ids up to 171: shifted by one (0 = unlabelled) or raw stuff maps; "
            "run `sclip data prepare coco_stuff` on the raw ones",
        ),
        Cause(
            172,
            181,
            "ids up to 181: these are raw stuff maps, run `sclip data prepare coco_stuff`",
        ),
        Cause(182, 182, "ids up to 182: raw stuff maps, shifted by one; take those as published"),
    ),
    "coco_object": (
        Cause(
            81,
            181,
            "ids up to 181: these are raw stuff maps, run `sclip data prepare coco_object`",
        ),
    ),
    "cityscapes": (
        Cause(
            19,
            33,
            "ids up to 33: these are Cityscapes' labelIds, run `sclip data prepare cityscapes`",
        ),
    ),
    "voc2010": (
        Cause(
            60,
            459,
            "ids up to 459: these are raw maps of PASCAL Context, run "
            "`sclip data prepare context60`",
        ),
    ),
    "voc2012": (
        Cause(
            21,
            254,
            "values far above 20 in VOC's maps are its colours turned grey: "
            "take the palette PNGs of SegmentationClass as published",
        ),
    ),
    "ade20k": (
        Cause(
            151,
            1 << 16,
            "ids above 150: these are not the maps of the scene parsing challenge "
            "(ADEChallengeData2016), which have 0..150",
        ),
    ),
}

# Layouts whose maps hold no 255 as published, and what it means where they do.
NO_255 = {
    "ade20k": "the zero label was taken away already (0 -> 255): it would happen twice, "
    "and every class would be off by one; take the maps as published",
    "voc2010": "the zero label was taken away already (0 -> 255): take the maps with 0..59 "
    "(`sclip data prepare context60`)",
    "coco_object": "in these maps unlabelled pixels are left out; the published numbers count them "
    "as background: run `sclip data prepare coco_object`",
}
IGNORED = 255


def likely_cause(values: Collection[int], layout: str | None) -> str | None:
    """Why label maps have values without a class; None: not a mistake that is known.

    Args:
        values: that were found.
        layout: of ``config/benchmarks.yaml``; None: a set of one's own.

    >>> likely_cause({0, 20, 181, 255}, "coco_stuff")
    'ids up to 181: these are raw stuff maps, run `sclip data prepare coco_stuff`'
    """
    highest = max((value for value in values if value != IGNORED), default=0)
    for cause in BY_HIGHEST.get(layout or "", ()):
        if cause.lowest <= highest <= cause.highest:
            return cause.line
    return None


def suspicion(layout: str, values: Collection[int]) -> str | None:
    """What is odd about maps whose values all have a meaning; None: nothing that is known.

    Args:
        layout: of ``config/benchmarks.yaml``.
        values: that were found.
    """
    if IGNORED in values and layout in NO_255:
        return f"value 255 occurs: {NO_255[layout]}"
    return None
