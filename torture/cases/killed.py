"""Runs that are killed at random moments, and what the next run makes of what they left."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from torture.forked import Child, Ended, spawned
from torture.place import Figures, Place, stored_twice
from torture.spread import cores, spread
from torture.tally import Part, difference, must_be_same

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOPS = {signal.SIGTERM: 143, signal.SIGINT: 130}  # what the shell is told
METHODS = ("dense", "trunk", "superpixels", "sam")
BEGUN = 0.2  # seconds after which a fork has called the command
IMPORTS = 5.0  # seconds, about, until an interpreter of its own begins to compute
PREFECT = 14.0  # and until a flow does


@dataclass(frozen=True)
class Case:
    """Runs on one store, killed one after the other."""

    number: int
    method: str
    kills: int
    how: str  # forked, spawned, prefect, or pair: one of two is killed


def cases(long: bool) -> list[Case]:
    """What is killed; every method, alone and as one of two, once and again and again."""
    found = []
    for method in METHODS:
        once = [(method, 1, "forked"), (method, 3, "forked")]
        found += ([*once, *once, (method, 1, "pair")] * 6) if long else once
    found += [("dense", 2, "spawned")] * (3 if long else 1)
    found += [("dense", 2, "prefect")] * 2 if long else [("dense", 1, "pair")]
    return [Case(number, *each) for number, each in enumerate(found)]


def killed(place: Place, long: bool) -> Part:
    """Kill; finish; compare."""
    part = Part("killed")
    wanted = {method: place.reference(method)[1:] for method in METHODS}

    def work(case: Case, folder: Path) -> Part:
        return _one(place, case, folder, *wanted[case.method])

    for done in spread(cases(long), work, place.folder / "killed", cores()):
        part.take(done)
    return part


def _one(place: Place, case: Case, folder: Path, wanted: Figures, seconds: float) -> Part:
    part, store = Part("killed"), folder / "artifacts"
    rng = place.random("killed", case)
    what = f"case {case.number}, {case.method}, {case.how}"
    for _ in range(case.kills):
        number = rng.choice(SIGNALS)
        moment = _moment(rng, case, seconds)
        children = _start(place, case, store)
        time.sleep(moment)
        children[0].send(number)
        first, *others = (child.wait() for child in children)
        at = f"{what}, {signal.Signals(number).name} at {moment:.2f} s"
        _judge_end(part, first, number, at, case.how in ("forked", "pair") and moment < BEGUN)
        for other in others:
            part.add("beside it" if other.code == 0 else "LOST", what, other.err)
    done = place.finish(case.method, store)
    part.add(must_be_same(done, wanted), what, difference(done, wanted))
    twice = stored_twice(store)
    part.more["rows computed twice"] += twice
    if twice and case.how != "pair":  # of two processes, crowded.py tells
        part.add("TWICE", what, f"{twice} rows")
    return part


def _moment(rng: random.Random, case: Case, seconds: float) -> float:
    """When to send the signal, in seconds after the start; any stage may be at it then."""
    begins = {"spawned": IMPORTS, "prefect": PREFECT}.get(case.how, 0.0)
    return rng.uniform(begins / 2, begins + seconds)


def _start(place: Place, case: Case, store: Path) -> list[Child]:
    """Start what is to be killed, and what runs beside it."""
    if case.how in ("spawned", "prefect"):
        words = place.words(case.method, store, direct=case.how == "spawned")
        home = {"PREFECT_HOME": str(store.parent / "prefect")}
        return [spawned(words, store.parent / "output", env=home)]
    count = 2 if case.how == "pair" else 1
    return [place.start(case.method, store) for _ in range(count)]


def _judge_end(part: Part, ended: Ended, number: int, what: str, early: bool) -> None:
    """A signal that can be caught ends a run cleanly, if it came before the end.

    Args:
        part: is told.
        ended: the run.
        number: of the signal.
        what: was done.
        early: the fork may not have called the command yet, which then cannot say anything.
    """
    if early and ended.code == 128 + number and not ended.err:
        part.add("before it began", what)
    elif ended.code == 0 or (ended.code == 128 + number and "\nrun " in ended.out):
        part.add("came too late", what)
    elif number == signal.SIGKILL:
        part.add("killed" if ended.code == 137 else "UNCLEAR", what, ended.err)
    elif ended.unclear:
        part.add("TRACEBACK", what, ended.err)
    elif ended.code == STOPS[number] and len(ended.said) == 1:
        part.add("stopped in a line", what)
    else:
        part.add("UNCLEAR", what, f"{ended.err}\nexit code {ended.code}")
