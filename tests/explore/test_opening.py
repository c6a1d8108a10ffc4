"""Collections of a command's own images, and of the runs that are stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from sclip_core.config import Settings, UserError, resolve
from sclip_core.explore.gallery import Collection, find
from sclip_core.explore.opening import open_collections
from sclip_core.results.files import read_runs

from ..conftest import TINY
from ..results.runs import SCENES, made_run

AREAS = [(1, 1, 1)] * 3  # of three classes


def of_runs(artifacts: Path) -> tuple[tuple[Collection, ...], tuple[str, ...]]:
    opening = open_collections(Settings(artifacts=artifacts), own=False)
    return opening.collections, opening.notes


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(["b.png", "a 'quoted' <script>.png", 'sub"dir/ö.png']):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((20 + k, 30, 3), 40 * k, np.uint8))
    return folder


def test_runs_on_the_same_data_by_the_same_model_are_one_collection(scenes_runs):
    (scenes,), notes = of_runs(scenes_runs)
    assert not notes
    assert (scenes.id, scenes.title, len(scenes)) == ("scenes", "scenes", SCENES)
    newest_first = [row["run_id"] for row in read_runs(scenes_runs)]
    assert [row["run_id"] for row in scenes.runs] == newest_first
    assert scenes.settings.mode == "dense"
    assert scenes.vocabulary is not None
    assert scenes.vocabulary.num_classes == 15
    assert scenes.has_truth


def test_its_images_are_those_that_the_runs_read(scenes_runs):
    (scenes,), _ = of_runs(scenes_runs)
    image_id = scenes.ids()[2]
    pixels = scenes.pixels(image_id)
    expected = cv2.cvtColor(cv2.imread(str(scenes.file(image_id))), cv2.COLOR_BGR2RGB)
    assert np.array_equal(pixels, expected)
    assert scenes.size(image_id) == pixels.shape[:2]
    truth = scenes.truth(image_id)
    assert truth is not None
    assert truth.shape == pixels.shape[:2]
    assert scenes.remembered([image_id]) == [scenes.digest(image_id)]


def test_features_in_the_store_are_found_by_the_collection(scenes_runs):
    from sclip_core.pipeline.pipeline import Pipeline

    (scenes,), _ = of_runs(scenes_runs)
    stage = Pipeline.of(scenes.run).dense_features
    assert set(scenes.remembered(scenes.ids())) == set(stage.rows())


def test_a_run_over_one_image_reads_no_other(scenes_runs, monkeypatch):
    (scenes,), _ = of_runs(scenes_runs)
    image_id = scenes.ids()[1]
    run = scenes.run_of([image_id], scenes.settings)
    assert list(run.inputs.image_ids) == [scenes.digest(image_id)]
    assert run.models is scenes.run.models
    assert len(run.inputs.dataset) == 1
    assert len(scenes.run.inputs.dataset) == SCENES


def test_data_or_weights_that_are_gone_leave_runs_out_and_say_so(scenes_runs, tmp_path):
    artifacts = tmp_path / "artifacts"
    shutil.copytree(scenes_runs, artifacts)
    made_run(artifacts, "own-gone", {"a": AREAS}, images=str(tmp_path / "no folder"))
    made_run(
        artifacts,
        "own-weights",
        {"a": AREAS},
        images=str(scenes_runs.parent / "scenes/images"),
        classes="sky; grass",
        pretrained="/nowhere/weights.pt",
        age=1,
    )
    collections, notes = of_runs(artifacts)
    assert [each.id for each in collections] == ["scenes"]
    assert len(notes) == 2
    assert all("left out" in line and "\n" not in line for line in notes)


def test_nothing_to_explore_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="sclip explore --images DIR"):
        of_runs(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    made_run(tmp_path / "a", "own-1", {"a": AREAS}, data_root="/nowhere", dataset="voc21")
    with pytest.raises(UserError, match="sclip explore --images DIR"):
        of_runs(tmp_path / "a")


def test_a_store_is_explored_from_another_folder(scenes_runs, tmp_path, monkeypatch):
    shutil.copytree(scenes_runs.parent, tmp_path / "there", dirs_exist_ok=True)
    artifacts = tmp_path / "there" / "artifacts"
    made_run(artifacts, "rel-1", {"0000": AREAS}, dataset="rel", images="scenes/images",
             classes="sky; grass", **TINY)  # fmt: skip
    monkeypatch.chdir(tmp_path)
    collections, _ = of_runs(artifacts)
    assert len(find(collections, "rel")) == SCENES


def test_images_of_a_command_need_no_words(photo_folder, tmp_path):
    settings = resolve(images=photo_folder, artifacts=tmp_path / "artifacts", **TINY)
    (photos,) = open_collections(settings, own=True).collections
    assert photos.id == "photos"
    assert photos.vocabulary is None
    assert not photos.has_truth
    assert sorted(photos.ids()) == sorted(["b", "a 'quoted' <script>", 'sub"dir/ö'])
    assert photos.truth("b") is None
    assert photos.size('sub"dir/ö') == (22, 30)
    assert photos.remembered(["b"]) == [None]
    assert photos.remembered(["b"]) == [None]  # asking computes nothing
    digest = photos.digest("b")
    assert photos.remembered(["b"]) == [digest]
    with pytest.raises(UserError, match="no image"):
        photos.file("../../etc/passwd")


def test_a_command_finds_the_runs_on_its_images(scenes_runs):
    first = read_runs(scenes_runs)[0]
    settings = resolve(preset="demo", dataset="scenes", data_root=first["data_root"],
                       artifacts=scenes_runs)  # fmt: skip
    (scenes,) = open_collections(settings, own=True).collections
    assert len(scenes.runs) == 4
    other = settings.replace(**TINY)
    assert open_collections(other, own=True).collections[0].runs == []


def test_two_models_on_one_data_are_two_collections(scenes_runs, tmp_path):
    artifacts = tmp_path / "artifacts"
    images = str(scenes_runs.parent / "scenes/images")
    common = {"images": images, "classes": "sky; grass", "dataset": "holiday"}
    made_run(artifacts, "holiday-1", {"0000": AREAS}, **common, **TINY)
    made_run(artifacts, "holiday-2", {"0000": AREAS}, **common, age=1, model="sclip-demo",
             pretrained="scenes")  # fmt: skip
    first, second = of_runs(artifacts)[0]
    assert [row["run_id"] for row in first.runs] == ["holiday-1"]
    assert first.settings.model == TINY["model"]
    assert second.id == "holiday-sclip-demo-scenes"
    assert first.id != second.id


def test_threads_may_ask_at_the_same_time(scenes_runs):
    (scenes,), _ = of_runs(scenes_runs)
    found: list[tuple[int, ...]] = []

    def ask() -> None:
        for image_id in scenes.ids():
            found.append(scenes.size(image_id))
            assert scenes.digest(image_id)

    threads = [Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 * SCENES
