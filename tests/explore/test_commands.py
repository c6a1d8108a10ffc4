"""Commands and lines of Python of views: executed, they give the same label map."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from flows import cli
from sclip_core.config import resolve
from sclip_core.explore.desk import Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.gallery import Collection
from sclip_core.explore.view import View, settings_of
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run

from .views import WORDS, copied, explorer_of, map_of, view_of

VIEWS: list[dict[str, Any]] = [
    {},
    {"pamr_steps": 3, "prob_thd": 0.4, "logit_scale": 9.5},
    {"method": "naclip", "slide_stride": 48},
    {"method": "pearl", "pamr_steps": 0},
    {"method": "itaclip", "pamr_steps": 2, "pamr_dilations": "2,4", "area_thd": 0.1},
]


@pytest.fixture(scope="module")
def explorer(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explorer_of(copied(scenes_runs, tmp_path_factory.mktemp("explored")))


def same(found: np.ndarray, expected: np.ndarray, least: float = 0.9999) -> None:
    assert float((found == expected).mean()) >= least


def python_of(text: str) -> np.ndarray:
    assert len(text.splitlines()) == 3
    scope: dict[str, Any] = {}
    exec(text, scope)
    return np.asarray(scope["found"].labels)


@pytest.mark.parametrize("values", VIEWS, ids=lambda values: values.get("method", "csa"))
def test_the_command_of_a_collection_makes_the_same_labels(explorer, values, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    collection: Collection = explorer.collections[0]
    view = view_of(explorer, 1, **{"pamr_steps": 0, **values})
    found = explorer.commands(view)
    line = shlex.split(found["command"])
    assert line[:2] == ["sclip", "run"]
    expected = map_of(explorer.labels(view, Task()))
    assert cli.main([*line[1:], "--direct"]) == 0
    run = Run(settings_of(view, collection.settings))
    stage = Pipeline.of(run).refine
    rows = stage.rows()
    assert len(rows) == len(collection)  # those of the command have this key
    same(stage.read(rows[collection.digest(view.image)]), expected)
    same(python_of(found["python"]), expected, 0.999)  # features of attentions are not rounded


def test_the_command_of_other_words_segments_the_image(explorer, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    view = view_of(explorer, 2, words="it's grass, lawn; sky; tree", pamr_steps=2, method="sc-clip")
    found = explorer.commands(view)
    line = shlex.split(found["command"])
    assert line[:2] == ["sclip", "segment"]
    assert cli.main([*line[1:], "-o", "picture.png"]) == 0
    written = np.asarray(Image.open(line[line.index("--labels-out") + 1]))
    expected = map_of(explorer.labels(view, Task()))
    same(written, expected)
    same(python_of(found["python"]), expected)


def test_the_command_of_an_upload_segments_a_file_of_its_name(explorer, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pixels = explorer.collections[0].pixels(explorer.collections[0].ids()[3])
    cv2.imwrite("my photo.png", pixels[..., ::-1])
    sent = explorer.upload("my photo.png", Path("my photo.png").read_bytes())
    view = View(**sent, words=WORDS, pamr_steps=0)
    found = explorer.commands(view)
    line = shlex.split(found["command"])
    assert cli.main([*line[1:], "-o", "picture.png"]) == 0
    written = np.asarray(Image.open("my photo.labels.png"))
    expected = map_of(explorer.labels(view, Task()))
    same(written, expected, 1)
    same(python_of(found["python"]), expected, 1)


def test_only_what_differs_is_named(tmp_path):
    images = tmp_path / "my photos"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    settings = resolve(
        images=images, model="sclip-demo", pretrained="scenes", artifacts=tmp_path / "a"
    )
    explorer = Explorer.open(settings, own=True)
    view = View(collection=explorer.collections[0].id, image="a", words="sky; grass, lawn")
    assert explorer.commands(view)["command"] == (
        f"sclip run --images '{images}' --classes 'sky; grass, lawn' --model sclip-demo "
        f"--pretrained scenes --artifacts {tmp_path}/a"
    )
