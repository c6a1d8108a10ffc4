"""``sclip sweep``: a grid of settings over finished features, a line a point, and which is best."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.cli.console import ConsoleReporter, console, report_left_out
from flows.cli.options import Config, Direct, Pamr, Preset, Slide, UseSam, settings_of
from flows.cli.targets import check_target
from flows.parameters import sweep_flag, with_settings
from sclip_core.config import CHEAP, SEVERAL, STAGE_SPECS, Settings, UserError, printable
from sclip_core.config.optional import optional
from sclip_core.progress import Outcome

if TYPE_CHECKING:
    from sclip_core.results.points import Points

ENDINGS = (".png", ".svg")


class SweepReporter(ConsoleReporter):
    """Bars; lines for what the points share, and one when a point is done."""

    def __init__(self, points: int) -> None:
        """Take the number of points."""
        super().__init__()
        self._points, self._scored = points, 0
        self._shared: set[str] = set()  # keys of artifacts that have had their line

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Open a bar; no line for what takes a moment and comes with every point."""
        if stage != "metrics" or self.console.is_terminal:
            super().start(stage, total, done, unit)

    def advance(self, stage: str, rows: int) -> None:
        """More rows are stored."""
        if stage != "metrics" or self.console.is_terminal:
            super().advance(stage, rows)

    def finish(self, outcome: Outcome) -> None:
        """Close the bar."""
        self.close()
        if outcome.stage == "results":
            self._scored += 1
            if not self.console.is_terminal:
                self._log(f"point {self._scored} of {self._points} is scored")
        elif STAGE_SPECS[outcome.stage].cost == "encode" and outcome.key not in self._shared:
            self._shared.add(outcome.key)
            super().finish(outcome)


@with_settings(sweep_flag)
def sweep(
    *,
    plot: Annotated[
        Path | None,
        Parameter(help="Picture to write, PNG or SVG. [in ARTIFACTS/sweeps]"),
    ] = None,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    direct: Direct = False,
    **given: Any,
) -> int:
    """Score a grid of settings of the cheap stages: a line a point, a plot, the best of them.

    No image passes through CLIP or SAM twice: each point is refined, filled and scored alone.
    """
    from flows.cli.points import points_table, verdict
    from flows.cli.running import run_settings
    from flows.cli.tables import computed_seconds, saved_lines, stage_columns
    from sclip_core.results.points import Points

    refuse_several(given)
    several = settings_of(preset, config, pamr, slide, use_sam, given)
    check(several, plot)
    finished = run_settings(several, direct, SweepReporter(len(several)))
    points = Points.of(
        settings=[each.settings for each in finished],
        run_ids=[each.run_id or "" for each in finished],
        seconds=[computed_seconds(stage_columns(each), "refine") for each in finished],
    )
    out = console()
    out.print(points_table(points))
    for line in [*verdict(points), *saved_lines(finished), drawn(points, plot)]:
        out.print(line, soft_wrap=True)
    return report_left_out(
        (line for each in finished for line in each.failures.values()),
        (line for each in finished for line in each.faults),
    )


def refuse_several(given: Mapping[str, Any]) -> None:
    """See that only settings of the cheap stages are typed with several values.

    Raises:
        UserError: another one is.
    """
    for name, value in given.items():
        field = Settings.model_fields[name]
        is_list = typing.get_origin(field.annotation) is tuple
        if name in CHEAP or is_list or not isinstance(value, str) or "," not in value:
            continue
        if name not in ("model", "pretrained") or not Path(value).exists():
            raise not_swept([name])


def not_swept(names: Sequence[str]) -> UserError:
    """The error for settings that would make an encoder run again."""
    others = " (`sclip run` takes several)" if set(names) <= set(SEVERAL) else ""
    return UserError(
        f"several values of {' and '.join(names)}: a sweep encodes no image again, and varies "
        f"{', '.join(CHEAP)}: give one{others}"
    )


def check(several: Sequence[Settings], plot: Path | None) -> None:
    """Find what would spoil the sweep, before anything is computed.

    Raises:
        UserError: settings of the encoders with several values, in a file maybe; no ground truth;
            a plot that cannot be written.
    """
    names = [n for n in SEVERAL if n not in CHEAP and len({getattr(s, n) for s in several}) > 1]
    if names:
        raise not_swept(names)
    settings = several[0]
    if not settings.scored:
        raise UserError(
            "a sweep compares scores, and there is no ground truth: pass --labels DIR, "
            "or make the label maps by `sclip run`"
        )
    if plot is not None:
        own = (settings.data_root, settings.images, settings.labels, settings.classes)
        check_target(plot, ENDINGS, [path for path in own if isinstance(path, Path)], "the plot")


def drawn(points: Points, plot: Path | None) -> str:
    """Draw the plot; returns a line that says where it is, or why there is none."""
    from sclip_core.report.sweep_plot import draw
    from sclip_core.store.files import writable_folder

    if not points.varied:
        return "no plot: there is one point"
    try:
        optional("matplotlib.figure", "plot")
    except UserError as error:
        return f"no plot: {error}"
    if plot is None:
        plot = writable_folder(points.settings[0].local_artifacts / "sweeps") / f"{points.name}.png"
    draw(points, plot)
    return printable(f"plot: {plot}")
