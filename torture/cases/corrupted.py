"""Files of a finished store that are damaged: noticed and healed, refused in a line, or unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from io import BytesIO, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any

from torture.damage import Damage, Extent, Mended, damages, kind_of
from torture.forked import HUNG, Ended, forked
from torture.place import Figures, Finished, Place, copied, figures
from torture.spread import cores, spread
from torture.tally import Part, difference, refusal, verdict_of

METHODS = ("dense", "superpixels")
SWEPT = frozenset(
    (
        "refine/manifest.json",
        "refine/ledger.jsonl",
        "refine/zarr.json",
        "metrics/part",
        "results/class_iou",
        "results/image_areas",
        "results/confusion",
        "digests.jsonl",
    )
)
LONG, SHORT = Extent(SWEPT, 3, 40, 4), Extent(frozenset(), 1, 2, 1)
FEW = 6  # pictures: the files are small then
AT_ONCE = 40  # damages that one process does, one after the other
FROM_FEATURES = {"pamr_steps": 7}  # features and words are read, and nothing is there of the rest
READERS: dict[str, dict[str, Any]] = {  # what makes a run read a damaged file, by its stage
    "text_bank": FROM_FEATURES,
    "dense_features": FROM_FEATURES,
    "refine": {"force": "metrics"},
    "proposals": {"force": "hybrid"},
    "crop_features": {"force": "hybrid"},
    "hybrid": {"force": "metrics"},
    "metrics": {"force": "results"},
}
ASKING = {  # what reads results, by table
    "runs": [["results"], ["query", "from runs", "--format=csv"]],
    "class_iou": [["query", "from class_iou", "--format=csv"], ["compare", "latest", "latest~1"]],
    "image_areas": [["query", "from image_areas", "--format=csv"]],
    "confusion": [["query", "from confusion", "--format=csv"]],
}
SLOW = (["compare", "latest", "latest~1"], ["report", "latest"])  # asked of every so many
EVERY = 25


def corrupted(place: Place, long: bool) -> Part:
    """Damage a file, ask and run, put everything back."""
    part = Part("corrupted")
    store = place.folder / "finished"
    for method in METHODS:
        done = place.finish(method, store, num_samples=FEW)
        assert done.ended.code == 0, done.ended.err
    wanted = _wanted(place)
    todo = damages(store, place.random("damages"), LONG if long else SHORT)
    groups = [todo[first : first + AT_ONCE] for first in range(0, len(todo), AT_ONCE)]

    def work(group: Sequence[Damage], folder: Path) -> Part:
        return _several(place, group, store, folder, wanted)

    for found in spread(groups, work, place.folder / "corrupted", cores()):
        part.take(found)
    return part


def _wanted(place: Place) -> dict[str, Figures]:
    """The figures of undisturbed runs, by method and reader."""
    found = {}
    for method in METHODS:
        found[method] = place.reference(method, num_samples=FEW)[1]
        again = place.reference(method, num_samples=FEW, **FROM_FEATURES)
        found[f"{method} again"] = again[1]
    return found


def _several(
    place: Place, group: Sequence[Damage], source: Path, folder: Path, wanted: dict[str, Figures]
) -> Part:
    """Do some damages in one process; one that ends or hangs it is told by the file it leaves."""
    part, done = Part("corrupted"), 0
    store = copied(source, folder / "artifacts")
    while done < len(group):
        told = folder / f"told-{done}.jsonl"
        todo = partial(_work, place, group[done:], store, told, wanted)
        ended = forked(todo, folder).wait(20 + 10 * len(group))
        lines = (
            [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        )
        for number, kind, verdict, tail in lines:
            part.add(verdict, str(group[done + number]), tail, kind)
        if not ended.code:
            break
        done += len({line[0] for line in lines})  # the one after these ended the process
        verdict = "HUNG" if ended.code == HUNG else "TRACEBACK"
        part.add(verdict, f"{group[done]}, the process ended", ended.err)
        done += 1
        shutil.rmtree(store)
        copied(source, store)
    return part


def _work(
    place: Place, group: Sequence[Damage], store: Path, told: Path, wanted: dict[str, Figures]
) -> int:
    mended = Mended(store)
    asked = _Asked(store)
    with told.open("a", buffering=1) as file:
        for number, damage in enumerate(group):
            damage.do(store)
            kind = kind_of(damage.victim)
            for verdict, tail in [
                *asked.after(damage, number % EVERY == 0),
                *_runs(place, damage, store, wanted),
            ]:
                file.write(json.dumps([number, kind, verdict, tail[-600:]]) + "\n")
            mended.mend()
    return 0


def _runs(
    place: Place, damage: Damage, store: Path, wanted: dict[str, Figures]
) -> list[tuple[str, str]]:
    """The run whose file it is, and one that has to read it."""
    stage = damage.victim.split("/")[0]
    masks = stage in ("proposals", "crop_features", "hybrid")
    found = []
    method = "superpixels" if masks else "dense"
    reader = READERS.get(stage) if "manifest" not in damage.victim else None
    for others in ({},) if reader is None else ({}, reader):
        ended = called(place.words(method, store, num_samples=FEW, **others))
        again = {} if "force" in others else others
        settings = place.settings(method, store, num_samples=FEW, **again)
        done = Finished(ended, figures(settings) if ended.code == 0 else {})
        right = wanted[f"{method} again" if again else method]
        found.append((verdict_of(done, right), f"{others} {difference(done, right)}"))
    return found


class _Asked:
    """Answers of the commands that read results, with and without a damage."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._right: dict[str, str] = {}
        for command in [*chain(*ASKING.values()), *SLOW]:
            self._right[str(command)] = self._ask(command).out

    def _ask(self, command: list[str]) -> Ended:
        ended = called([*command, f"--artifacts={self._store}"])
        if command[0] == "report" and ended.code == 0:  # which prints where its page is
            ended = replace(ended, out=Path(ended.out.strip()).read_text("utf-8"))
        return ended

    def after(self, damage: Damage, slow: bool) -> list[tuple[str, str]]:
        """Ask what reads a damaged file of results."""
        parts = damage.victim.split("/")
        if parts[0] != "results":
            return []
        found = []
        for command in [*ASKING[parts[1]], *(SLOW if slow else ())]:
            ended = self._ask(command)
            if ended.code == 0 and not ended.unclear:
                same = ended.out == self._right[str(command)]
                verdict = (
                    "same answer" if same else "other answer, said so" if ended.said else "SILENT"
                )
            else:
                verdict = refusal(ended)
            if verdict == "SILENT" and damage.kind == "gone" and parts[1] == "runs":
                verdict = "gone, so not listed"
            found.append((verdict, f"{command[:2]} {ended.err}"))
        return found


def called(words: Sequence[str]) -> Ended:
    """The command in this process, which is a child already; its output is caught."""
    from flows.cli import main

    out, err = (TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    caught = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Ended(code, *caught, 0.0)
