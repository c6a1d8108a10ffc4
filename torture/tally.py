"""What became of the cases of a part: what is as it should be, and what is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torture.forked import HUNG, Ended
from torture.place import DAMAGED, Figures, Finished

SAME = "same"  # the figures of the run that nothing disturbed
SAID = "same, said so"  # and a line about what was found
UNREAD = "damaged, not read"  # what that run had no need to read, and who reads it is told
REFUSED = "refused in a line"
BAD = {
    "SILENT": "other figures, exit code 0",
    "LOST": "images left out, or a store that cannot go on",
    "TRACEBACK": "a fault of the program showed",
    "UNCLEAR": "a failure without one clear line, or with a wrong exit code",
    "HUNG": "did not end",
    "TWICE": "rows were computed again",
}


@dataclass
class Part:
    """The counts of one part, and a line about each thing that went wrong."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)  # figures that are no verdicts
    kinds: dict[str, Counter[str]] = field(default_factory=dict)  # counts by kind
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, verdict: str, what: str, told: str = "", kind: str = "") -> None:
        """Count a case.

        Args:
            verdict: one of the above, or any other word for what is as it should be.
            what: was done, to find the case again.
            told: of the end of its output, where it went wrong.
            kind: of the cases that are counted together too.
        """
        self.counts[verdict] += 1
        if kind:
            self.kinds.setdefault(kind, Counter())[verdict] += 1
        if verdict in BAD:
            tail = " | ".join(told.strip().splitlines()[-3:])[-300:]
            self.wrong.append(f"{verdict}: {what}: {tail}")

    def take(self, other: Part) -> None:
        """Add what a worker found."""
        self.counts += other.counts
        self.more += other.more
        self.wrong += other.wrong
        for kind, counts in other.kinds.items():
            self.kinds.setdefault(kind, Counter()).update(counts)
        self.notes += other.notes

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **asdict(replace(self, counts=Counter(), more=Counter(), kinds={})),
            "counts": dict(self.counts),
            "more": dict(self.more),
            "kinds": {kind: dict(counts) for kind, counts in self.kinds.items()},
            "bad": self.bad,
        }

    @property
    def cases(self) -> int:
        """How many verdicts there were."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """How many things went wrong."""
        return sum(self.counts[verdict] for verdict in BAD)


def verdict_of(done: Finished, wanted: Figures) -> str:
    """What became of a run that should give the figures of the undisturbed one, or refuse.

    Args:
        done: the run.
        wanted: its figures, were it not disturbed.
    """
    if done.ended.code == 0 and not done.ended.unclear:
        differ = {
            done.figures.get(name) for name in wanted if done.figures.get(name) != wanted[name]
        }
        if differ:
            return UNREAD if differ == {DAMAGED} else "SILENT"
        return SAID if done.ended.said else SAME
    return refusal(done.ended)


def refusal(ended: Ended) -> str:
    """Whether a failure was told in one line."""
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
    """What a line about a case says: which figures differ, and what was printed."""
    names = [name for name in wanted if done.figures.get(name) != wanted[name]]
    shown = f"differ: {', '.join(names[:4])}" if done.figures and names else ""
    return f"{shown}\n{done.ended.err}\nexit code {done.ended.code}"
