"""Several processes on one store at once: all end, nothing is lost, no row is computed twice."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture.place import Place, count_twice
from tests.torture.tally import REFUSED, Part, refusal

STOPPED = 3.0  # seconds for which a process is stopped
METHODS = ("dense", "plain", "vanilla", "trunk", "superpixels")


@dataclass(frozen=True)
class Case:
    """Processes that start at once, and what is done to the first of them."""

    number: int
    methods: tuple[str, ...]
    done: str = "undisturbed"  # or killed or stopped


def cases(long: bool) -> list[Case]:
    """Two and four processes, with the same and with different commands."""
    found = [
        (("dense", "dense"), "undisturbed"),
        (("superpixels",) * 4, "undisturbed"),
        (("dense", "plain", "vanilla", "dense"), "undisturbed"),
        (("dense", "dense"), "killed"),
        (("dense", "dense", "plain", "vanilla"), "killed"),
        (("dense", "dense"), "stopped"),
        (("trunk", "trunk", "dense", "superpixels"), "stopped"),
    ]
    chosen = found * 6 if long else [found[0], found[2], found[3], found[5]]
    return [Case(number, *each) for number, each in enumerate(chosen)]


def crowded(place: Place, long: bool) -> Part:
    """Start together, disturb one, then finish and compare."""
    return place.part("crowded", cases(long), partial(_crowd, place), 1, METHODS)


def _crowd(place: Place, part: Part, case: Case, folder: Path) -> None:
    store = folder / "artifacts"
    rng = place.random("crowded", case)
    what = f"case {case.number}, {' + '.join(case.methods)}, {case.done}"
    children = [place.start(method, store) for method in case.methods]
    if case.done != "undisturbed":
        time.sleep(rng.uniform(0.2, 1.2))
        children[0].send(signal.SIGKILL if case.done == "killed" else signal.SIGSTOP)
    if case.done == "stopped":
        time.sleep(STOPPED)
        children[0].send(signal.SIGCONT)
    for number, child in enumerate(children):
        ended = child.wait()
        if number == 0 and case.done == "killed" and ended.code == 128 + signal.SIGKILL:
            verdict = "killed"
        elif ended.code == 0 and not ended.unclear:
            verdict = "ended"
        else:
            verdict = refusal(ended)
        part.add("LOST" if verdict == REFUSED else verdict, what, ended.output)
    count_twice(part, store, what)
    for method in dict.fromkeys(case.methods):
        place.judge(part, method, store, what)
