"""What ``sclip tune`` prints: its points, the winner on the held-out part, and the optimism."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from flows.cli.console import STANDS_OUT, TITLE, right, score, whole
from flows.cli.tune import varied_of
from sclip_core.config import Settings, printable, unread, value_text
from sclip_core.config.counts import number_of
from sclip_core.evaluation import Interval
from sclip_core.results.tuning import Tuned

Values = dict[str, str]


def values_of(settings: Settings, names: Sequence[str]) -> Values:
    """Settings as flags take them; without those that change no label."""
    idle = unread(settings)
    return {
        name: value_text(getattr(settings, name))
        for name in names
        if name not in idle and getattr(settings, name) is not None
    }


def described(found: Tuned, settings: Sequence[Settings], run: int) -> str:
    """``pamr_steps 10, prob_thd 0.2``."""
    own = values_of(settings[run], varied_of(settings))
    return ", ".join(f"{name} {value}" for name, value in own.items()) or found.pairs.run_ids[run]


def flags_of(settings: Sequence[Settings], run: int) -> str:
    """What makes `sclip run` score a point: ``--pamr-steps 10 --prob-thd 0.2``."""
    own = values_of(settings[run], varied_of(settings))
    return " ".join(
        f"--{name.replace('_', '-')} " + (f"'{value}'" if " " in value else value)
        for name, value in own.items()
    )


def points_table(found: Tuned, settings: Sequence[Settings]) -> Table:
    """A line a point: mIoU on the tuning part, on the other part, on all images."""
    names = varied_of(settings)
    tuning, rest = found.counts
    images = number_of(len(found.pairs), "image")
    title = f"{printable(settings[0].dataset)}, {images}, {len(found.candidates)} points"
    heads = (f"tuning part ({tuning})", f"other part ({rest})", "all")
    table = Table(*names, *map(right, heads), whole("run"), title=title, **TITLE)
    for run, run_id in enumerate(found.pairs.run_ids):
        own = values_of(settings[run], names)
        numbers = [score(float(v[run])) for v in (found.tuning, found.rest, found.whole)]
        for place, chosen in enumerate((found.winner, found.best_of_rest, found.naive)):
            numbers[place] = f"* {numbers[place]}" if run == chosen else numbers[place]
        table.add_row(
            *(own.get(name, "-") for name in names),
            *numbers,
            run_id,
            style=STANDS_OUT if run == found.winner else "",
        )
    return table


def verdict(found: Tuned, settings: Sequence[Settings]) -> Iterator[str]:
    """The parts, the winner where it was not chosen, and what choosing on the test would say."""
    tuning, rest = found.counts
    yield (
        f"tuning part: {tuning} of {number_of(len(found.pairs), 'image')}, other part: {rest} "
        f"(--part {found.part:g} --seed {found.seed}; which part follows from an image's bytes "
        "alone)"
    )
    winner = found.winner
    yield (
        f"winner on the tuning part: {described(found, settings, winner)}: mIoU there "
        f"{found.tuning[winner]:.2f}"
    )
    if len(found.tied) > 1:
        yield (
            f"the same mIoU there: {len(found.tied) - 1} more; fewer steps of PAMR, then the first "
            "wins"
        )
    yield f"held out: mIoU {_value(found.held_out(winner))} on the other part"
    yield from _beside_default(found, settings)
    naive, best = found.naive, found.best_of_rest
    all_images = number_of(len(found.pairs), "image")
    yield (
        f"naive: best of {len(found.candidates)} points on all {all_images}: mIoU "
        f"{_value(found.on_all(naive))}: {described(found, settings, naive)}"
    )
    yield from _optimism(found, settings, best)
    yield from found.warnings()
    yield f"to run it: sclip run ... {flags_of(settings, winner)}"


def _beside_default(found: Tuned, settings: Sequence[Settings]) -> Iterator[str]:
    """The protocol's own settings on the other part."""
    default = found.default
    if default is None:
        return
    if default == found.winner:
        yield "the winner is the protocol's own"
        return
    gain = found.gain(found.winner, default)
    beside = "" if default in found.candidates else ", none of the points"
    line = (
        f"the protocol's own{beside}: {described(found, settings, default)}: mIoU "
        f"{found.rest[default]:.2f} on the other part; the winner has {_value(gain, '+.2f')}"
    )
    yield line if gain.excludes_zero else f"{line}: these images cannot tell the two apart"


def _optimism(found: Tuned, settings: Sequence[Settings], best: int) -> Iterator[str]:
    """How much better tuning on the test looks than it is."""
    if best == found.winner:
        yield "optimism: 0.00: the winner is the best of the other part too"
    else:
        yield (
            f"optimism: {found.optimism:+.2f}: the best of the other part, had it been chosen "
            f"there: mIoU {found.rest[best]:.2f}: {described(found, settings, best)}"
        )
    default = found.default
    if default is not None and found.naive != default:
        naive = found.whole[found.naive] - found.whole[default]
        held_out = found.rest[found.winner] - found.rest[default]
        yield (
            f"gain over the protocol's own: {naive:+.2f} as tuned on the test, {held_out:+.2f} "
            "held out"
        )


def _value(each: Interval, form: str = ".2f") -> str:
    """A value with its interval, if there is one."""
    if math.isnan(each.low):
        return f"{each.value:{form}}"
    return f"{each.value:{form}} [{each.low:{form}}, {each.high:{form}}]"


def as_json(found: Tuned, settings: Sequence[Settings], path: str) -> dict[str, Any]:
    """All that the lines say, as numbers."""
    names = varied_of(settings)
    default, winner = found.default, found.winner
    tuning, rest = found.counts
    marks = [
        {
            "run_id": run_id,
            "settings": values_of(settings[run], names),
            "tuning": _number(found.tuning[run]),
            "rest": _number(found.rest[run]),
            "all": _number(found.whole[run]),
            "candidate": run in found.candidates,
        }
        for run, run_id in enumerate(found.pairs.run_ids)
    ]
    ids = found.pairs.run_ids
    return {
        "dataset": settings[0].dataset,
        "part": found.part,
        "seed": found.seed,
        "images": {"tuning": tuning, "rest": rest},
        "points": marks,
        "winner": {"run_id": ids[winner], **_numbers(found.held_out(winner))},
        "tied": [ids[run] for run in found.tied],
        "default": None if default is None else ids[default],
        "gain": None if default is None else _numbers(found.gain(winner, default)),
        "naive": {"run_id": ids[found.naive], **_numbers(found.on_all(found.naive))},
        "best_of_rest": ids[found.best_of_rest],
        "optimism": _number(found.optimism),
        "warnings": list(found.warnings()),
        "flags": flags_of(settings, winner),
        "file": path,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _numbers(each: Interval) -> dict[str, float | None]:
    return {name: _number(value) for name, value in each._asdict().items()}
