"""What a run tells while it goes on, and what remains of it at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from sclip_core.config import printable

QUIET_SECONDS = 10.0  # between two lines about the progress of a stage


@dataclass(frozen=True)
class Outcome:
    """What a stage did in a run: rows, seconds, and where they are stored."""

    stage: str
    key: str  # of a stage with several tables those of each, with commas between them
    path: str
    cached: int  # rows that were there
    computed: int  # rows that were not
    seconds: float
    unit: str = "images"  # what a row is

    def plus(self, other: Outcome) -> Outcome:
        """This and another shard of the same stage; the seconds are those of all workers."""
        return replace(
            self,
            cached=self.cached + other.cached,
            computed=self.computed + other.computed,
            seconds=self.seconds + other.seconds,
        )

    def beside(self, other: Outcome) -> Outcome:
        """This and another table of the same stage, filled one after the other or together."""
        return replace(
            self,
            key=f"{self.key},{other.key}",
            cached=min(self.cached, other.cached),
            computed=max(self.computed, other.computed),
            seconds=self.seconds + other.seconds,
        )

    @property
    def state(self) -> Literal["cached", "computed"]:
        """``cached`` where nothing had to be computed."""
        return "computed" if self.computed else "cached"


@dataclass(frozen=True)
class Status:
    """What a stage would do in a run, and why; ``sclip plan`` shows it."""

    stage: str
    key: str
    state: Literal["complete", "partial", "missing"]
    reason: str
    path: str
    done: int
    total: int


class Reporter(Protocol):
    """Who is told about progress."""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """A stage begins that has something to compute."""

    def advance(self, stage: str, rows: int) -> None:
        """Some rows are stored."""

    def finish(self, outcome: Outcome) -> None:
        """A stage is done."""

    def warn(self, line: str) -> None:
        """An image is left out, and why."""

    def note(self, line: str) -> None:
        """Something that the user should know before the run."""


class LineReporter:
    """Progress as lines: one when a stage begins and ends, and now and then in between."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """Start with no stage.

        Args:
            log: takes each line.
        """
        self._log = log
        self._stage, self._unit = "", ""
        self._total = self._done = self._new = 0
        self._started = self._last_line = 0.0
        self._warned: set[str] = set()

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Say how many rows are to be computed; ``done`` of them are cached."""
        self._stage, self._unit = stage, unit
        self._total, self._done, self._new = total, done, 0
        self._started = self._last_line = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._log(f"{self._stage}: {self._total - self._done} of {self._total} {self._unit} to do")

    def advance(self, stage: str, rows: int) -> None:
        """Count stored rows; say how far it is where that was not said for a while."""
        self._done += rows
        self._new += rows
        per_second = self._new / max(time.monotonic() - self._started, 1e-9)
        self._progress(f"{per_second:.3g} {self._unit}/s", per_second)

    def _progress(self, rate: str, per_second: float) -> None:
        if time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            left = duration((self._total - self._done) / max(per_second, 1e-9))
            self._log(f"{self._stage}: {self._done} of {self._total}, {rate}, {left} left")

    def finish(self, outcome: Outcome) -> None:
        """Say what a stage did."""
        if outcome.state == "cached":
            line = f"cached    {outcome.cached} {outcome.unit}"
        else:
            line = f"computed  {outcome.computed} {outcome.unit} in {duration(outcome.seconds)}"
            line += f", {outcome.cached} cached" if outcome.cached else ""
        self._log(f"{outcome.stage:<15} {line}")

    def warn(self, line: str) -> None:
        """Name an image that is left out; once, though several runs may find it."""
        if line not in self._warned:
            self._warned.add(line)
            self._remark("left out", line)

    def note(self, line: str) -> None:
        """Say something that the user should know before the run."""
        self._remark("note", line)

    def _remark(self, what: str, line: str) -> None:
        self._log(f"{what}: {printable(line)}")


class WhereLong:
    """Progress of what is no stage, told only where it takes long."""

    def __init__(self, reporter: Reporter, name: str, unit: str, patience: float = 5.0) -> None:
        """Say nothing yet.

        Args:
            reporter: who is told.
            name: of the work.
            unit: what is counted.
            patience: seconds without a word.
        """
        self._reporter, self._name, self._unit = reporter, name, unit
        self._patience, self._told = patience, False
        self._total = self._done = self._before = 0
        self._started = time.monotonic()

    def begin(self, total: int, done: int) -> None:
        """There are so many, some of which are done."""
        self._total, self._before, self._done = total, done, done
        self._started, self._told = time.monotonic(), False

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._told:
            self._reporter.advance(self._name, count)
        elif time.monotonic() - self._started > self._patience:
            self._told = True
            self._reporter.start(self._name, self._total, self._done, self._unit)

    def finish(self) -> None:
        """All are done."""
        if self._told:
            seconds, new = time.monotonic() - self._started, self._done - self._before
            outcome = Outcome(self._name, "", "", self._before, new, seconds, self._unit)
            self._reporter.finish(outcome)


def duration(seconds: float) -> str:
    """``0.4 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


class Silent:
    """A reporter that tells nobody."""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Do nothing."""

    def advance(self, stage: str, rows: int) -> None:
        """Do nothing."""

    def finish(self, outcome: Outcome) -> None:
        """Do nothing."""

    def warn(self, line: str) -> None:
        """Do nothing."""

    def note(self, line: str) -> None:
        """Do nothing."""
