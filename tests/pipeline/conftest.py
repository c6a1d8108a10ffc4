"""A small dataset in VOC's layout, and a finished run over it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest

from sclip_core.config import resolve
from sclip_core.pipeline.pipeline import Finished, run_pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..pictures import scene


def write_voc(root: Path, count: int) -> Path:
    """Drawn scenes as ``VOCdevkit/VOC2012``; labels 0..5 and some 255. Returns the root."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2026_{i:06d}" for i in range(count)]
    for number, name in enumerate(names):
        picture, labels = scene(number)
        picture, labels = picture[:200, :260], labels[:200, :260].copy()
        labels[:3] = 255
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), picture)
        cv2.imwrite(str(root / "SegmentationClass" / f"{name}.png"), labels)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(names) + "\n")
    return root


def run(artifacts: Path, data: Path, **settings: Any) -> Finished:
    """A run of the pipeline over the dataset, with the tiny CLIP unless told otherwise."""
    given = {"dataset": "voc21", "data_root": data, "artifacts": artifacts, **TINY, **settings}
    return run_pipeline(Run(resolve(**given)))


def computed(finished: Finished) -> dict[str, int]:
    """Rows that each stage computed, of the stages that computed any."""
    return {o.stage: o.computed for o in finished.outcomes.values() if o.state == "computed"}


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures."""
    return write_voc(tmp_path_factory.mktemp("data") / "VOC2012", 4)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, voc: Path) -> tuple[Path, Finished]:
    """Artifacts of one run over the four pictures; not to be written to."""
    artifacts = tmp_path_factory.mktemp("finished") / "artifacts"
    return artifacts, run(artifacts, voc)


@pytest.fixture
def artifacts(tmp_path: Path, finished_once: tuple[Path, Finished]) -> Path:
    """A copy of the finished run's artifacts."""
    return Path(shutil.copytree(finished_once[0], tmp_path / "artifacts"))


def areas(root: Path) -> list[dict[str, Any]]:
    """All rows of the table ``image_areas``."""
    rows = pq.read_table(root / "results" / "image_areas").to_pylist()
    assert rows
    return rows
