"""The pictures, the settings, and the runs, undisturbed ones included."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sclip_core.config.places import ObjectPath
from tests.torture.forked import Child, Ended, forked, sclip
from tests.torture.spread import CORES, spread
from tests.torture.tally import DAMAGED, Figures, Finished, Part, difference, must_be_same

Case = TypeVar("Case")

SIZES = ((96, 128), (120, 90), (100, 100), (72, 160), (64, 64))  # height, width
VOLATILE = ("run_id", "created_at", "seconds_", "state_", "key_", "versions", "schema_version")
TABLES = ("runs", "class_iou", "image_areas", "confusion")
BASE = {"preset": "demo", "short_side": 96}
METHODS: dict[str, dict[str, Any]] = {
    "dense": {"pamr_steps": 5},
    "plain": {"pamr_steps": 0},
    "vanilla": {"pamr_steps": 5, "attention": "vanilla"},
    "trunk": {"pamr_steps": 5, "keep_trunk": True},
    "superpixels": {"mode": "hybrid", "proposals": "felzenszwalb", "hybrid_rule": "crop"},
    "sam": {
        "mode": "hybrid",
        "proposals": "sam",
        "keep_embeddings": True,
        "points_per_side": 4,
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.1,
        "box_nms_thresh": 1.0,
    },
}


class Reference(NamedTuple):
    """A run that nothing disturbed."""

    figures: Figures
    seconds: float


class Place:
    """A folder with pictures and ground truth, on which runs are disturbed."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        """Draw ``count`` pictures in a folder; ``seed``: of everything that is random."""
        self.folder, self.seed = folder, seed
        self._output = folder / "output"
        self._references: dict[str, Reference] = {}
        _check(forked(partial(_draw, folder / "data", count), self._output).wait())

    def random(self, *names: object) -> random.Random:
        """Random numbers that depend only on the seed and on the names of what they are for."""
        return random.Random(f"{self.seed} {names}")

    def settings(self, method: str, artifacts: Path | ObjectPath, **others: Any) -> dict[str, Any]:
        """The settings of a run by name."""
        data = self.folder / "data"
        own = {name: data / name for name in ("images", "labels")}
        own["classes"] = data / "classes.txt"
        if method == "sam":
            own["sam_checkpoint"] = data / "sam.pth"
        return {**BASE, **own, "artifacts": artifacts, **METHODS[method], **others}

    def words(
        self, method: str, artifacts: Path | ObjectPath, direct: bool = True, **others: Any
    ) -> list[str]:
        """The arguments of a run."""
        given = self.settings(method, artifacts, **others).items()
        flags = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in given
        ]
        return ["run", *(["--direct"] if direct else []), *flags]

    def start(
        self, method: str, artifacts: Path | ObjectPath, prepare: Callable[[], object] | None = None
    ) -> Child:
        """Start a run; ``prepare`` is called in its process first."""
        return sclip(self.words(method, artifacts), self._output, prepare)

    def finish(self, method: str, artifacts: Path | ObjectPath, **others: Any) -> Finished:
        """Run to the end, then read the store, both in one process."""
        target = self._output / f"{os.getpid()}-{artifacts.name}.figures"
        target.unlink(missing_ok=True)

        def work() -> int:
            from flows.cli import main

            code = main(self.words(method, artifacts, **others))
            if code == 0:
                others.pop("force", None)
                target.write_text(json.dumps(figures(self.settings(method, artifacts, **others))))
            return code

        ended = forked(work, self._output).wait()
        read = json.loads(target.read_text()) if target.is_file() else {}
        return Finished(ended, read)

    def reference(self, method: str, **others: Any) -> Reference:
        """A run that nothing disturbs; it is computed only once."""
        name = "-".join([method, *map(str, others.values())])
        if name not in self._references:
            done = self.finish(method, self.folder / "reference" / name, **others)
            _check(done.ended)
            self._references[name] = Reference(done.figures, done.ended.seconds)
        return self._references[name]

    def judge(
        self, part: Part, method: str, store: Path | ObjectPath, what: str, kind: str = ""
    ) -> None:
        """Run on a disturbed store; count whether it gives what the undisturbed run gave."""
        done, wanted = self.finish(method, store), self.reference(method).figures
        part.add(must_be_same(done, wanted), what, difference(done, wanted), kind)

    def part(
        self,
        name: str,
        cases: Sequence[Case],
        work: Callable[[Part, Case, Path], object],
        workers: int = CORES,
        methods: Sequence[str] = (),
    ) -> Part:
        """Do cases side by side and count what became of them.

        Args:
            name: of the part.
            cases: what to do.
            work: does one case in a folder and adds the verdicts to a part.
            workers: how many at a time.
            methods: whose reference the cases need.
        """
        for method in methods:
            self.reference(method)  # before this process is forked, so that all have it

        def one(case: Case, folder: Path) -> Part:
            found = Part(name)
            work(found, case, folder)
            return found

        part = Part(name)
        for found in spread(cases, one, self.folder / name, workers):
            part.take(found)
        return part


def _draw(data: Path, count: int) -> int:
    import cv2
    import torch

    from sclip_core.datasets import Vocabulary
    from sclip_core.demo.scenes import draw_scene, evaluation_rng
    from tests.masks.sam.models import make

    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    for number in range(count):
        scene = draw_scene(evaluation_rng(number), *SIZES[number % len(SIZES)])
        cv2.imwrite(str(data / "images" / f"{number:04d}.png"), scene.image[..., ::-1])
        cv2.imwrite(str(data / "labels" / f"{number:04d}.png"), scene.labels)
    names = Vocabulary.named("scenes").class_names
    (data / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    torch.save(make(seed=0).state_dict(), data / "sam.pth")
    return 0


def figures(settings: dict[str, Any]) -> Figures:
    """Digests of all label maps and of the rows of all tables; to be called in a child."""
    import pyarrow.parquet as pq

    from sclip_core.config import UserError, resolve
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run
    from sclip_core.results.files import open_file

    pipeline = Pipeline.of(Run(resolve(**settings)))
    labels = pipeline.labels
    rows = labels.rows()
    found = {}
    for digest, sample in pipeline.run.inputs.images.items():
        name = f"label map {sample.image_id}"
        try:
            found[name] = hashlib.sha256(bytes(labels.read(rows[digest]))).hexdigest()
        except (KeyError, UserError):
            found[name] = DAMAGED
    for name in TABLES:
        path = settings["artifacts"] / "results" / name / f"{pipeline.results.run_id}.parquet"
        try:
            if isinstance(path, ObjectPath):  # where a faulty answer is not a faulty object
                table = open_file(path)[1]
            else:
                table = pq.ParquetFile(path).read()
            kept = [column for column in table.column_names if not column.startswith(VOLATILE)]
            rows_read = repr(table.select(kept).to_pylist())
        except Exception:  # Arrow raises many types for broken bytes
            found[f"table {name}"] = DAMAGED
        else:
            found[f"table {name}"] = hashlib.sha256(rows_read.encode()).hexdigest()
    return found


def stored_twice(artifacts: Path) -> int:
    """Rows that were computed and stored again, by the ledger lines that can be read."""
    counts = Counter(
        (path.parent, row.get("id"))
        for path in artifacts.glob("*/*/ledger.jsonl")
        for row in _ledger_rows(path)
    )
    return sum(counts.values()) - len(counts)


def _ledger_rows(ledger: Path) -> Iterator[dict[str, Any]]:
    for line in ledger.read_bytes().splitlines():
        try:
            yield from json.loads(line)["rows"]
        except (ValueError, KeyError, TypeError):  # torn, or of another kind
            continue


def count_twice(part: Part, store: Path, what: str, allowed: bool = False) -> None:
    """Count the rows that were computed twice, as a bad verdict unless it is ``allowed``."""
    twice = stored_twice(store)
    part.more["rows computed twice"] += twice
    if twice and not allowed:
        part.add("TWICE", what, f"{twice} rows")


def _check(ended: Ended) -> None:
    if ended.code:
        raise RuntimeError(f"an undisturbed run ended with {ended.code}: {ended.err[-2000:]}")
