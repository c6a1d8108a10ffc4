"""Comparing two runs and writing their report: 5,000 images, 171 classes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import Registry, Row, peak_extra_mb, seconds_of
from sclip_core.evaluation import Areas, SparseAreas, bootstrap, scores
from sclip_core.evaluation.bootstrap import GROUPS, RESAMPLES
from sclip_core.report import write_report
from sclip_core.results import compare
from sclip_core.results.files import EMPTY, write_run

IMAGES, CLASSES = 5000, 171
FEW_IMAGES, FEW_CLASSES = 30, 5
MANY_IMAGES = 1_000_000
PRESENT = 8  # classes in an image, labelled or found, as of COCO-Stuff
DRAWS_ONE_BY_ONE = 20  # that are timed of the plain way, whose 2,000 would take minutes
GOAL_SECONDS, GOAL_BYTES = 10.0, 5e6


def bootstrap_row(quick: bool) -> Iterator[Row]:
    """The bootstrap of two runs, against picking and summing the images of each draw."""
    images, classes = (FEW_IMAGES, FEW_CLASSES) if quick else (IMAGES, CLASSES)
    runs = [_areas(images, classes, seed) for seed in (1, 2)]
    taken = seconds_of(lambda: bootstrap(runs, by_class=True))
    plain = seconds_of(lambda: _one_by_one(runs)) * RESAMPLES / DRAWS_ONE_BY_ONE
    yield Row(
        name=f"bootstrap of two runs, {RESAMPLES:,} draws of {images:,} images, {classes} classes",
        goal=f"< {GOAL_SECONDS:.0f} s",
        measured=f"{taken:.2f} s (images picked and summed: {plain:.0f} s)",
        ratio=plain / taken,
        met=taken < GOAL_SECONDS,
        detail={"seconds": taken, "plain_seconds": plain},
    )


def million_row(quick: bool) -> Iterator[Row]:
    """The bootstrap of two runs of a million images, by groups of them."""
    images, classes = (FEW_IMAGES, FEW_CLASSES) if quick else (MANY_IMAGES, CLASSES)
    runs = [_sparse(images, classes, seed) for seed in (1, 2)]
    taken: list[float] = []
    peak = peak_extra_mb(
        lambda: taken.append(seconds_of(lambda: bootstrap(runs, by_class=True, groups=GROUPS)))
    )
    held = sum(column.nbytes for run in runs for column in (run.image, run.class_id, *run.areas))
    yield Row(
        name=f"bootstrap of two runs, {RESAMPLES:,} draws of {GROUPS:,} groups of {images:,} "
        f"images, {classes} classes",
        goal="< 20 s, < 1 GB",
        measured=f"{taken[0]:.2f} s, {peak + held / 1e6:.0f} MB ({held / 1e6:.0f} MB areas)",
        met=taken[0] < 20 and peak + held / 1e6 < 1000,
        detail={"seconds": taken[0], "peak_mb": peak, "areas_mb": held / 1e6},
    )


def _sparse(images: int, classes: int, seed: int) -> SparseAreas:
    """Areas of a few classes in each image; the seed does not change the ground truth."""
    rng, other = np.random.default_rng(0), np.random.default_rng(seed)
    present = min(PRESENT, classes)
    first = rng.integers(classes - present + 1, size=images)
    class_id = (first[:, None] + np.arange(present)).astype(np.int32).ravel()
    label = rng.integers(1, 50_000, len(class_id), np.int32)
    right = (label * other.random(len(label), np.float32)).astype(np.int32)
    image = np.repeat(np.arange(images, dtype=np.int32), present)
    return SparseAreas((images, classes), image, class_id, right, right + 700, label)


def commands_row(quick: bool) -> Iterator[Row]:
    """What ``sclip compare`` and ``sclip report`` do, reading the tables included."""
    images, classes = (FEW_IMAGES, FEW_CLASSES) if quick else (IMAGES, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed, run_id in enumerate(("a", "b"), 1):
            write_run(root, run_id, _tables(run_id, _areas(images, classes, seed)))
        compared = seconds_of(lambda: compare("a", "b", artifacts=root))
        shown = seconds_of(lambda: write_report(["a", "b"], root / "out", root))
        size = (root / "out" / "index.html").stat().st_size
    yield Row(
        name=f"two runs compared, and shown without pictures, {images:,} images, {classes} classes",
        goal=f"compare < {GOAL_SECONDS:.0f} s, page < 5 MB",
        measured=f"compare {compared:.1f} s; report {shown:.1f} s, {size / 1e6:.2f} MB",
        met=compared < GOAL_SECONDS and size < GOAL_BYTES,
        detail={"compare_seconds": compared, "report_seconds": shown, "bytes": size},
    )


def _areas(images: int, classes: int, seed: int) -> Areas:
    """Areas (N, C), a few classes in each image; the seed does not change the ground truth."""
    rng = np.random.default_rng(0)
    places = np.argsort(rng.random((images, classes)), axis=1)[:, :PRESENT]
    there = np.zeros((images, classes), bool)
    np.put_along_axis(there, places, True, axis=1)
    label = rng.integers(1, 50_000, (images, classes)) * there
    right = (label * np.random.default_rng(seed).random(label.shape)).astype(np.int64)
    return Areas(right, right + 700 * there, label)


def _one_by_one(runs: list[Areas]) -> None:
    """The plain way: for each draw, pick its images, sum their areas, compute the scores."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS_ONE_BY_ONE):
        chosen = rng.integers(len(runs[0].label), size=len(runs[0].label))
        for areas in runs:
            scores(Areas(*(area[chosen].sum(axis=0) for area in areas)))


def _tables(run_id: str, areas: Areas) -> dict[str, pa.Table]:
    """The tables that the stage ``results`` would write for a run with these areas."""
    total = Areas(*(area.sum(axis=0) for area in areas))
    scored = scores(total)
    image, class_id = np.nonzero(areas.union)
    names = [f"class {k}" for k in range(len(total.label))]
    run = {
        "run_id": run_id, "created_at": np.datetime64("2026-01-01", "us"), "dataset": "made",
        "mode": "dense", "num_images": len(areas.label), "num_failed": 0, "pamr_steps": 0,
        "miou": scored.miou, "macc": scored.macc, "aacc": scored.aacc, "versions": "{}",
    }  # fmt: skip
    return {
        "runs": pa.Table.from_pylist([run]),
        "confusion": EMPTY["confusion"].empty_table(),
        "class_iou": pa.table(
            {
                "run_id": [run_id] * len(names),
                "class_id": np.arange(len(names), dtype=np.int32),
                "class_name": names,
                "label": total.label,
                "iou": scored.iou,
            }
        ),
        "image_areas": pa.table(
            {
                "run_id": [run_id] * len(image),
                "image_id": image.astype(str).tolist(),
                "class_id": class_id.astype(np.int32),
                **{n: getattr(areas, n)[image, class_id] for n in Areas._fields},
            }
        ),
    }


ROWS: Registry = {
    "bootstrap": bootstrap_row,
    "bootstrap-million": million_row,
    "report": commands_row,
}
