"""``sclip audit``: 20 lists of words in one pass, against the same runs one after the other."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Registry, Row, seconds_of
from sclip_core.config import Settings, resolve
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.other_words import audited_lists
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.pipeline.audit import Asked, audit
from sclip_core.pipeline.pipeline import run_pipeline
from sclip_core.pipeline.run import Run

IMAGES, LISTS = 200, 20
FEW_IMAGES, FEW_LISTS = 2, 5
BESIDE = 2  # own and plain; all is own for the scenes
GOAL_SECONDS = 60.0


def audit_row(quick: bool) -> Iterator[Row]:
    """The command in a process of its own; the pass, and the runs one by one, in this one."""
    images, lists = (FEW_IMAGES, FEW_LISTS) if quick else (IMAGES, LISTS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scenes(root / "scenes", images)
        draws = lists - BESIDE
        run_pipeline(Run(_settings(root, "cached")))
        for name in ("command", "together", "alone"):
            shutil.copytree(root / "cached", root / name)
        wall, cpu = _command(root, draws)
        asked = Asked({}, draws=draws)
        together = seconds_of(lambda: audit(_settings(root, "together"), asked))
        alone = seconds_of(lambda: _one_by_one(root, draws))
    yield Row(
        name=f"audit of {lists} lists over cached features, {images} scenes",
        goal=f"command < {GOAL_SECONDS:.0f} s",
        measured=f"command {wall:.1f} s ({cpu:.1f} s of CPU); the runs together {together:.1f} s, "
        f"one by one {alone:.1f} s",
        ratio=alone / together,
        met=wall < GOAL_SECONDS,
        detail={"command": wall, "cpu": cpu, "together": together, "alone": alone},
    )


def _settings(root: Path, artifacts: str, **more: Any) -> Settings:
    given = {"data_root": root / "scenes", "artifacts": root / artifacts, "device": "cpu"}
    return resolve(preset="demo", dataset="scenes", **given, **more)


def _command(root: Path, draws: int) -> tuple[float, float]:
    """Seconds of the command, and those of the processors."""
    line = [sys.executable, "-m", "flows.cli", "audit", "--direct", "--preset", "demo"]
    line += ["--dataset", "scenes", "--device", "cpu", "--draws", str(draws)]
    line += ["--data-root", str(root / "scenes"), "--artifacts", str(root / "command")]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _one_by_one(root: Path, draws: int) -> None:
    """A run for each list, as ``sclip run --classes FILE`` makes it."""
    own = Vocabulary.named("scenes")
    run_pipeline(Run(_settings(root, "alone")))
    for each in audited_lists(own, "scenes", {}, draws)[1:]:
        file = root / f"{each.name}.txt"
        file.write_text("\n".join(", ".join(words) for words in each.vocabulary.words))
        run_pipeline(Run(_settings(root, "alone", classes=file)))


ROWS: Registry = {"audit": audit_row}
