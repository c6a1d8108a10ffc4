"""Runs that are killed at random moments, and what the next run makes of what they left."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture.forked import Child, Ended, spawned
from tests.torture.place import Place, count_twice
from tests.torture.tally import Part

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
METHODS = ("dense", "trunk", "superpixels", "sam")
BEGUN = 0.2  # seconds after which a forked run has certainly called the command
BEGINS = {"spawned": 5.0, "prefect": 14.0}  # about the seconds until such a run computes; others: 0


@dataclass(frozen=True)
class Case:
    """Runs on one store, killed one after the other."""

    number: int
    method: str
    kills: int
    how: str  # forked, spawned, prefect, or pair: one of two is killed


def cases(long: bool) -> list[Case]:
    """Every method alone and as one of two, killed once and several times."""
    found = []
    for method in METHODS:
        once = [(method, 1, "forked"), (method, 3, "forked")]
        found += ([*once, *once, (method, 1, "pair")] * 6) if long else once
    found += [("dense", 2, "spawned")] * (3 if long else 1)
    found += [("dense", 2, "prefect")] * 2 if long else [("dense", 1, "pair")]
    return [Case(number, *each) for number, each in enumerate(found)]


def killed(place: Place, long: bool) -> Part:
    """Kill runs, then finish and compare."""
    return place.part("killed", cases(long), partial(_kill, place), methods=METHODS)


def _kill(place: Place, part: Part, case: Case, folder: Path) -> None:
    store = folder / "artifacts"
    rng = place.random("killed", case)
    what = f"case {case.number}, {case.method}, {case.how}"
    for _ in range(case.kills):
        number = rng.choice(SIGNALS)
        begins = BEGINS.get(case.how, 0.0)
        moment = rng.uniform(begins / 2, begins + place.reference(case.method).seconds)
        children = _start(place, case, store)
        time.sleep(moment)
        children[0].send(number)
        first, *others = (child.wait() for child in children)
        early = case.how not in BEGINS and moment < BEGUN
        when = f"{what}, {signal.Signals(number).name} at {moment:.2f} s"
        part.add(_verdict(first, number, early), when, first.output)
        for other in others:
            part.add("beside it" if other.code == 0 else "LOST", what, other.err)
    place.judge(part, case.method, store, what)
    count_twice(part, store, what, allowed=case.how == "pair")  # which crowded.py checks


def _start(place: Place, case: Case, store: Path) -> list[Child]:
    """Start the run that is to be killed, and the one beside it."""
    if case.how in BEGINS:
        words = place.words(case.method, store, direct=case.how == "spawned")
        home = {"PREFECT_HOME": str(store.parent / "prefect")}
        return [spawned(words, store.parent / "output", env=home)]
    return [place.start(case.method, store) for _ in range(2 if case.how == "pair" else 1)]


def _verdict(ended: Ended, number: int, early: bool) -> str:
    """Whether a run ended as it should after a signal; ``early``: it may not have begun."""
    by_signal = ended.code == 128 + number
    if early and by_signal and not ended.err:
        return "before it began"
    if ended.code == 0 or (by_signal and "\nrun " in ended.out):
        return "came too late"
    if number == signal.SIGKILL:
        return "killed" if by_signal else "UNCLEAR"
    if ended.unclear:
        return "TRACEBACK"
    return "stopped in a line" if by_signal and len(ended.said) == 1 else "UNCLEAR"
