"""Progress on the console, and what everything that is printed there has in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sclip_core.config import printable
from sclip_core.progress import Outcome

# Names of classes, files and models are shown as they are, whatever "[bold]" or ":cat:" is in them.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
STANDS_OUT, FAINT = "bold yellow", "dim"  # styles
USUAL_WIDTH = 150  # where there is no terminal
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
        self._started = self._last_line = 0.0
        self._warned: set[str] = set()

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Open a bar for a stage of which ``done`` rows are cached."""
        self.close()
        self._stage, self._unit = stage, unit
        self._total, self._done, self._new = total, done, 0
        self._started = self._last_line = time.monotonic()
        if not self.console.is_terminal:
            self._log(f"{stage}: {total - done} of {total} {unit} to do")
            return
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

    def advance(self, stage: str, rows: int) -> None:
        """More rows are stored."""
        self._done += rows
        self._new += rows
        per_second = self._new / max(time.monotonic() - self._started, 1e-9)
        rate = f"{per_second:.3g} {self._unit}/s"
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            left = duration((self._total - self._done) / max(per_second, 1e-9))
            self._log(f"{self._stage}: {self._done} of {self._total}, {rate}, {left} left")

    def finish(self, outcome: Outcome) -> None:
        """Close the bar; one line a stage."""
        self.close()
        if outcome.state == "cached":
            line = f"cached    {outcome.cached} {outcome.unit}"
        else:
            line = f"computed  {outcome.computed} {outcome.unit} in {duration(outcome.seconds)}"
            line += f", {outcome.cached} cached" if outcome.cached else ""
        line = f"{outcome.stage:<15} {line}"
        if self.console.is_terminal:
            self.console.print(line)
        else:
            self._log(line)

    def warn(self, line: str) -> None:
        """Name an image that is left out; once, though several runs may find it."""
        if line not in self._warned:
            self._warned.add(line)
            self._remark("left out", line)

    def note(self, line: str) -> None:
        """Say something that the user should know before the run."""
        self._remark("note", line)

    def _remark(self, what: str, line: str) -> None:
        line = printable(line)
        if self.console.is_terminal:
            self.console.print(Text.assemble((f"{what:<15} ", "yellow"), line))
        else:
            self._log(f"{what}: {line}")

    def close(self) -> None:
        """Remove the bar; what is printed next begins a line."""
        if self._bar:
            self._bar.stop()
            self._bar = None


def console(table: Table | None = None) -> Console:
    """Where tables are printed; wide enough for them where there is no terminal.

    Args:
        table: one in which no cell may be cut.
    """
    terminal = Console(**PLAIN)
    if terminal.is_terminal:
        return terminal
    return Console(width=max(USUAL_WIDTH, full_width(table) if table else 0), **PLAIN)


def report_left_out(lines: Iterable[str]) -> int:
    """Name what could not be used, each once; returns the exit code: 1 if there is anything."""
    left_out = sorted(set(lines))
    for line in left_out:
        print(f"sclip: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


def full_width(table: Table) -> int:
    """The width of a console, in characters, in which no cell is cut."""
    return Console(width=1000, **PLAIN).measure(table).maximum


def least_width(table: Table) -> int:
    """The width of a console, in characters, in which no word and no ``min_width`` is cut."""
    return Console(width=1000, **PLAIN).measure(table).minimum


def duration(seconds: float) -> str:
    """``0.4 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def score(value: float | None) -> str:
    """Percent with two digits; ``-``: undefined."""
    return "-" if value is None or value != value else f"{value:.2f}"
