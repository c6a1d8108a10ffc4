"""Power cuts: the writes of a run are recorded and replayed up to a step; then the run goes on."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture.forked import sclip
from tests.torture.place import Place
from tests.torture.power import MODELS, Model, Recorder, Step, replayed, write_tree
from tests.torture.tally import Part

METHODS = ("dense", "superpixels")
LONG, SHORT = 100, 8  # cuts of each model and method


@dataclass(frozen=True)
class Case:
    """A cut after some steps."""

    method: str
    model: Model
    steps: int
    torn: bool  # only half of the last write is there


def cut(place: Place, long: bool) -> Part:
    """Record runs, cut them, then go on and compare."""
    methods = METHODS if long else METHODS[:1]
    recorded = {method: record(place, method) for method in methods}
    cases = []
    for method, steps in recorded.items():
        for model in MODELS:
            rng = place.random("cut", method, model)
            count = min(len(steps), LONG if long else SHORT)
            found = sorted(rng.sample(range(1, len(steps) + 1), count))
            cases += [Case(method, model, number, rng.random() < 0.3) for number in found]
    part = place.part("power cut", cases, partial(_cut, place, recorded), methods=methods)
    part.more.update({f"steps of {method}": len(steps) for method, steps in recorded.items()})
    return part


def record(place: Place, method: str) -> list[Step]:
    """The steps of a run into an empty folder.

    Raises:
        RuntimeError: the run failed, or the steps do not lead to what it left.
    """
    store = place.folder / "recorded" / method
    store.mkdir(parents=True)
    target = store.with_suffix(".pickle")

    def work() -> None:
        """Record this process's writes to the store, and keep them when it ends."""
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
    again = store.with_name(store.name + ".again")
    write_tree(replayed(steps), again, "ordered")
    if _content(again) != _content(store):
        raise RuntimeError("the record of the writes is not what was written")
    return steps


def _content(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _cut(
    place: Place, recorded: dict[str, list[Step]], part: Part, case: Case, folder: Path
) -> None:
    store, steps = folder / "artifacts", recorded[case.method]
    *before, (kind, path, other, content) = steps[: case.steps]
    if case.torn and kind == "write":
        content = content[: len(content) // 2]
    write_tree(replayed([*before, (kind, path, other, content)]), store, case.model)
    last = f"{kind} {path} {other}".strip()
    what = f"{case.method}, {case.model}, step {case.steps} of {len(steps)}: {last}"
    place.judge(part, case.method, store, what, case.model)
