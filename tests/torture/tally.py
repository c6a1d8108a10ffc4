"""What became of the cases of a part: what is as it should be, and what is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.torture.forked import HUNG, Ended

SAME = "same"  # the figures of the undisturbed run
SAID = "same, said so"  # and a line about what was found
UNREAD = "damaged, not read"  # which the run did not need; whoever reads it gets an error
REFUSED = "refused in a line"
BAD = {
    "SILENT": "other figures, exit code 0",
    "LOST": "images left out, or a store that cannot go on",
    "TRACEBACK": "a fault of the program showed",
    "UNCLEAR": "a failure without one clear line, or with a wrong exit code",
    "HUNG": "did not end",
    "TWICE": "rows were computed again",
}
DAMAGED = "damaged"  # in place of the digest of what cannot be read
Figures = dict[str, str]  # what was measured: its name, and a digest of it


@dataclass(frozen=True)
class Finished:
    """How a run ended, and what could be read of the store after it."""

    ended: Ended
    figures: Figures = field(default_factory=dict)


@dataclass
class Part:
    """The counts of one part, and a line about each thing that went wrong."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)  # numbers that are no verdicts
    kinds: dict[str, Counter[str]] = field(default_factory=dict)  # counts by kind
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, verdict: str, what: str, output: str = "", kind: str = "") -> None:
        """Count a case.

        Args:
            verdict: one of the above, or any other word for what is as it should be.
            what: was done, so that the case can be found again.
            output: its end is shown if the verdict is a bad one.
            kind: the cases of a kind are also counted together.
        """
        self.counts[verdict] += 1
        if kind:
            self.kinds.setdefault(kind, Counter())[verdict] += 1
        if verdict in BAD:
            tail = " | ".join(output.strip().splitlines()[-3:])[-300:]
            self.wrong.append(f"{verdict}: {what}: {tail}")

    def take(self, other: Part) -> None:
        """Add what a worker found."""
        self.counts += other.counts
        self.more += other.more
        self.wrong += other.wrong
        self.notes += [note for note in other.notes if note not in self.notes]
        for kind, counts in other.kinds.items():
            self.kinds.setdefault(kind, Counter()).update(counts)

    def as_json(self) -> dict[str, Any]:
        """All of it, and the number of bad verdicts."""
        return {**vars(self), "bad": self.bad}

    @property
    def cases(self) -> int:
        """How many verdicts there were."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """How many of them are bad."""
        return sum(self.counts[verdict] for verdict in BAD)


def verdict_of(done: Finished, wanted: Figures) -> str:
    """The verdict on a run that should give the figures of the undisturbed one, or refuse."""
    if done.ended.code or done.ended.unclear:
        return refusal(done.ended)
    differ = {done.figures.get(name) for name in wanted if done.figures.get(name) != wanted[name]}
    if differ:
        return UNREAD if differ == {DAMAGED} else "SILENT"
    return SAID if done.ended.said else SAME


def refusal(ended: Ended) -> str:
    """The verdict on a failure, which should be told in one line."""
    if ended.code == HUNG:
        return "HUNG"
    if ended.unclear:
        return "TRACEBACK"
    if ended.code == 1 and any("left out" in line for line in ended.said):
        return "LOST"
    said = [line for line in ended.said if "left out: " not in line]  # files of other runs
    return REFUSED if ended.code == 2 and len(said) == 1 else "UNCLEAR"


def must_be_same(done: Finished, wanted: Figures) -> str:
    """As ``verdict_of``, where a refusal too means that the store cannot go on."""
    verdict = verdict_of(done, wanted)
    return "LOST" if verdict in (REFUSED, UNREAD) else verdict


def difference(done: Finished, wanted: Figures) -> str:
    """Which figures differ, and what the run printed."""
    names = [name for name in wanted if done.figures.get(name) != wanted[name]]
    shown = f"differ: {', '.join(names[:4])}" if done.figures and names else ""
    return f"{shown}\n{done.ended.output}"
