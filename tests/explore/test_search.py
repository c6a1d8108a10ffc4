"""A search against a slow loop over windows and patches of a model that encodes anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch

from sclip_core import SCLIP
from sclip_core.config import Geometry, Settings, UserError
from sclip_core.explore.desk import Cancelled, Task
from sclip_core.explore.gallery import Collection
from sclip_core.explore.opening import open_collections
from sclip_core.explore.orders import Orders
from sclip_core.explore.search import Searches, encode_missing, pixel_of, strongest
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage


@pytest.fixture(scope="module")
def model() -> SCLIP:
    return SCLIP.load("sclip-demo", "scenes", device="cpu")


@pytest.fixture
def scenes(scenes_runs: Path) -> Collection:
    return open_collections(Settings(artifacts=scenes_runs), own=False).collections[0]


@pytest.fixture
def stage(scenes: Collection) -> DenseFeaturesStage:
    return Pipeline.of(scenes.run).dense_features


def by_hand(
    model: SCLIP, scenes: Collection, words: list[str]
) -> dict[str, tuple[float, int, int]]:
    """The highest cosine in each image and the middle of its patch, one patch after the other."""
    vectors = [model.encode_word(word) for word in words]
    found = {}
    for image_id in scenes.ids():
        pixels = scenes.pixels(image_id)
        refiner = model.refiner(pixels, model.text_bank(words), scenes.settings)
        geometry, best = refiner.geometry, (-np.inf, 0, 0)
        rows, columns = geometry.tokens
        windows = [(top, left) for top in geometry.tops for left in geometry.lefts]
        for (top, left), window in zip(windows, refiner.features, strict=True):
            for r in range(rows):
                for c in range(columns):
                    score = max(float(window[r, c] @ vector) for vector in vectors)
                    if score > best[0]:
                        y = top + (r + 0.5) * geometry.window[0] / rows
                        x = left + (c + 0.5) * geometry.window[1] / columns
                        y *= pixels.shape[0] / geometry.resized[0]
                        x *= pixels.shape[1] / geometry.resized[1]
                        best = score, int(y), int(x)
        found[image_id] = best
    return found


@pytest.mark.parametrize("words", [["cat"], ["grass", "sea"]])
def test_a_search_is_the_slow_loop(scenes, stage, model, words):
    searches = Searches()
    vectors = torch.stack([model.encode_word(word) for word in words])
    answer = searches.search(scenes, stage, ", ".join(words), vectors, Task())
    assert answer.about | {"id": ""} == {
        "id": "",
        "searched": len(scenes),
        "of": len(scenes),
        "skipped_not_encoded": 0,
    }
    expected = by_hand(model, scenes, words)
    page = Orders(scenes, searches.ranking).page(f"search:{answer.about['id']}", "", 0, 100)
    assert page["total"] == len(scenes)
    ranking = sorted(expected, key=lambda image_id: -expected[image_id][0])
    scores = [expected[image_id][0] for image_id in ranking]
    assert [i["score"] for i in page["images"]] == pytest.approx(scores, abs=2e-3)
    assert min(np.diff(scores)) < 0
    for image in page["images"]:
        score, row, column = expected[image["id"]]
        assert image["score"] == pytest.approx(score, abs=2e-3)
        assert image["point"] == [row, column]


def test_images_without_stored_features_are_skipped_and_nothing_is_encoded(
    scenes_runs, tmp_path, monkeypatch
):
    shutil.copytree(scenes_runs.parent, tmp_path / "r", dirs_exist_ok=True)
    artifacts = tmp_path / "r" / "artifacts"
    (scenes,) = open_collections(Settings(artifacts=artifacts), own=False).collections
    stage = Pipeline.of(scenes.run).dense_features
    rows = list(stage.rows().values())
    stage.table.strike(rows[:3])
    monkeypatch.setattr(type(scenes.run.models), "clip", None)  # it would raise
    searches, vector = Searches(), torch.randn(stage.run.models.spec.width)
    about = searches.search(scenes, stage, "x", vector, Task()).about
    assert (about["searched"], about["skipped_not_encoded"]) == (5, 3)
    (artifacts / "digests.jsonl").unlink()
    (again,) = open_collections(Settings(artifacts=artifacts), own=False).collections
    about = Searches().search(again, stage, "x", vector, Task()).about
    assert about["skipped_not_encoded"] == 3  # which image is which was read anew
    (artifacts / "digests.jsonl").unlink()
    monkeypatch.setattr("sclip_core.explore.search.MOST_READ", 10)
    (again,) = open_collections(Settings(artifacts=artifacts), own=False).collections
    about = Searches().search(again, stage, "x", vector, Task()).about
    assert about["skipped_not_encoded"] == 8  # too much to read: it is not known


def test_a_damaged_row_is_skipped(scenes_runs, tmp_path):
    shutil.copytree(scenes_runs.parent, tmp_path / "r", dirs_exist_ok=True)
    artifacts = tmp_path / "r" / "artifacts"
    (scenes,) = open_collections(Settings(artifacts=artifacts), own=False).collections
    stage = Pipeline.of(scenes.run).dense_features
    damaged = stage.table.files_of(next(iter(stage.rows().values())))[0]  # type: ignore[attr-defined]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    vector = torch.randn(stage.run.models.spec.width)
    about = Searches().search(scenes, stage, "x", vector, Task()).about
    assert 1 <= about["skipped_not_encoded"] <= 8
    assert about["searched"] + about["skipped_not_encoded"] == 8


def test_the_order_can_be_asked_for_while_it_runs_and_others_go_first(scenes, stage):
    searches, seen = Searches(), []
    vector = torch.randn(stage.run.models.spec.width)
    lines: list[dict] = []

    def others() -> None:
        seen.append(len(searches.ranking(lines[0]["id"])) if lines else 0)

    searches.search(scenes, stage, "x", vector, Task(lines.append, others))
    assert seen == list(range(1, len(scenes) + 1))
    assert lines[-1]["done"] == lines[-1]["total"] == len(scenes)


def test_a_cancelled_search_goes_on_where_it_was(scenes, stage, monkeypatch):
    searches, vector = Searches(), torch.randn(stage.run.models.spec.width)
    task = Task(let_others=lambda: stopped.append(0) or (len(stopped) == 3 and task.cancel()))
    stopped: list[int] = []
    with pytest.raises(Cancelled):
        searches.search(scenes, stage, "x", vector, task)
    reads = []
    read = type(stage.table).read
    monkeypatch.setattr(type(stage.table), "read", lambda t, row: reads.append(row) or read(t, row))
    about = searches.search(scenes, stage, "x", vector, Task()).about
    assert len(reads) == len(scenes) - 3
    assert len(searches.ranking(about["id"])) == len(scenes)
    searches.search(scenes, stage, "x", vector, Task())
    assert len(reads) == len(scenes) - 3  # all is remembered


def test_searches_that_there_are_not(scenes):
    with pytest.raises(UserError, match=r"is not remembered, .* search again"):
        Orders(scenes, Searches().ranking).page("search:" + "x" * 300, "", 0, 10)


def test_several_threads_read_the_order_of_one_search(scenes, stage):
    searches, stop, errors = Searches(), Event(), []
    vector = torch.randn(stage.run.models.spec.width)
    name = searches.search(scenes, stage, "x", vector, Task()).about["id"]

    def read() -> None:
        try:
            while not stop.is_set():
                assert len(searches.ranking(name)) <= len(scenes)
        except BaseException as error:  # what a thread raises is shown here
            errors.append(error)

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        searches.search(scenes, stage, "x", vector, Task())
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("seed", range(20))
def test_the_strongest_patch_in_fp16_is_that_of_double(seed):
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(500, 64, generator=random)
    values = (values / values.norm(dim=1, keepdim=True) * 10 ** (seed % 3 - 1)).half()
    vectors = torch.randn(1 + seed % 3, 64, generator=random)
    expected = (values.double() @ vectors.double().T).amax(dim=1)
    score, place = strongest(values, vectors)
    assert place == int(expected.argmax())
    assert score == pytest.approx(float(expected.max()), rel=1e-5)
    assert strongest(values.float(), vectors)[1] == place


@pytest.mark.parametrize("size", [(300, 420), (500, 120), (64, 64), (1, 40)])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"slide_crop": 0, "slide_stride": 112},
        {"window_multiple": 64, "slide_crop": 100, "slide_stride": 50},
        {"image_multiple": 32},
        {"tile": True},
    ],
)
def test_the_pixel_of_a_patch_is_where_the_patch_was_cut(size, how):
    try:
        geometry = Geometry.of(*size, Settings(**how), 16)
    except UserError:
        pytest.skip("lower than one patch")
    for number in {0, geometry.num_tokens // 3, geometry.num_tokens - 1}:
        row, column = pixel_of(geometry, number)
        assert 0 <= row < size[0]
        assert 0 <= column < size[1]
        window, inside = divmod(number, geometry.tokens[0] * geometry.tokens[1])
        top = geometry.tops[window // len(geometry.lefts)]
        left = geometry.lefts[window % len(geometry.lefts)]
        for found, start, axis, at in [
            (row, top, 0, inside // geometry.tokens[1]),
            (column, left, 1, inside % geometry.tokens[1]),
        ]:
            scale = geometry.original[axis] / geometry.resized[axis]
            pixel = start + 16 * at - geometry.padding[2 * axis]  # of the resized image
            inside_it = max(pixel, start) * scale - 1, (pixel + 16.5) * scale + 1
            assert inside_it[0] <= found <= max(inside_it[1], start * scale + 1)


def test_encode_encodes_what_lacks_goes_on_after_a_broken_image_and_gives_way(scenes, stage):
    ids, given_way, lines = list(scenes.ids()), [], []
    digests = {image_id: scenes.digest(image_id) for image_id in ids}
    there = {digests[ids[0]]: None, digests[ids[3]]: None}

    class Stub:
        method = None

        def rows(self) -> dict[str, None]:
            return there

    def encode(image_id: str) -> None:
        if image_id == ids[5]:
            raise UserError(f"{image_id} is broken")
        there[digests[image_id]] = None

    task = Task(lines.append, lambda: given_way.append(1))
    about = encode_missing(scenes, Stub(), encode, task).about  # type: ignore[arg-type]
    assert about == {"encoded": 5, "of": 8, "there": 2, "failed": [f"{ids[5]} is broken"],
                     "num_failed": 1}  # fmt: skip
    assert len(given_way) == 8
    assert lines[-1]["encoded"] == 5
    scenes.writable = False
    with pytest.raises(UserError, match="cannot be written"):
        encode_missing(scenes, Stub(), encode, Task())  # type: ignore[arg-type]
