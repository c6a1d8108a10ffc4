"""The scenes as files: a dataset like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import resolve
from sclip_core.datasets import open_dataset, read_image, read_label
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.demo.scenes.files import write_scenes


def test_written_scenes_are_a_dataset(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    assert write_scenes(root, 3) == 3
    dataset = open_dataset(resolve(dataset="scenes", data_root=root))
    assert [sample.image_id for sample in dataset.samples] == ["0000", "0001", "0002"]
    for number, sample in enumerate(dataset.samples):
        scene = draw_scene(evaluation_rng(number))
        np.testing.assert_array_equal(read_label(sample.label), scene.labels)
        difference = np.abs(read_image(sample.image).astype(int) - scene.image)
        assert difference.mean() < 8  # a JPEG


@pytest.mark.parametrize("missing", ["labels/0001.png", "images/0001.jpg"])
def test_scenes_that_are_there_stay(tmp_path: Path, missing: str) -> None:
    write_scenes(tmp_path, 2)
    (tmp_path / missing).unlink()
    before = (tmp_path / "labels" / "0000.png").stat().st_mtime_ns
    assert write_scenes(tmp_path, 3) == 2
    assert (tmp_path / "labels" / "0000.png").stat().st_mtime_ns == before
    assert write_scenes(tmp_path, 3) == 0
