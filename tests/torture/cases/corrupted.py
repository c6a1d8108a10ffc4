"""Files of a finished store that are damaged: noticed and healed, refused in a line, or unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from io import BytesIO, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any

from tests.torture.damage import Damage, Extent, Mended, damages, kind_of
from tests.torture.forked import HUNG, Ended, forked
from tests.torture.place import Place, figures
from tests.torture.tally import Finished, Part, difference, refusal, verdict_of

METHODS = ("dense", "superpixels")
SWEPT = {
    *("refine/manifest.json", "refine/ledger.jsonl", "refine/zarr.json", "digests.jsonl"),
    *("metrics/part", "results/class_iou", "results/image_areas", "results/confusion"),
}
LONG, SHORT = Extent(frozenset(SWEPT), 3, 40, 4), Extent(frozenset(), 1, 2, 1)
FEW: dict[str, Any] = {"num_samples": 6}  # the files are small then
AT_ONCE = 40  # damages that one process does, one after the other
FROM_FEATURES = {"pamr_steps": 7}  # features and words are read, and everything else is computed
READERS: dict[str, dict[str, Any]] = {  # what makes a run read a damaged file, by its stage
    "text_bank": FROM_FEATURES,
    "dense_features": FROM_FEATURES,
    "refine": {"force": "metrics"},
    "proposals": {"force": "hybrid"},
    "crop_features": {"force": "hybrid"},
    "hybrid": {"force": "metrics"},
    "metrics": {"force": "results"},
}
ASKING = {  # the commands that read results, by table
    "runs": [["results"], ["query", "from runs", "--format=csv"]],
    "class_iou": [["query", "from class_iou", "--format=csv"], ["compare", "latest", "latest~1"]],
    "image_areas": [["query", "from image_areas", "--format=csv"]],
    "confusion": [["query", "from confusion", "--format=csv"]],
}
SLOW = (["compare", "latest", "latest~1"], ["report", "latest"])  # asked only now and then:
EVERY = 25  # of so many damages


def corrupted(place: Place, long: bool) -> Part:
    """Damage a file, ask and run, then put everything back."""
    store = place.folder / "finished"
    for method in METHODS:
        done = place.finish(method, store, **FEW)
        assert done.ended.code == 0, done.ended.err
        for others in ({}, FROM_FEATURES):
            place.reference(method, **FEW, **others)
    todo = damages(store, place.random("damages"), LONG if long else SHORT)
    groups = [todo[first : first + AT_ONCE] for first in range(0, len(todo), AT_ONCE)]
    return place.part("corrupted", groups, partial(_damage_all, place, store))


def _damage_all(
    place: Place, source: Path, part: Part, group: Sequence[Damage], folder: Path
) -> None:
    """Do some damages in one process, and in another one after each that ends or hangs it."""
    store, done = folder / "artifacts", 0
    while done < len(group):
        shutil.copytree(source, store)
        verdicts = folder / f"verdicts-{done}.jsonl"
        verdicts.touch()
        work = partial(_work, place, group[done:], store, verdicts)
        ended = forked(work, folder).wait(20 + 10 * len(group))
        lines = [json.loads(line) for line in verdicts.read_text().splitlines()]
        for number, verdict, output in lines:
            damage = group[done + number]
            part.add(verdict, str(damage), output, kind_of(damage.victim))
        if not ended.code:
            return
        done += len({number for number, *_ in lines})  # the next one ended the process
        verdict = "HUNG" if ended.code == HUNG else "TRACEBACK"
        part.add(verdict, f"{group[done]}, the process ended", ended.err)
        done += 1
        shutil.rmtree(store)


def _work(place: Place, group: Sequence[Damage], store: Path, target: Path) -> int:
    """Do damages one after the other, and write each verdict to a file at once."""
    mended = Mended(store)
    commands = [*chain(*ASKING.values()), *SLOW]
    right = {str(command): _ask(store, command).out for command in commands}
    with target.open("a", buffering=1) as file:
        for number, damage in enumerate(group):
            damage.do(store)
            asked = _answers(store, damage, right, number % EVERY == 0)
            for verdict, output in chain(asked, _runs(place, damage, store)):
                file.write(json.dumps([number, verdict, output[-600:]]) + "\n")
            mended.mend()
    return 0


def _runs(place: Place, damage: Damage, store: Path) -> Iterator[tuple[str, str]]:
    """Verdicts on the run whose file it is, and on one that has to read it."""
    stage = damage.victim.split("/")[0]
    method = "superpixels" if stage in ("proposals", "crop_features", "hybrid") else "dense"
    reader = READERS.get(stage) if "manifest" not in damage.victim else None
    for others in ({},) if reader is None else ({}, reader):
        ended = _called(place.words(method, store, **FEW, **others))
        again = {} if "force" in others else others
        settings = place.settings(method, store, **FEW, **again)
        done = Finished(ended, figures(settings) if ended.code == 0 else {})
        wanted = place.reference(method, **FEW, **again).figures
        yield verdict_of(done, wanted), f"{others} {difference(done, wanted)}"


def _answers(
    store: Path, damage: Damage, right: dict[str, str], slow: bool
) -> Iterator[tuple[str, str]]:
    """Verdicts on the commands that read a damaged file of results."""
    folder, table, *_ = [*damage.victim.split("/"), ""]
    if folder != "results":
        return
    for command in [*ASKING[table], *(SLOW if slow else ())]:
        ended = _ask(store, command)
        if ended.code or ended.unclear:
            verdict = refusal(ended)
        elif ended.out == right[str(command)]:
            verdict = "same answer"
        elif damage.kind == "gone" and table == "runs" and not ended.said:
            verdict = "gone, so not listed"
        else:
            verdict = "other answer, said so" if ended.said else "SILENT"
        yield verdict, f"{command[:2]} {ended.err}"


def _ask(store: Path, command: list[str]) -> Ended:
    """What a command that reads results prints; for ``report`` its page."""
    ended = _called([*command, f"--artifacts={store}"])
    if command[0] == "report" and ended.code == 0:  # it prints where its page is
        page = Path(ended.out.strip()).read_text("utf-8")
        ended = replace(ended, out=page.partition("<footer>")[0])  # which has the time
    return ended


def _called(words: Sequence[str]) -> Ended:
    """The command in this process, which is a child already; its output is caught."""
    from flows.cli import main

    out, err = (TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    printed, errors = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Ended(code, printed, errors, 0.0)
