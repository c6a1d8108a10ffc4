"""What wrong label maps of a benchmark most likely are, judged by their values."""

from __future__ import annotations

from collections.abc import Collection

from sclip_core.config import tables

IGNORE_LABEL = 255  # value of pixels that are not evaluated, in the benchmarks' label maps


def likely_cause(values: Collection[int], layout: str | None) -> str | None:
    """Why label maps have values without a class; None if it is not a known mistake.

    Args:
        values: the values found in the label maps.
        layout: the layout of the benchmark; None for the user's own images.

    >>> likely_cause({0, 20, 181, 255}, "coco_stuff")
    'ids up to 181: these are raw stuff maps, run `sclip data prepare coco_stuff`'
    """
    highest = max((value for value in values if value != IGNORE_LABEL), default=0)
    for mistake in tables()["layouts"].get(layout or "", {}).get("mistakes", ()):
        lowest, last = mistake["highest"]
        if lowest <= highest <= last:
            return str(mistake["means"])
    return None


def suspicion(layout: str, values: Collection[int]) -> str | None:
    """What is odd about label maps whose values all have a meaning; None if nothing is.

    Args:
        layout: the layout of the benchmark.
        values: the values found in the label maps.
    """
    meaning = tables()["layouts"][layout].get("odd_255")
    return f"value 255 occurs: {meaning}" if meaning and IGNORE_LABEL in values else None
