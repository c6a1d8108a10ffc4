"""Power cuts: the writes of a run are recorded and replayed up to a step; then the run goes on."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from torture.forked import sclip
from torture.place import Figures, Place, sample
from torture.power import MODELS, Model, Recorder, Step, replayed, write_tree
from torture.spread import cores, spread
from torture.tally import Part, difference, must_be_same

METHODS = ("dense", "superpixels")
LONG, SHORT = 100, 8  # cuts of each model and method


@dataclass(frozen=True)
class Case:
    """A cut after some steps."""

    method: str
    model: Model
    steps: int
    torn: bool  # the last write is there in half


def cut(place: Place, long: bool) -> Part:
    """Record; cut; go on; compare."""
    part = Part("power cut")
    methods = METHODS if long else METHODS[:1]
    recorded = {method: record(place, method) for method in methods}
    wanted = {method: place.reference(method)[1] for method in methods}
    cases = []
    for method, steps in recorded.items():
        part.more[f"steps of {method}"] = len(steps)
        for model in MODELS:
            rng = place.random("cut", method, model)
            found = sample(rng, range(1, len(steps) + 1), LONG if long else SHORT)
            cases += [Case(method, model, number, rng.random() < 0.3) for number in found]

    def work(case: Case, folder: Path) -> Part:
        return _one(place, case, folder, recorded[case.method], wanted[case.method])

    for done in spread(cases, work, place.folder / "cut", cores()):
        part.take(done)
    return part


def record(place: Place, method: str) -> list[Step]:
    """The steps of a run into an empty folder."""
    store = place.folder / "recorded" / method
    store.mkdir(parents=True)
    target = store.with_suffix(".pickle")

    def work() -> None:
        """Run once under the recorder, which keeps every write of the store."""
        import threading

        recorder = Recorder(store)
        recorder.start()

        def keep() -> None:
            recorder.look()
            target.write_bytes(pickle.dumps(recorder.steps))

        threading._register_atexit(keep)  # type: ignore[attr-defined]

    ended = sclip(place.words(method, store), place.folder / "output", work).wait()
    if ended.code:
        raise RuntimeError(f"the run that is recorded ended with {ended.code}: {ended.err}")
    steps: list[Step] = pickle.loads(target.read_bytes())
    _check(steps, store)
    return steps


def _check(steps: list[Step], store: Path) -> None:
    """See that the steps lead to what is there."""
    again = store.with_name(store.name + ".again")
    write_tree(replayed(steps), again, "ordered")
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (store, again)
    )
    if one != two:
        names = sorted(
            str(name) for name in one.keys() | two.keys() if one.get(name) != two.get(name)
        )
        raise RuntimeError(f"the record of the writes is not what was written: {names[:5]}")


def _one(place: Place, case: Case, folder: Path, steps: list[Step], wanted: Figures) -> Part:
    part, store = Part("power cut"), folder / "artifacts"
    done = steps[: case.steps]
    if case.torn and done[-1][0] == "write":
        what, path, other, content = done[-1]
        done = [*done[:-1], (what, path, other, content[: len(content) // 2])]
    write_tree(replayed(done), store, case.model)
    finished = place.finish(case.method, store)
    last = " ".join(str(word) for word in done[-1][:3])
    what = f"{case.method}, {case.model}, step {case.steps} of {len(steps)}: {last}"
    part.add(must_be_same(finished, wanted), what, difference(finished, wanted), case.model)
    return part
