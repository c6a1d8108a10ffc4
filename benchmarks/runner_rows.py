"""Several processes: how much faster two are than one, and what the engine itself takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Registry, Row, seconds
from benchmarks.workplace import Workplace
from sclip_core.config import resolve
from sclip_core.pipeline.executing import pieces
from sclip_core.pipeline.pipeline import Pipeline, mark_in_use
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.runners import ROUNDS, Processes
from sclip_core.pipeline.work import at_hand

IMAGES = 48  # of ``processes``
MANY = 2000  # for which the engine's share is judged
SHARDS = 24
WARM = 6  # of the pieces, which are not timed: with them the processes load their models
STAGES = 3  # that are of images: dense_features, refine, metrics


@dataclass
class Timed:
    """Pieces of the dense features, by so many processes."""

    wall: float  # seconds
    stage: float  # of the stage itself, summed over the processes
    images: int
    pieces: int


def process_rows(quick: bool) -> Iterator[Row]:
    """Dense features by one process of ``--runner processes`` and by two, a thread each."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with Workplace(quick) as bench:
            settings, images = bench.coco(24 if quick else IMAGES, None)
            one, two = (_timed(settings, bench.artifacts(), number) for number in (1, 2))
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    ratio = one.wall / two.wall
    yield Row(
        name=f"dense features by 2 processes against 1, a thread each, {images}",
        goal="≥ 1.8 ×",
        measured=f"{seconds(two.wall)} against {seconds(one.wall)} for {one.images} of them",
        ratio=ratio,
        met=ratio >= 1.8,
        detail={"cores": len(os.sched_getaffinity(0)), "one": vars(one), "two": vars(two)},
    )
    engine = (one.wall - one.stage) / one.pieces
    sent = STAGES * ROUNDS * 2
    share = sent * engine / (MANY * one.stage / one.images)
    yield Row(
        name=f"the engine's share of {MANY:,} images: {sent} pieces sent to processes",
        goal="≤ 5 %",
        measured=f"{100 * share:.2f} %, {seconds(engine)} a piece",
        ratio=share,
        met=share <= 0.05,
        detail={
            "judged": "what a piece takes from being sent to its report, without the stage's own "
            "seconds, against the dense features of so many images at the speed of one process; "
            "starting the processes comes once"
        },
    )


def _timed(settings: dict[str, object], artifacts: Path, processes: int) -> Timed:
    """Execute the pieces of the dense features, but for the first few."""
    run = Run(resolve(**settings, artifacts=artifacts, runner="processes", shards=SHARDS))
    kind = type("Some", (Processes,), {"places": processes})
    run.runner = runner = kind(run.settings, 0)
    pipeline = Pipeline.of(run)
    try:
        mark_in_use([pipeline])
        with at_hand([pipeline]):
            works = pieces(pipeline.dense_features)
            for each in [runner.submit(work) for work in works[:WARM]]:
                each.result()
            started = time.perf_counter()
            reports = [each.result() for each in [runner.submit(work) for work in works[WARM:]]]
            wall = time.perf_counter() - started
    finally:
        run.lease.close()
        runner.close()
    outcomes = [report.outcome for report in reports]
    return Timed(
        wall,
        sum(each.seconds for each in outcomes),
        sum(each.computed for each in outcomes),
        len(outcomes),
    )


ROWS: Registry = {"processes": process_rows}
