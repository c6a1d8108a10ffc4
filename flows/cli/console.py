"""What a person sees of a run: progress, then a summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.cli.values import plain, values_of
from sclip_core.config import SEVERAL, printable, unread, value_text
from sclip_core.progress import Outcome, Status

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished

# Names of classes, files and models are shown as they are, whatever "[bold]" or ":cat:" is in them.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
LONG = (  # stages whose seconds are shown side by side
    ("trunk", "dense_features", "sam_embeddings", "proposals", "crop_features"),
    ("refine", "hybrid"),
)
UNSCORED = ", no ground truth: nothing scored"
MOST_ROWS = 200  # of an answer that are printed
EXPLAINED = ["explain_key", "explain_value"]  # columns of a plan that DuckDB drew, in lines
QUIET_SECONDS = 10.0  # between progress lines where there is no terminal


class ConsoleReporter:
    """A progress bar a stage on a terminal, a line now and then elsewhere."""

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        """Choose where lines go.

        Args:
            log: takes the lines where there is no terminal; None: standard error.
        """
        self.console = Console(stderr=True, **PLAIN)
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage, self._unit = "", ""
        self._total = self._done = self._new = 0
        self._started = self._said = 0.0
        self._warned: set[str] = set()

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Open a bar; ``done`` rows were there."""
        self.close()
        self._stage, self._unit = stage, unit
        self._total, self._done, self._new = total, done, 0
        self._started = self._said = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<15}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(stage, total=total, completed=done, rate="")
        else:
            self._log(f"{stage}: {total - done} of {total} {unit} to do")

    def advance(self, stage: str, rows: int) -> None:
        """Some rows are stored."""
        self._done += rows
        self._new += rows
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=self._rate())
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            self._log(
                f"{self._stage}: {self._done} of {self._total}, {self._rate()}, {self._left()} left"
            )

    def finish(self, outcome: Outcome) -> None:
        """Close the bar; one line a stage."""
        self.close()
        if outcome.state == "cached":
            line = f"cached    {outcome.cached} {outcome.unit}"
        else:
            line = f"computed  {outcome.computed} {outcome.unit} in {duration(outcome.seconds)}"
            line += f", {outcome.cached} were there" if outcome.cached else ""
        line = f"{outcome.stage:<15} {line}"
        if self.console.is_terminal:
            self.console.print(line)
        else:
            self._log(line)

    def warn(self, line: str) -> None:
        """Something that the user should know now; once, though several runs find it."""
        line = printable(line)
        if line in self._warned:
            return
        self._warned.add(line)
        if self.console.is_terminal:
            self.console.print(Text.assemble((f"{'left out':<15} ", "yellow"), line))
        else:
            self._log(f"left out: {line}")

    def note(self, line: str) -> None:
        """Something that the user should know before the run."""
        line = printable(line)
        if self.console.is_terminal:
            self.console.print(Text.assemble((f"{'note':<15} ", "yellow"), line))
        else:
            self._log(f"note: {line}")

    def close(self) -> None:
        """Take the bar away; what is printed next begins a line."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _rate(self) -> str:
        per_second = self._new / max(time.monotonic() - self._started, 1e-9)
        return f"{per_second:.3g} {self._unit}/s"

    def _left(self) -> str:
        per_second = self._new / max(time.monotonic() - self._started, 1e-9)
        return duration((self._total - self._done) / max(per_second, 1e-9))


def summary_table(finished: Finished) -> Table:
    """Scores of a run, if there is ground truth, and what each stage did."""
    table = Table(title=headline(finished), title_justify="left", title_style="bold")
    for column, justify in (("stage", "left"), ("state", "left"), ("cached", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("computed", justify="right")
    table.add_column("time", justify="right")
    table.add_column("key")
    for outcome in finished.outcomes.values():
        table.add_row(
            outcome.stage,
            outcome.state,
            str(outcome.cached),
            str(outcome.computed),
            duration(outcome.seconds),
            outcome.key,
        )
    return table


def comparison_table(finished: list[Finished]) -> Table:
    """Runs side by side: what differs, scores, and the seconds of the stages that take long."""
    scored = finished[0].settings.scored
    rows = [_told(each) for each in finished]
    count = f"{rows[0]['num_images']} images{'' if scored else UNSCORED}"
    title = f"{printable(rows[0]['dataset'])}, {count}"
    table = Table(title=title, title_justify="left", title_style="bold")
    differing = [name for name in SEVERAL if len({row[name] for row in rows} - {None}) > 1]
    for name in differing or ["attention"]:
        table.add_column(name)
    for name in (*(("mIoU", "mAcc", "aAcc") if scored else ()), "encode", "refine"):
        table.add_column(name, justify="right")
    table.add_column("run" if scored else "folder", no_wrap=True)
    for row in rows:
        settings = (_shown(row[name]) for name in differing or ["attention"])
        scores = _scores(row) if scored else ()
        table.add_row(*settings, *scores, *_seconds(row), row["run_id" if scored else "folder"])
    return table


def _told(finished: Finished) -> dict[str, Any]:
    """The row of a run; None where the value of a setting changes nothing."""
    row = finished.row or _unscored_row(finished)
    return {**row, **dict.fromkeys(unread(finished.settings) - {"hybrid_rule"})}


def _unscored_row(finished: Finished) -> dict[str, Any]:
    """What is told of a run that has no row in the results; None: its mode does not read it."""
    settings = finished.settings
    dense = settings.mode != "baseline"
    row = {
        **settings.model_dump(include={"dataset", "proposals", "sam_model", *SEVERAL}),
        "hybrid_rule": settings.rule,
        "attention": settings.attention if dense else None,
        "pamr_steps": settings.pamr_steps if dense else None,
        "pamr_dilations": value_text(settings.pamr_dilations) if dense else None,
        "num_images": finished.num_images,
        "folder": finished.pictures.name if finished.pictures else None,
    }
    for name, outcome in finished.outcomes.items():
        row |= {f"state_{name}": outcome.state, f"seconds_{name}": outcome.seconds}
    return row


def saved_lines(finished: list[Finished]) -> list[str]:
    """Where the pictures are, and the label maps of images without ground truth."""
    from sclip_core.pipeline.saving import LABEL_MAPS

    settings = finished[0].settings
    if settings.save_vis is None:
        return []
    lines = [f"pictures: {settings.save_vis}"]
    if not settings.scored:
        folder = settings.save_vis if len(finished) == 1 else settings.save_vis / "FOLDER"
        lines = [f"pictures: {folder}", f"label maps: {folder / LABEL_MAPS}"]
    return [printable(line) for line in lines]


def headline(finished: Finished) -> str:
    """Scores in one line, or that there are none."""
    result = finished.row or _unscored_row(finished)
    mode = "" if result["mode"] == "dense" else f", {described_mode(result)}"
    what = f"{printable(result['dataset'])}, {result['num_images']} images{mode}"
    if not finished.row:
        return what + UNSCORED
    numbers = "   ".join(
        f"{name} {'undefined' if result[key] != result[key] else format(result[key], '.2f')}"
        for name, key in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc"))
    )
    return f"{what}: {numbers}"


def console(table: Table | None = None) -> Console:
    """Where tables are printed; wide enough for them where there is no terminal.

    Args:
        table: one of which no cell may be cut.
    """
    terminal = Console(**PLAIN)
    if terminal.is_terminal:
        return terminal
    return Console(width=max(150, full_width(table) if table else 0), **PLAIN)


def full_width(table: Table) -> int:
    """Columns of a console in which no cell is cut."""
    return Console(width=1000, **PLAIN).measure(table).maximum


def least_width(table: Table) -> int:
    """Columns of a console in which no word, and no column of a least width, is cut."""
    return Console(width=1000, **PLAIN).measure(table).minimum


def plan_table(statuses: list[Status]) -> Table:
    """Every stage with its state and why."""
    table = Table()
    table.add_column("stage")
    table.add_column("state")
    table.add_column("done", justify="right")
    table.add_column("total", justify="right")
    table.add_column("key", no_wrap=True)
    table.add_column("why")
    for s in statuses:
        table.add_row(s.stage, s.state, str(s.done), str(s.total), s.key, printable(s.reason))
    return table


def described_mode(row: dict[str, Any]) -> str:
    """``dense``, ``hybrid vote, sam vit_b``, ``baseline, slic``."""
    if row["mode"] == "dense":
        return "dense"
    source = f"sam {row['sam_model']}" if row["proposals"] == "sam" else row["proposals"]
    rule = f" {row['hybrid_rule']}" if row["mode"] == "hybrid" else ""
    return f"{row['mode']}{rule}, {source}"


def rows_table(rows: pa.Table) -> Table:
    """Any table of results."""
    table = Table()
    for field in rows.schema:
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        is_number = any(is_one(field.type) for is_one in kinds)
        table.add_column(printable(field.name), justify="right" if is_number else "left")
    # column by column: two of them may have one name
    shown = [values_of(column) for column in rows.slice(0, MOST_ROWS).columns]
    cell = str if rows.column_names == EXPLAINED else _shown
    for row in zip(*shown, strict=True):
        table.add_row(*(cell(value) for value in row))
    more = rows.num_rows - MOST_ROWS
    if more > 0:
        table.caption = f"and {more:,} row{'s' if more > 1 else ''} more: add a limit"
    return table


def _scores(row: dict[str, Any]) -> Iterator[str]:
    for name in ("miou", "macc", "aacc"):
        yield "-" if row[name] != row[name] else f"{row[name]:.2f}"


def _seconds(row: dict[str, Any]) -> Iterator[str]:
    for stages in LONG:
        computed = [stage for stage in stages if row.get(f"state_{stage}") == "computed"]
        seconds = sum(row[f"seconds_{stage}"] for stage in computed)
        yield duration(seconds) if computed else "cached"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes | tuple | list | dict):
        value = plain(value)
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    return printable(str(value))


def duration(seconds: float) -> str:
    """``0.4 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
