"""Progress on the console, and what everything that is printed there has in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from sclip_core.config import printable
from sclip_core.progress import LineReporter, Outcome

# Names of classes, files and models are shown as they are, whatever "[bold]" or ":cat:" is in them.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
STANDS_OUT, FAINT = "bold yellow", "dim"  # styles
TITLE: dict[str, Any] = {"title_justify": "left", "title_style": "bold"}  # of a table
USUAL_WIDTH = 150  # where there is no terminal


class ConsoleReporter(LineReporter):
    """A progress bar a stage where standard error is a terminal, else lines."""

    def __init__(self) -> None:
        """Look whether standard error is a terminal."""
        self.console = Console(stderr=True, **PLAIN)
        super().__init__(self._print)
        self._bar: Progress | None = None
        self._task: Any = None

    def _print(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _begin(self) -> None:
        self.close()
        if not self.console.is_terminal:
            super()._begin()
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
        self._task = self._bar.add_task(
            self._stage, total=self._total, completed=self._done, rate=""
        )

    def _progress(self, rate: str, per_second: float) -> None:
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=rate)
        else:
            super()._progress(rate, per_second)

    def finish(self, outcome: Outcome) -> None:
        """Close the bar; one line a stage."""
        self.close()
        super().finish(outcome)

    def _remark(self, what: str, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(Text.assemble((f"{what:<15} ", "yellow"), printable(line)))
        else:
            super()._remark(what, line)

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


def report_left_out(lines: Iterable[str], faults: Iterable[str] = ()) -> int:
    """Name what could not be used, each once; returns the exit code: 1 if there is anything.

    Args:
        lines: images that were left out, and why.
        faults: of the ground truth of images that were scored; each says what became of it.
    """
    said = [f"left out: {line}" for line in sorted(set(lines))] + sorted(set(faults))
    for line in said:
        print(f"sclip: {line}", file=sys.stderr)
    return 1 if said else 0


def right(name: str) -> Column:
    """A column of numbers."""
    return Column(name, justify="right")


def whole(name: str) -> Column:
    """A column in which nothing is wrapped."""
    return Column(name, no_wrap=True)


def full_width(table: Table) -> int:
    """The width of a console, in characters, in which no cell is cut."""
    return Console(width=1000, **PLAIN).measure(table).maximum


def least_width(table: Table) -> int:
    """The width of a console, in characters, in which no word and no ``min_width`` is cut."""
    return Console(width=1000, **PLAIN).measure(table).minimum


def score(value: float | None) -> str:
    """Percent with two digits; ``-``: undefined."""
    return "-" if value is None or value != value else f"{value:.2f}"
