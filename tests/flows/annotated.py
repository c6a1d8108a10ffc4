"""A set with annotations in place of label maps, for the tests of what is wrong with them."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sclip_core.datasets import read_label

from .conftest import flags

H, W = 48, 64  # of the images of ``small``
HORIZON = 24
CATEGORIES = [{"id": 1, "name": "sky"}, {"id": 2, "name": "grass"}, {"id": 9, "name": "road"}]
SKY, GRASS = [0, 0, W, 0, W, HORIZON, 0, HORIZON], [0, HORIZON, W, HORIZON, W, H, 0, H]
ROAD = [20, 30, 40, 30, 40, 44, 20, 44]
RIGHT = np.where(np.arange(H)[:, None] < HORIZON, 0, 1).repeat(W, 1)
RIGHT[30:44, 20:40] = 2
IGNORED = 255


def bbox(ring: list[int]) -> list[int]:
    left, top, right, bottom = min(ring[::2]), min(ring[1::2]), max(ring[::2]), max(ring[1::2])
    return [left, top, right - left, bottom - top]


@pytest.fixture
def own(small: Path, tmp_path: Path) -> Path:
    """A copy of the set, whose images a test may change."""
    return Path(shutil.copytree(small, tmp_path / "own"))


@pytest.fixture
def coco(own: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write an instance file; ``change`` is given its annotations, of image 1 first."""

    def write(change: Callable[[list[Any]], object] = len, **other: Any) -> Path:
        names = sorted(path.name for path in (own / "images").iterdir())
        images = [
            {"id": n, "file_name": name, "height": H, "width": W} for n, name in enumerate(names, 1)
        ]
        shapes = [
            {"image_id": n, "category_id": c, "segmentation": [ring], "bbox": bbox(ring)}
            for n in range(1, len(names) + 1)
            for c, ring in ((1, SKY), (2, GRASS), (9, ROAD))
        ]
        annotations = [{"id": k, "iscrowd": 0, **one} for k, one in enumerate(shapes, 1)]
        change(annotations)
        found = {"images": images, "annotations": annotations, "categories": CATEGORIES, **other}
        path = tmp_path / "set.json"
        path.write_text(json.dumps(copy.deepcopy(found)))
        return path

    return write


@pytest.fixture
def run(own: Path, sclip: Any, tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    def command(labels: Path, *more: str) -> tuple[int, list[str]]:
        given = flags(own, tmp_path / "artifacts", labels=labels)
        code, _, err = sclip("run", "--direct", *given, *more)
        return code, err.splitlines()

    return command


def drawn(tmp_path: Path, image: str = "0") -> np.ndarray:
    (path,) = (tmp_path / "artifacts" / "ground_truth").glob(f"*/{image}.png")
    return read_label(path)


def images_scored(tmp_path: Path) -> int:
    (row,) = pq.read_table(tmp_path / "artifacts" / "results" / "runs").to_pylist()
    return int(row["num_images"])


def labelme(path: Path, *shapes: tuple[str, list[int]]) -> None:
    entries = [
        {"label": name, "shape_type": "polygon", "points": np.reshape(ring, (-1, 2)).tolist()}
        for name, ring in shapes
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"shapes": entries, "imageHeight": H, "imageWidth": W}))


def changed(index: int, **fields: Any) -> Callable[[list[Any]], object]:
    return lambda annotations: annotations[index].update(fields)
