"""What a run tells while it goes on, and what remains of it at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol


@dataclass(frozen=True)
class Outcome:
    """What a stage did."""

    stage: str
    key: str
    path: str
    cached: int  # rows that were there
    computed: int  # rows that were not
    seconds: float
    unit: str = "images"  # what a row is

    def plus(self, other: Outcome) -> Outcome:
        """This and another shard of the same stage, which ran at the same time."""
        return replace(
            self,
            cached=self.cached + other.cached,
            computed=self.computed + other.computed,
            seconds=max(self.seconds, other.seconds),
        )

    @property
    def state(self) -> Literal["cached", "computed"]:
        """``cached`` where nothing had to be computed."""
        return "computed" if self.computed else "cached"


@dataclass(frozen=True)
class Status:
    """What a stage would do."""

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


class Silent:
    """Tells nobody."""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Nothing."""

    def advance(self, stage: str, rows: int) -> None:
        """Nothing."""

    def finish(self, outcome: Outcome) -> None:
        """Nothing."""

    def warn(self, line: str) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""
