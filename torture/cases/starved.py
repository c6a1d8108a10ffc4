"""Disks that are full or read-only, too few file handles, too little memory, a clock set back."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture import mounts
from torture.forked import HUNG, Child
from torture.place import Figures, Place, stored_twice
from torture.spread import cores, in_child, spread
from torture.tally import Part, difference, must_be_same, refusal

METHOD = "dense"
DAY = 86_400  # seconds
PLENTY = 2**28  # bytes of a disk on which there is room again
MEMORY = (2**20, 2**29)  # bytes beside what the imports take
LARGEST = 2**20 + 2**17  # bytes of a file
HANDLES = (4, 24)


@dataclass(frozen=True)
class Case:
    """One way to starve a run."""

    number: int
    how: str


def starved(place: Place, long: bool) -> Part:
    """Starve; give back what was lacking; go on; compare."""
    part = Part("starved")
    wanted = place.reference(METHOD)[1]
    # Without memory a library may hang or fail in its own imports (OpenBLAS, Numba), which no
    # program can mend: that is looked at where somebody reads the figures, not in every test run.
    names = list(HOW) * 15 if long else [name for name in HOW if name != "memory"] * 2

    def work(case: Case, folder: Path) -> Part:
        """Starve in a process of its own; skip what the system does not allow."""

        def starve() -> Part:
            return HOW[case.how](place, case, folder, wanted)

        try:
            return in_child(starve, folder / "child")
        except RuntimeError as error:
            if "Refused" not in str(error):
                raise
            skipped = Part("starved", notes=[f"{case.how}: skipped, nothing may be mounted here"])
            return skipped

    cases = [Case(number, name) for number, name in enumerate(names)]
    for done in spread(cases, work, place.folder / "starved", cores()):
        part.take(done)
    part.notes = sorted(set(part.notes))
    return part


def _full(place: Place, case: Case, folder: Path, wanted: Figures) -> Part:
    store = folder / "artifacts"
    mounts.alone()
    mounts.small_disk(store, place.random("full", case).randrange(2**16, 3 * 2**22))
    child = place.start(METHOD, store)
    return _go_on(place, case, child, store, wanted, lambda: mounts.larger(store, PLENTY))


def _read_only(place: Place, case: Case, folder: Path, wanted: Figures) -> Part:
    """Half of a run is there; the rest cannot be written; what is there can be read."""
    store = folder / "artifacts"
    mounts.alone()
    started, (*_, seconds) = place.start(METHOD, store), place.reference(METHOD)
    time.sleep(place.random("read-only", case).uniform(0, seconds))
    started.send(signal.SIGKILL)
    started.wait()
    store.mkdir(exist_ok=True)
    mounts.read_only(store)
    child = place.start(METHOD, store)
    return _go_on(place, case, child, store, wanted, lambda: mounts.writable(store))


def _limited(name: int, least: int, most: int) -> Callable[..., Part]:
    def starve(place: Place, case: Case, folder: Path, wanted: Figures) -> Part:
        """Run under the limit; the address space is limited beside what it holds already."""
        limit = place.random("limited", case).randint(least, most)
        if name == resource.RLIMIT_AS:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit += pages * os.sysconf("SC_PAGE_SIZE")

        def prepare() -> None:
            resource.setrlimit(name, (limit, resource.getrlimit(name)[1]))

        child = place.start(METHOD, folder / "artifacts", prepare)
        return _go_on(place, case, child, folder / "artifacts", wanted)

    return starve


def _clock(place: Place, case: Case, folder: Path, wanted: Figures) -> Part:
    """A store whose files are of tomorrow, a process whose clock is of yesterday, one beside it."""
    store = folder / "artifacts"
    started, (*_, seconds) = place.start(METHOD, store), place.reference(METHOD)
    time.sleep(place.random("clock", case).uniform(0.3, 1) * seconds)
    started.send(signal.SIGKILL)
    started.wait()
    tomorrow = time.time() + DAY
    for path in store.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))

    def set_back() -> None:
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() - DAY
        time.time_ns = lambda: now_ns() - DAY * 10**9

    beside = place.start(METHOD, store)
    part = _go_on(place, case, place.start(METHOD, store, set_back), store, wanted)
    ended = beside.wait()
    part.add("beside it" if ended.code == 0 else refusal(ended), f"{case}", ended.err)
    part.more["rows computed twice, clock"] += stored_twice(store)
    return part


def _go_on(
    place: Place,
    case: Case,
    child: Child,
    store: Path,
    wanted: Figures,
    give_back: Callable[[], object] = lambda: None,
) -> Part:
    """Judge the end of a starved run, then run again where nothing is lacking."""
    part, what = Part("starved"), f"case {case.number}, {case.how}"
    ended = child.wait()
    told = f"{ended.err}\nexit code {ended.code}"
    died = case.how == "memory" and 128 < ended.code < HUNG and not ended.unclear
    verdict = "there was enough" if ended.code == 0 else "died" if died else refusal(ended)
    part.add(verdict, what, told, case.how)
    give_back()
    done = place.finish(METHOD, store)
    part.add(must_be_same(done, wanted), f"{what}, then", difference(done, wanted), case.how)
    return part


HOW: dict[str, Callable[[Place, Case, Path, Figures], Part]] = {
    "full": _full,
    "file size": _limited(resource.RLIMIT_FSIZE, 64, LARGEST),
    "read-only": _read_only,
    "handles": _limited(resource.RLIMIT_NOFILE, *HANDLES),
    "memory": _limited(resource.RLIMIT_AS, *MEMORY),
    "clock": _clock,
}
