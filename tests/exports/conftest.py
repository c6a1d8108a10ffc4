"""Stored runs to export."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sclip_core.config import resolve
from sclip_core.exports import StoredRun
from sclip_core.pipeline.pipeline import run_pipelines
from sclip_core.pipeline.run import Run

KINDS = ("dense", "hybrid", "gappy")


@pytest.fixture(scope="session")
def dense(scenes_runs: Path) -> StoredRun:
    """A dense run over eight scenes."""
    return StoredRun.open("latest~3", scenes_runs)


@pytest.fixture(scope="session")
def hybrid(scenes_runs: Path) -> StoredRun:
    """Masks that have the label of most of their pixels."""
    return StoredRun.open("latest~1", scenes_runs)


@pytest.fixture(scope="session")
def gappy(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """A run over masks that leave out pixels, which have no label then."""
    root = tmp_path_factory.mktemp("gappy")
    scenes = scenes_runs.parent / "scenes"
    for file in (scenes / "labels").iterdir():
        masks = cv2.imread(str(file), cv2.IMREAD_UNCHANGED).astype(np.uint8) + 1
        masks[10:20, 30:90] = 0
        cv2.imwrite(str(root / file.name), masks)
    shutil.copytree(scenes_runs, root / "artifacts")
    given = {"preset": "demo", "dataset": "scenes", "data_root": scenes, "num_samples": 8}
    settings = resolve(**given, artifacts=root / "artifacts", mode="baseline", masks=root)
    run_pipelines([Run(settings)])
    run = StoredRun.open("latest", root / "artifacts")
    assert all((image.labels[10:20, 30:90] == -1).all() for image in run)
    return run


@pytest.fixture(params=KINDS, scope="session")
def any_run(request: pytest.FixtureRequest) -> StoredRun:
    """Each of them."""
    run: StoredRun = request.getfixturevalue(request.param)
    return run


def blobs(seed: int, height: int = 37, width: int = 52, classes: int = 4) -> np.ndarray:
    """A label map (H, W) with holes, thin parts, corners that touch, and pixels without a class."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (height // 4 + 1, width // 4 + 1))
    labels = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    noise = rng.random((height, width))
    labels = np.where(noise < 0.15, rng.integers(0, classes, (height, width)), labels)
    return np.where(noise > 0.95, -1, labels).astype(np.int32)
