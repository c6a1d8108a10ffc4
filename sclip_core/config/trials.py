"""Points of a search: random ones of a grid, or with values drawn from ranges."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sclip_core.config.errors import UserError, shown
from sclip_core.config.grid import point_of, unread
from sclip_core.config.settings import Settings

RANGED = ("pamr_steps", "logit_scale", "prob_thd", "area_thd")  # settings that are numbers
RANGE = re.compile(r"\s*([^.,\s][^,\s]*?|\.[0-9][^,\s]*?)\s*\.\.\s*([^,\s]+)\s*")
DIGITS = 3  # of a drawn number, so that it can be typed again

Ends = tuple[float, float]


def ranges_of(given: Mapping[str, Any]) -> dict[str, Ends]:
    """The settings that were given as ``LOW..HIGH``.

    Raises:
        UserError: a range that is none, or of a setting that takes none.
    """
    found = {}
    for name, value in given.items():
        match = RANGE.fullmatch(value) if isinstance(value, str) else None
        if not match or (name not in RANGED and not _are_numbers(match)):
            continue  # ../images is no range
        flag = f"--{name.replace('_', '-')} {value}"
        if name not in RANGED:
            raise UserError(f"{flag}: ranges are for {', '.join(RANGED)}")
        try:
            low, high = (float(text) for text in match.groups())
        except ValueError:
            low = high = math.nan
        whole = name != "pamr_steps" or (low.is_integer() and high.is_integer())
        if not low < high or not whole or math.isinf(high - low):
            numbers = "whole numbers" if name == "pamr_steps" else "numbers"
            raise UserError(f"{flag}: expected two {numbers} LOW..HIGH, such as 0..20 or 0.1..0.6")
        found[name] = (low, high)
    return found


def _are_numbers(match: re.Match[str]) -> bool:
    return all(re.fullmatch(r"[+-]?[0-9.]+", text) for text in match.groups())


def at_end(given: Mapping[str, Any], ranges: Mapping[str, Ends], end: int) -> dict[str, Any]:
    """What was given, with one end of each range in its place: 0 the lower, 1 the higher."""
    ends = {name: int(e[end]) if name == "pamr_steps" else e[end] for name, e in ranges.items()}
    return {**given, **{name: str(value) for name, value in ends.items()}}


def drawn_points(
    grid: Sequence[Settings], ranges: Mapping[str, Ends], trials: int, seed: int = 0
) -> list[Settings]:
    """Points of a search, each once.

    Args:
        grid: all combinations of what has several values.
        ranges: of the settings whose values are drawn, each evenly; checked by their ends.
        trials: how many; fewer where the grid has fewer, or draws are alike.
        seed: of the draws.

    Raises:
        UserError: no trial.
    """
    if trials < 1:
        raise UserError(f"--trials {shown(trials)}: expected 1 or more")
    rng = random.Random(seed)
    if not ranges:
        chosen = rng.sample(range(len(grid)), min(trials, len(grid)))
        return [grid[place] for place in sorted(chosen)]
    points: dict[tuple[Any, ...], Settings] = {}
    for _ in range(trials):
        base = rng.choice(grid)
        values = {name: _drawn(rng, name, *ends) for name, ends in ranges.items()}
        point = base.model_copy(update=values)
        idle = {name: getattr(base, name) for name in values if name in unread(point)}
        point = point.model_copy(update=idle)
        points.setdefault(point_of(point), point)
    return list(points.values())


def _drawn(rng: random.Random, name: str, low: float, high: float) -> int | float:
    """A number in a range, of a few digits."""
    if name == "pamr_steps":
        return rng.randint(int(low), int(high))
    value = float(f"{rng.uniform(low, high):.{DIGITS}g}")
    return min(max(value, low), high)
