"""Disks that are full or read-only, too few file handles, too little memory, a clock set back."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture import mounts
from tests.torture.forked import HUNG, Child
from tests.torture.place import Place, stored_twice
from tests.torture.spread import in_child
from tests.torture.tally import Part, refusal

METHOD = "dense"
DAY = 86_400  # seconds
PLENTY = 2**28  # bytes of a disk that has space again
MEMORY = (2**20, 2**29)  # bytes beside what the imports take
FILE_SIZE = (64, 2**20 + 2**17)  # bytes
HANDLES = (4, 24)


@dataclass(frozen=True)
class Case:
    """One way to starve a run."""

    number: int
    how: str


def starved(place: Place, long: bool) -> Part:
    """Starve a run, give back what was lacking, then go on and compare."""
    # Without memory a library may hang or fail in its own imports (OpenBLAS, Numba), which no
    # program can mend: only the long form does that, whose figures a person reads.
    names = list(HOW) * 15 if long else [name for name in HOW if name != "memory"] * 2
    cases = [Case(number, name) for number, name in enumerate(names)]
    return place.part("starved", cases, partial(_starve, place), methods=[METHOD])


def _starve(place: Place, part: Part, case: Case, folder: Path) -> None:
    """Starve in a process of its own; a note says what the system does not allow."""

    def starve() -> Part:
        HOW[case.how](place, found := Part("starved"), case, folder / "artifacts")
        return found

    try:
        part.take(in_child(starve, folder / "child"))
    except RuntimeError as error:
        if "Refused" not in str(error):
            raise
        part.notes.append(f"{case.how}: skipped, nothing may be mounted here")


def _full(place: Place, part: Part, case: Case, store: Path) -> None:
    mounts.alone()
    mounts.small_disk(store, place.random("full", case).randrange(2**16, 3 * 2**22))
    child = place.start(METHOD, store)
    _go_on(place, part, case, child, store, lambda: mounts.resize(store, PLENTY))


def _read_only(place: Place, part: Part, case: Case, store: Path) -> None:
    """Part of a run is there and can be read; the rest cannot be written."""
    mounts.alone()
    _run_a_part(place, store, place.random("read-only", case).uniform(0, 1))
    store.mkdir(exist_ok=True)
    mounts.read_only(store)
    child = place.start(METHOD, store)
    _go_on(place, part, case, child, store, lambda: mounts.writable(store))


def _clock(place: Place, part: Part, case: Case, store: Path) -> None:
    """The store's files are of tomorrow; of two runs at once, one has the clock of yesterday."""
    _run_a_part(place, store, place.random("clock", case).uniform(0.3, 1))
    tomorrow = time.time() + DAY
    for path in store.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))

    def set_back() -> None:
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() - DAY
        time.time_ns = lambda: now_ns() - DAY * 10**9

    beside = place.start(METHOD, store)
    _go_on(place, part, case, place.start(METHOD, store, set_back), store)
    ended = beside.wait()
    part.add("beside it" if ended.code == 0 else refusal(ended), f"{case}", ended.err)
    part.more["rows computed twice, clock"] += stored_twice(store)


def _run_a_part(place: Place, store: Path, share: float) -> None:
    """Kill a run after a share of the seconds that it takes."""
    child = place.start(METHOD, store)
    time.sleep(share * place.reference(METHOD).seconds)
    child.send(signal.SIGKILL)
    child.wait()


def _limited(
    name: int, least: int, most: int, place: Place, part: Part, case: Case, store: Path
) -> None:
    """Run under a limit of the system between ``least`` and ``most``."""
    limit = place.random("limited", case).randint(least, most)
    if name == resource.RLIMIT_AS:  # beside the address space that is taken already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit += pages * os.sysconf("SC_PAGE_SIZE")

    def prepare() -> None:
        resource.setrlimit(name, (limit, resource.getrlimit(name)[1]))

    _go_on(place, part, case, place.start(METHOD, store, prepare), store)


def _go_on(
    place: Place,
    part: Part,
    case: Case,
    child: Child,
    store: Path,
    give_back: Callable[[], object] = lambda: None,
) -> None:
    """Judge the end of a starved run, then run again with nothing lacking."""
    what, ended = f"case {case.number}, {case.how}", child.wait()
    died = case.how == "memory" and 128 < ended.code < HUNG and not ended.unclear
    verdict = "there was enough" if ended.code == 0 else "died" if died else refusal(ended)
    part.add(verdict, what, ended.output, case.how)
    give_back()
    place.judge(part, METHOD, store, f"{what}, then", case.how)


HOW: dict[str, Callable[[Place, Part, Case, Path], None]] = {
    "full": _full,
    "file size": partial(_limited, resource.RLIMIT_FSIZE, *FILE_SIZE),
    "read-only": _read_only,
    "handles": partial(_limited, resource.RLIMIT_NOFILE, *HANDLES),
    "memory": partial(_limited, resource.RLIMIT_AS, *MEMORY),
    "clock": _clock,
}
