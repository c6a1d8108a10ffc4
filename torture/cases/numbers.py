"""The same settings again, with other batches and other threads: the same bits, or it is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.forked import spawned
from torture.place import Place
from torture.spread import cores, spread
from torture.tally import Part, difference, must_be_same, refusal

METHODS = ("dense", "superpixels")


@dataclass(frozen=True)
class Case:
    """A run that computes the same in another way."""

    method: str
    others: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


def numbers(place: Place, long: bool) -> Part:
    """Run in other ways; compare."""
    part = Part("numbers")
    cases = [Case("dense", {"batch_size": 7})]
    if long:
        ways = [{}, *({"batch_size": size} for size in (1, 2, 7)), {"workers": 0}, {"shards": 3}]
        cases = [Case(method, way) for method in METHODS for way in ways]
        cases += [Case(method, {}, threads) for method in METHODS for threads in (1, 2)]
    wanted = {method: place.reference(method)[1] for method in METHODS}

    def work(case: Case, folder: Path) -> Part:
        """Run one case and compare it with the reference."""
        found, store = Part("numbers"), folder / "artifacts"
        what = f"{case.method}, {case.others or 'as it is'}, {case.threads} threads"
        if case.threads > 1 or not case.others:
            env = {"OMP_NUM_THREADS": str(case.threads), "OPENBLAS_NUM_THREADS": str(case.threads)}
            ended = spawned(place.words(case.method, store), folder / "output", env=env).wait()
            if ended.code:
                found.add(refusal(ended), what, ended.err)
        done = place.finish(case.method, store, **case.others)
        verdict = must_be_same(done, wanted[case.method])
        told = difference(done, wanted[case.method])
        if verdict == "SILENT" and (case.others or case.threads > 1):
            verdict = "differs, which is said here"
            found.notes.append(f"{what}: {told.splitlines()[0]}")
        found.add(verdict, what, told)
        return found

    for done in spread(cases, work, place.folder / "numbers", cores()):
        part.take(done)
    return part
