"""The pictures, the settings, and what the command makes of them where nothing disturbs it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.forked import Child, Ended, forked, sclip

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
DAMAGED = "damaged"  # instead of the digest of what cannot be read
Figures = dict[str, str]  # what was measured: its name, and a digest of it


@dataclass(frozen=True)
class Finished:
    """What a run gave, and what could be read of the store after it."""

    ended: Ended
    figures: Figures = field(default_factory=dict)


class Place:
    """A folder with pictures and ground truth, where runs are disturbed."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        """Draw the pictures.

        Args:
            folder: for all of it.
            count: how many pictures.
            seed: of all that is random.
        """
        self.folder, self.count, self.seed = folder, count, seed
        self._output = folder / "output"
        self._references: dict[str, tuple[Path, Figures, float]] = {}
        _checked(forked(self._draw, self._output).wait())

    def random(self, *names: object) -> random.Random:
        """Random numbers that depend on the seed and on what they are for."""
        return random.Random(f"{self.seed} {names}")

    def settings(self, method: str, artifacts: Path, **others: Any) -> dict[str, Any]:
        """The settings of a run by name."""
        data = self.folder / "data"
        own = {name: data / name for name in ("images", "labels")}
        own["classes"] = data / "classes.txt"
        if method == "sam":
            own["sam_checkpoint"] = data / "sam.pth"
        return {**BASE, **own, "artifacts": artifacts, **METHODS[method], **others}

    def words(self, method: str, artifacts: Path, direct: bool = True, **others: Any) -> list[str]:
        """The arguments of a run."""
        given = self.settings(method, artifacts, **others).items()
        flags = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in given
        ]
        return ["run", *(["--direct"] if direct else []), *flags]

    def start(
        self,
        method: str,
        artifacts: Path,
        prepare: Callable[[], object] | None = None,
        **others: Any,
    ) -> Child:
        """Start a run."""
        return sclip(self.words(method, artifacts, **others), self._output, prepare)

    def finish(self, method: str, artifacts: Path, **others: Any) -> Finished:
        """Run to the end, then read what is there, both in one process."""
        target = artifacts.with_name(artifacts.name + ".figures")
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

    def reference(self, method: str, **others: Any) -> tuple[Path, Figures, float]:
        """Artifacts and figures of a run that nothing disturbs, and the seconds that it took."""
        name = "-".join([method, *map(str, others.values())])
        if name not in self._references:
            artifacts = self.folder / "reference" / name
            done = self.finish(method, artifacts, **others)
            _checked(done.ended)
            self._references[name] = artifacts, done.figures, done.ended.seconds
        return self._references[name]

    def _draw(self) -> int:
        import cv2
        import torch

        from sclip_core.datasets import Vocabulary
        from sclip_core.demo.scenes import draw_scene, evaluation_rng
        from tests.masks.sam.models import make

        data = self.folder / "data"
        for name in ("images", "labels"):
            (data / name).mkdir(parents=True)
        for number in range(self.count):
            scene = draw_scene(evaluation_rng(number), *SIZES[number % len(SIZES)])
            cv2.imwrite(str(data / "images" / f"{number:04d}.png"), scene.image[..., ::-1])
            cv2.imwrite(str(data / "labels" / f"{number:04d}.png"), scene.labels)
        names = Vocabulary.named("scenes").class_names
        (data / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        torch.save(make(seed=0).state_dict(), data / "sam.pth")
        return 0


def figures(settings: dict[str, Any]) -> Figures:
    """Digests of all label maps and of the tables' rows; to be called in a child."""
    import pyarrow.parquet as pq

    from sclip_core.config import UserError, resolve
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

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
            table = pq.ParquetFile(path).read()
            kept = [column for column in table.column_names if not column.startswith(VOLATILE)]
            told = repr(table.select(kept).to_pylist())
        except Exception:  # whatever Arrow makes of broken bytes
            found[f"table {name}"] = DAMAGED
        else:
            found[f"table {name}"] = hashlib.sha256(told.encode()).hexdigest()
    return found


def ledger_lines(artifacts: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """The lines of all ledgers that can be read, with the artifact that they are of."""
    for path in sorted(artifacts.glob("*/*/ledger.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("rows"), list):
                yield str(path.parent.relative_to(artifacts)), entry


def stored_twice(artifacts: Path) -> int:
    """Rows that were computed and stored again, by the lines of the ledgers."""
    counts = Counter(
        (artifact, row.get("id"))
        for artifact, entry in ledger_lines(artifacts)
        for row in entry["rows"]
    )
    return sum(counts.values()) - len(counts)


def copied(source: Path, target: Path) -> Path:
    """A copy of a store that shares no file with it."""
    return Path(shutil.copytree(source, target))


def _checked(ended: Ended) -> None:
    if ended.code:
        raise RuntimeError(f"an undisturbed run ended with {ended.code}: {ended.err[-2000:]}")


def sample(rng: random.Random, items: Sequence[Any], count: int) -> list[Any]:
    """Some of the items, in order; all, where there are not more."""
    return list(items) if len(items) <= count else sorted(rng.sample(list(items), count))
