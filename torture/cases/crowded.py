"""Several processes on one store at once: all end, nothing is lost, no row is computed twice."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from torture.place import Figures, Place, stored_twice
from torture.spread import spread
from torture.tally import Part, difference, must_be_same, refusal

STOPPED = 3.0  # seconds for which a process is stopped
METHODS = ("dense", "plain", "vanilla", "trunk", "superpixels")


@dataclass(frozen=True)
class Case:
    """Processes that start at once, and what is done to the first of them."""

    number: int
    methods: tuple[str, ...]
    done: str = ""  # killed or stopped


def cases(long: bool) -> list[Case]:
    """Same and different commands, two and four."""
    found: list[tuple[tuple[str, ...], str]] = [
        (("dense", "dense"), ""),
        (("superpixels",) * 4, ""),
        (("dense", "plain", "vanilla", "dense"), ""),
        (("dense", "dense"), "killed"),
        (("dense", "dense", "plain", "vanilla"), "killed"),
        (("dense", "dense"), "stopped"),
        (("trunk", "trunk", "dense", "superpixels"), "stopped"),
    ]
    chosen = found * 6 if long else [found[0], found[2], found[3], found[5]]
    return [Case(number, *each) for number, each in enumerate(chosen)]


def crowded(place: Place, long: bool) -> Part:
    """Start together; disturb one; finish; compare."""
    part = Part("crowded")
    wanted = {method: place.reference(method)[1] for method in METHODS}

    def work(case: Case, folder: Path) -> Part:
        return _one(place, case, folder, wanted)

    for done in spread(cases(long), work, place.folder / "crowded", 1):
        part.take(done)
    return part


def _one(place: Place, case: Case, folder: Path, wanted: dict[str, Figures]) -> Part:
    part, store = Part("crowded"), folder / "artifacts"
    rng = place.random("crowded", case)
    what = f"case {case.number}, {' + '.join(case.methods)}, {case.done or 'undisturbed'}"
    children = [place.start(method, store) for method in case.methods]
    if case.done:
        time.sleep(rng.uniform(0.2, 1.2))
        children[0].send(signal.SIGKILL if case.done == "killed" else signal.SIGSTOP)
    if case.done == "stopped":
        time.sleep(STOPPED)
        children[0].send(signal.SIGCONT)
    for number, child in enumerate(children):
        ended = child.wait()
        if number == 0 and case.done == "killed" and ended.code == 137:
            part.add("killed", what)
        elif ended.code == 0 and not ended.unclear:
            part.add("ended", what)
        else:
            verdict = refusal(ended)
            told = f"{ended.err}\nexit code {ended.code}"
            part.add("LOST" if verdict == "refused in a line" else verdict, what, told)
    twice = stored_twice(store)
    part.more["rows computed twice"] += twice
    if twice:
        part.add("TWICE", what, f"{twice} rows")
    for method in dict.fromkeys(case.methods):
        done = place.finish(method, store)
        part.add(must_be_same(done, wanted[method]), what, difference(done, wanted[method]))
    return part
