"""The same settings again, with other batches and other threads: the same bits, or it is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.forked import spawned
from tests.torture.place import Place
from tests.torture.tally import Part, difference, must_be_same, refusal

METHODS = ("dense", "superpixels")


@dataclass(frozen=True)
class Case:
    """A run that computes the same in another way."""

    method: str
    others: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


def numbers(place: Place, long: bool) -> Part:
    """Run in other ways and compare."""
    cases = [Case("dense", {"batch_size": 7})]
    if long:
        ways = [{}, *({"batch_size": size} for size in (1, 2, 7)), {"workers": 0}, {"shards": 3}]
        cases = [Case(method, way) for method in METHODS for way in ways]
        cases += [Case(method, {}, threads) for method in METHODS for threads in (1, 2)]
    return place.part("numbers", cases, partial(_run, place), methods=METHODS)


def _run(place: Place, part: Part, case: Case, folder: Path) -> None:
    store = folder / "artifacts"
    what = f"{case.method}, {case.others or 'as it is'}, {case.threads} threads"
    if case.threads > 1 or not case.others:
        env = {"OMP_NUM_THREADS": str(case.threads), "OPENBLAS_NUM_THREADS": str(case.threads)}
        ended = spawned(place.words(case.method, store), folder / "output", env=env).wait()
        if ended.code:
            part.add(refusal(ended), what, ended.err)
    done = place.finish(case.method, store, **case.others)
    wanted = place.reference(case.method).figures
    verdict, differs = must_be_same(done, wanted), difference(done, wanted)
    if verdict == "SILENT" and (case.others or case.threads > 1):
        verdict = "differs, which is said here"
        part.notes.append(f"{what}: {differs.splitlines()[0]}")
    part.add(verdict, what, differs)
