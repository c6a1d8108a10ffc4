"""``sclip tune``: settings chosen on one part of the images, reported on the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.console import console, report_left_out
from flows.cli.options import Config, Direct, Pamr, Preset, Slide, UseSam, note, settings_of
from flows.cli.sweep import SweepReporter
from flows.parameters import flag, with_settings
from sclip_core.config import CHEAP, SEVERAL, Settings, UserError, printable, usual_value
from sclip_core.config.trials import at_end, drawn_points, ranges_of

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished

Part = Annotated[
    float, Parameter(help="Share of the images to choose on; an image's part follows from it.")
]
Seed = Annotated[
    int, Parameter(help="Of the parts, and of the trials.", validator=Number(gte=0, lt=1 << 63))
]
Trials = Annotated[
    int | None,
    Parameter(
        help="So many random points of the grid, or of ranges such as --prob-thd 0.1..0.6. [all]",
        validator=Number(gte=1),
    ),
]


@with_settings(flag)
def tune(
    *,
    part: Part = 0.5,
    seed: Seed = 0,
    trials: Trials = None,
    json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    direct: Direct = False,
    **given: Any,
) -> int:
    """Choose settings on one part of the images, and report them on the other.

    All points are scored on all images, which pass through the encoder once; then the winner of
    the tuning part is compared on the rest with the protocol's own settings, and with what
    choosing on the test would have reported.
    """
    from flows.cli.running import run_settings
    from flows.cli.tuning import as_json, points_table, verdict
    from sclip_core.results.tuning import tuned, write_tuning

    if not 0 < part < 1:
        raise UserError(f"--part {part:g}: expected a share of the images between 0 and 1")
    ranges = ranges_of(given)
    if ranges and trials is None:
        raise UserError(f"a range of {' and '.join(ranges)}: say how many points by --trials N")
    several = settings_of(preset, config, pamr, slide, use_sam, at_end(given, ranges, 0))
    if ranges:  # its higher ends are checked too
        settings_of(preset, config, pamr, slide, use_sam, at_end(given, ranges, 1))
    if trials is not None:
        several = drawn_points(several, ranges, trials, seed)
    _check(several)
    every, default = with_default(several)
    finished = run_settings(every, direct, SweepReporter(len(every)))
    ids = [each.run_id or "" for each in finished]
    unique = list(dict.fromkeys(ids))
    found = tuned(
        unique,
        part,
        seed,
        default=ids[default],
        artifacts=several[0].artifacts,
        candidates=list(dict.fromkeys(ids[: len(several)])),
    )
    path = write_tuning(found, several[0].artifacts)
    settings = [every[ids.index(run_id)] for run_id in unique]
    if json_:
        print(json.dumps(as_json(found, settings, str(path)), indent=2))
    else:
        out = console()
        out.print(points_table(found, settings))
        for line in [*verdict(found, settings), printable(f"points: {path}")]:
            out.print(line, soft_wrap=True)
    return _left_out(finished)


def _left_out(finished: Sequence[Finished]) -> int:
    return report_left_out(
        (line for each in finished for line in each.failures.values()),
        (line for each in finished for line in each.faults),
    )


def _check(several: Sequence[Settings]) -> None:
    """Find what would spoil the tuning, and say what it costs, before anything is computed.

    Raises:
        UserError: one point alone, or no ground truth.
    """
    if not several[0].scored:
        raise UserError(
            "tuning compares scores, and there is no ground truth: pass --labels DIR, or make the "
            "label maps by `sclip run`"
        )
    if len(several) < 2:
        raise UserError(
            "one point: nothing to choose; give several values, such as --pamr-steps 0,5,10"
        )
    encoded = [n for n in varied_of(several) if n not in CHEAP]
    if encoded:
        note(
            f"{' and '.join(encoded)} {'vary' if len(encoded) > 1 else 'varies'}: features are "
            f"made for each value; {', '.join(CHEAP)} need no encoder"
        )


def varied_of(several: Sequence[Settings]) -> list[str]:
    """The settings that have several values."""
    return [n for n in SEVERAL if len({getattr(s, n) for s in several}) > 1]


def with_default(several: Sequence[Settings]) -> tuple[list[Settings], int]:
    """The points, and the protocol's own behind them if it is none of them; and its place.

    What the encoder reads is as in the first point: a default that needs features of its own is
    not computed unasked.
    """
    from sclip_core.results.points import usual_point

    names = varied_of(several)
    first = several[0]
    fixed = {n: getattr(first, n) for n in names if n not in CHEAP}
    like = [p for p, s in enumerate(several) if all(getattr(s, n) == fixed[n] for n in fixed)]
    cheap = [n for n in names if n in CHEAP]
    found = usual_point([several[place] for place in like], cheap)
    if found is not None:
        return list(several), like[found]
    usual = {name: usual_value(first, name) for name in cheap}
    # as the field has it: 0 of the table is 0.0 here, and of another key
    typed = {n: type(getattr(first, n))(value) for n, value in usual.items()}
    own = first.model_copy(update=typed)
    return [*several, own], len(several)
