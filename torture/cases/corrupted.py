"""Files of a finished store that are damaged: noticed and healed, refused in a line, or unseen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torture.damage import Damage, Mended, damages, kind_of
from torture.forked import HUNG, Ended, forked
from torture.place import Figures, Finished, Place, copied, figures
from torture.spread import cores, spread
from torture.tally import Part, difference, refusal, verdict_of

METHODS = ("dense", "superpixels")
LONG, SHORT = (3000, 400, 12), (0, 3, 1)  # see ``damages``
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
        done = place.finish(method, store)
        assert done.ended.code == 0, done.ended.err
    wanted = _wanted(place)
    todo = damages(store, place.random("damages"), *(LONG if long else SHORT))
    place.random("order").shuffle(todo)  # so that workers have the same to do
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
        found[method] = place.reference(method)[1]
        found[f"{method} again"] = place.reference(method, **FROM_FEATURES)[1]
    return found


def _several(
    place: Place, group: Sequence[Damage], source: Path, folder: Path, wanted: dict[str, Figures]
) -> Part:
    """Do some damages in one process; one that ends or hangs it is told by the file it leaves."""
    part, done = Part("corrupted"), 0
    store = copied(source, folder / "artifacts")
    while done < len(group):
        told = folder / "told.jsonl"
        told.write_text("")
        rest = group[done:]
        ended = forked(lambda rest=rest: _work(place, rest, store, told, wanted), folder).wait(
            20 + 10 * len(rest)
        )
        lines = [json.loads(line) for line in told.read_text().splitlines()]
        for kind, verdict, what, tail in lines:
            part.add(verdict, what, tail)
            part.more[f"{kind} {verdict}"] += 1
        done += max(1, len({line[2] for line in lines}))
        if ended.code:
            verdict = "HUNG" if ended.code == HUNG else "TRACEBACK"
            part.add(verdict, f"{group[done - 1]}, or the one behind it", ended.err)
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
                file.write(json.dumps([kind, verdict, str(damage), tail[-600:]]) + "\n")
            mended.mend()
    return 0


def _runs(
    place: Place, damage: Damage, store: Path, wanted: dict[str, Figures]
) -> list[tuple[str, str]]:
    """The run whose file it is, and one that has to read it."""
    stage = damage.victim.split("/")[0]
    masks = stage in ("proposals", "crop_features", "hybrid")
    found = []
    for method in ("superpixels",) if masks else ("dense",):
        for others in ({}, READERS.get(stage)):
            if others is None:
                continue
            ended = called(place.words(method, store, **others))
            read: Figures = {}
            again = others if "force" not in others else {}
            if ended.code == 0:
                try:
                    read = figures(place.settings(method, store, **again))
                except Exception as error:  # what the command has just called whole
                    read = {"unreadable": repr(error)}
            done = Finished(ended, read)
            right = wanted[f"{method} again" if again else method]
            found.append((verdict_of(done, right), f"{others} {difference(done, right)}"))
    return found


class _Asked:
    """Answers of the commands that read results, with and without a damage."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._right: dict[str, str] = {}
        for command in [*sum(ASKING.values(), []), *SLOW]:
            self._right[str(command)] = self._ask(command).out

    def _ask(self, command: list[str]) -> Ended:
        return called([*command, f"--artifacts={self._store}"])

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
                verdict = "same answer" if same else "gone, said" if ended.said else "SILENT"
            else:
                verdict = refusal(ended)
            if verdict == "SILENT" and damage.kind == "gone" and parts[1] == "runs":
                verdict = "gone, so not listed"
            found.append((verdict, f"{command[:2]} {ended.err}"))
        return found


def called(words: Sequence[str]) -> Ended:
    """The command in this process, which is a child already; its output is caught."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from flows.cli import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    sys.stdout.flush()
    os.environ.pop("COLUMNS", None)
    return Ended(code, out.getvalue(), err.getvalue(), 0.0)
