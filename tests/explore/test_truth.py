"""Ground truth as it is sent, and search and encoding through what the server calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import Settings, UserError, resolve
from sclip_core.explore.desk import Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.opening import open_collections
from sclip_core.explore.truth import truth_answer
from sclip_core.explore.view import View

from ..conftest import TINY


@pytest.fixture
def explorer(scenes_runs: Path, tmp_path: Path) -> Explorer:
    shutil.copytree(scenes_runs.parent, tmp_path / "runs", dirs_exist_ok=True)
    return Explorer.open(Settings(artifacts=tmp_path / "runs" / "artifacts"), own=False)


def by_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel by itself."""
    found = np.zeros(size, values.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            row = int((y + 0.5) * values.shape[0] / size[0])
            found[y, x] = values[row, int((x + 0.5) * values.shape[1] / size[1])]
    return found


@pytest.fixture
def own(tmp_path: Path):
    """Images with three classes and ignored pixels, one of them with a smaller map."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    values = np.random.default_rng(0).choice([0, 1, 2, 255], (1200, 2000)).astype(np.uint8)
    for name, labels in [("a", values), ("half", values[::2, ::2])]:
        Image.fromarray(np.zeros((1200, 2000, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
        Image.fromarray(labels).save(tmp_path / f"labels/{name}.png")
    (tmp_path / "images/broken.png").write_bytes((tmp_path / "images/a.png").read_bytes())
    (tmp_path / "labels/broken.png").write_bytes(b"nothing")
    settings = resolve(images=tmp_path / "images", labels=tmp_path / "labels", dataset="holiday",
                       classes="sky; grass, lawn; cat", artifacts=tmp_path / "artifacts",
                       **TINY)  # fmt: skip
    return open_collections(settings, own=True).collections[0], values


def test_truth_is_sent_at_the_shown_size_by_its_nearest_pixels(own):
    collection, values = own
    answer = truth_answer(collection, View(collection=collection.id, image="a"))
    height, width = answer.about["shown"]
    assert 1_900_000 < height * width <= 2_000_000
    sent = np.frombuffer(answer.blob, "<u2").reshape(height, width)
    expected = values.astype(np.uint16)
    expected[values == 255] = 65535
    assert np.array_equal(sent[:40], by_nearest(expected, (height, width))[:40])
    assert np.array_equal(sent[-9:], by_nearest(expected, (height, width))[-9:])
    assert [each["name"] for each in answer.about["classes"]] == ["sky", "grass", "cat"]
    assert answer.about["classes"][1]["words"] == ["grass", "lawn"]
    shares = [100 * float((values == k).mean()) for k in range(3)]
    assert [e["share"] for e in answer.about["classes"]] == pytest.approx(shares, abs=1e-2)
    assert answer.about["comparable"]


@pytest.mark.parametrize(
    ("image", "words", "comparable"),
    [
        ("a", "sky; grass, lawn; cat", True),
        ("a", "sky; grass; cat", False),
        ("a", "", False),
        ("half", None, False),
    ],
)
def test_labels_are_comparable_where_words_and_sizes_are_those_of_the_truth(
    own, image, words, comparable
):
    collection, _ = own
    answer = truth_answer(collection, View(collection=collection.id, image=image, words=words))
    assert answer.about["comparable"] is comparable
    assert len(answer.blob) == 2 * int(np.prod(answer.about["shown"]))


def test_truth_that_is_not_there_is_one_line(own, tmp_path):
    collection, _ = own
    with pytest.raises(UserError, match="broken"):
        truth_answer(collection, View(collection=collection.id, image="broken"))
    plain = resolve(images=tmp_path / "images", artifacts=tmp_path / "artifacts", **TINY)
    (alone,) = open_collections(plain, own=True).collections
    with pytest.raises(UserError, match="no ground truth"):
        truth_answer(alone, View(collection=alone.id, image="a"))


def test_the_explorer_searches_encodes_and_searches_again(explorer):
    artifacts = explorer.collections[0].settings.local_artifacts
    given = {"preset": "demo", "dataset": "scenes", "data_root": artifacts.parent / "scenes"}
    explorer = Explorer.open(resolve(**given, artifacts=artifacts), own=True)  # a copy, to break
    (scenes,) = explorer.collections
    view, ids = View(collection="scenes"), list(scenes.ids())
    assert [scenes.digest(image_id) for image_id in ids] == scenes.remembered(ids)
    stage = explorer.source.pipeline(scenes, scenes.settings).dense_features
    whole = explorer.search(view, "cat", Task()).about
    best = explorer.images("scenes", f"search:{whole['id']}", "", 0, 10)
    stage.table.strike([stage.rows()[scenes.digest(i)] for i in ids[:2]])
    assert [i["encoded"] for i in explorer.images("scenes", "name", "", 0, 3)["images"]] == [
        False,
        False,
        True,
    ]
    other = Explorer(tuple(explorer.collections))
    about = other.search(view, "cat", Task()).about
    assert (about["searched"], about["skipped_not_encoded"]) == (6, 2)
    scenes.file(ids[1]).write_bytes(b"broken")  # type: ignore[union-attr]
    lines: list[dict] = []
    encoded = other.encode(view, Task(lines.append)).about
    assert (encoded["encoded"], encoded["there"], encoded["num_failed"]) == (1, 6, 1)
    assert lines[-1]["done"] == lines[-1]["total"] == 8
    assert scenes.digest(ids[0]) in stage.rows()
    again = other.search(view, "cat", Task()).about
    assert again["searched"] == 7
    found = other.images("scenes", f"search:{again['id']}", "", 0, 10)["images"]
    expected = [i for i in best["images"] if i["id"] != ids[1]]
    assert [i["id"] for i in found] == [i["id"] for i in expected]
    assert [i["score"] for i in found] == pytest.approx([i["score"] for i in expected], abs=1e-3)


def test_synonyms_are_searched_together(explorer):
    view, scores = View(collection="scenes"), {}
    for word in ("grass", "sea", "grass, sea"):
        about = explorer.search(view, word, Task()).about
        page = explorer.images("scenes", f"search:{about['id']}", "", 0, 10)
        scores[word] = {i["id"]: i["score"] for i in page["images"]}
    for image, score in scores["grass, sea"].items():
        assert score == max(scores["grass"][image], scores["sea"][image])


def test_a_word_that_the_model_does_not_know_has_a_note(explorer):
    view = View(collection="scenes")
    assert explorer.search(view, "sea", Task()).about["notes"] == []
    assert explorer.search(view, "zeppelin", Task()).about["notes"]


def test_a_search_with_other_windows_finds_nothing_stored(explorer):
    view = View(collection="scenes", short_side=64)
    assert explorer.search(view, "cat", Task()).about["skipped_not_encoded"] == 8


def test_what_cannot_be_searched_or_encoded_is_one_line(explorer):
    with pytest.raises(UserError, match="no words"):
        explorer.search(View(collection="scenes"), " ; ", Task())
    with pytest.raises(UserError, match="unknown collection"):
        explorer.search(View(collection="../x"), "cat", Task())
    explorer.collections[0].writable = False
    with pytest.raises(UserError, match="cannot be written"):
        explorer.encode(View(collection="scenes"), Task())
