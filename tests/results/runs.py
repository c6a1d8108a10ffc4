"""How the runs of these tests are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from sclip_core.config import resolve
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.evaluation import Areas, scores
from sclip_core.pipeline.pipeline import run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.results.build import class_table
from sclip_core.results.files import EMPTY, write_run

SCENES = 8
KINDS: dict[str, dict[str, object]] = {  # oldest first
    "csa": {},
    "pamr": {"pamr_steps": 3},
    "hybrid": {"mode": "hybrid", "proposals": "felzenszwalb"},
    "baseline": {"mode": "baseline", "proposals": "slic", "slic_segments": 9},
}


def make_runs(root: Path) -> Path:
    """A run of each of ``KINDS`` in ``root/artifacts``, over scenes in ``root/scenes``."""
    write_scenes(root / "scenes", SCENES)
    artifacts = root / "artifacts"
    for kind in KINDS.values():
        given = {"preset": "demo", "dataset": "scenes", "data_root": root / "scenes"}
        run_pipelines([Run(resolve(**given, artifacts=artifacts, num_samples=SCENES, **kind))])
    return artifacts


def made_run(
    root: Path,
    run_id: str,
    images: Mapping[str, Sequence[Sequence[int]]],
    /,
    names: Sequence[str] = ("sky", "grass", "cat"),
    age: int = 0,
    **row: object,
) -> None:
    """Write a run whose areas are given.

    Args:
        root: of all artifacts.
        run_id: its name.
        images: for each image (intersect, prediction, label) of each class.
        names: of the classes.
        age: in days.
        **row: columns of ``runs``.
    """
    rows = [
        {
            "run_id": run_id,
            "image_id": image,
            "class_id": k,
            **dict(zip(Areas._fields, area, strict=True)),
        }
        for image, areas in images.items()
        for k, area in enumerate(areas)
        if any(area)
    ]
    total = Areas(*np.sum([np.array(areas) for areas in images.values()], axis=0).T)
    scored = scores(total)
    usual = {
        "created_at": datetime(2026, 5, 30, tzinfo=UTC) - timedelta(days=age),
        "dataset": "own",
        "mode": "dense",
        "model": "ViT-B-16",
        "pretrained": "openai",
        "weights_sha256": "0" * 64,
        "attention": "csa",
        "dtype": "fp32",
        "pamr_steps": 0,
        "pamr_dilations": "8,16",
        "logit_scale": 40.0,
        "prob_thd": 0.0,
        "num_images": len(images),
        "num_failed": 0,
        "miou": scored.miou,
        "macc": scored.macc,
        "aacc": scored.aacc,
    }
    kinds = {"class_id": pa.int32(), "run_id": pa.string(), "image_id": pa.string()}
    schema = pa.schema({**kinds, **dict.fromkeys(Areas._fields, pa.int64())})
    write_run(
        root,
        run_id,
        {
            "runs": pa.Table.from_pylist([{"run_id": run_id, **usual, **row}]),
            "class_iou": class_table(run_id, names, total, scored),
            "image_areas": pa.Table.from_pylist(rows, schema),
            "confusion": EMPTY["confusion"].empty_table(),
        },
    )
