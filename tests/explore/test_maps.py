"""Heat, likeness, attention and scores of views, against ``SCLIP`` and slow loops."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sclip_core import SCLIP
from sclip_core.config import UserError
from sclip_core.drawing import poster
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.view import Point, View
from sclip_core.segmentation import Stitcher

from .views import CLASSES, WORDS, copied, explorer_of, map_of, sent_by_page

DEMO = {"short_side": 192, "slide_crop": 48, "slide_stride": 24}
QUERIES = [word.strip() for part in CLASSES for word in part.split(",")]


@pytest.fixture(scope="module")
def explorer(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explorer_of(copied(scenes_runs, tmp_path_factory.mktemp("explored")))


@pytest.fixture(scope="module")
def model() -> SCLIP:
    return SCLIP.load("sclip-demo", "scenes")


@pytest.fixture(scope="module")
def pixels(explorer: Explorer) -> np.ndarray:
    return explorer.collections[0].pixels(explorer.collections[0].ids()[1])


@pytest.fixture
def view(explorer: Explorer, pixels: np.ndarray) -> View:
    """Of an image that was sent: its features are not rounded as those of runs are."""
    collection, image = sent_by_page(explorer, pixels)
    return View(collection=collection, image=image, words=WORDS, pamr_steps=0, **DEMO)


def values_of(answer: Answer) -> np.ndarray:
    about = answer.about
    steps = np.frombuffer(answer.blob, "<u2").reshape(about["shown"])
    return about["low"] + (about["high"] - about["low"]) * steps / 65535


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    step = np.ptp(expected) / 65535
    assert np.abs(found - expected).max() <= step + 1e-5


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("word", ["grass", "lawn", "tree"])
def test_heat_is_that_of_segment(explorer, view, model, pixels, word, steps):
    answer = explorer.heat(view.replace(pamr_steps=steps), word, Task())
    given = {"pamr_steps": steps, **DEMO}
    expected = model.segment(pixels, CLASSES, heat=[word], **given).heat[word]
    close(values_of(answer), expected)
    assert answer.about["word"] == word


def test_heat_of_an_unknown_word_is_refused(explorer, view):
    with pytest.raises(UserError, match="zebra"):
        explorer.heat(view, "zebra", Task())


def test_likeness_is_the_cosine_of_each_patch(explorer, view, model, pixels):
    point = Point(31, 47)
    found = values_of(explorer.likeness(view, point, Task()))
    scene = explorer._scenes.get(view)
    geometry, features = scene.features.geometry, scene.features.values.numpy()
    stitcher = Stitcher(geometry)
    rows, columns = stitcher.rows.numpy(), stitcher.columns.numpy()
    high, wide = geometry.tokens
    mosaic = np.zeros((len(geometry.tops) * high, len(geometry.lefts) * wide, features.shape[-1]))
    for number in range(len(features)):
        top, left = divmod(number, len(geometry.lefts))
        for i in range(high):
            for j in range(wide):
                vector = features[number, i, j]
                mosaic[top * high + i, left * wide + j] = vector / np.linalg.norm(vector)
    own = np.zeros(features.shape[-1])
    for i in range(len(mosaic)):
        for j in range(mosaic.shape[1]):
            own += rows[point.row, i] * columns[point.column, j] * mosaic[i, j]
    cosines = np.array([[own @ v / np.linalg.norm(own) for v in line] for line in mosaic])
    close(found, rows @ cosines @ columns.T)
    assert found[point] == pytest.approx(found.max(), abs=0.2)


def test_attention_is_that_of_the_model(explorer, view, model, pixels):
    answer = explorer.attention(view, Point(60, 20), Task())
    expected = model.attention_of(pixels, (60, 20), **DEMO)
    close(values_of(answer), expected)
    assert 0.5 < answer.about["sum"] <= 1.001


def test_a_method_has_no_attention(explorer, view):
    with pytest.raises(UserError, match="no attention of one block"):
        explorer.attention(view.replace(method="sc-clip"), Point(1, 1), Task())


@pytest.mark.parametrize("method", ["csa", "pearl"])
@pytest.mark.parametrize("steps", [0, 3])
def test_scores_are_the_logits_of_the_model(explorer, view, pixels, steps, method):
    point, other = Point(100, 30), view.replace(pamr_steps=steps, method=method)
    assert explorer.scores(other.replace(logit_scale=11.0), point)["ready"] is False
    labels = map_of(explorer.labels(other, Task()))
    found = explorer.scores(other, point)
    model = SCLIP.load("sclip-demo", "scenes", method=method)
    logits = model.logits(pixels, CLASSES, pamr_steps=steps, **DEMO)[:, 100, 30]
    likely = torch.softmax(40 * logits, dim=0)
    assert found["ready"]
    assert found["refined"] is bool(steps)
    assert found["label"] == CLASSES[labels[point]].split(",")[0]
    scores = {each["word"]: each for each in found["scores"]}
    assert list(scores) == [QUERIES[k] for k in logits.argsort(descending=True).tolist()]
    for k, word in enumerate(QUERIES):
        assert scores[word]["score"] == pytest.approx(float(logits[k]), abs=1e-5)
        assert scores[word]["probability"] == pytest.approx(float(likely[k]), abs=1e-4)
        assert word in CLASSES[scores[word]["class"]]


def test_scores_load_no_model(explorer, view, monkeypatch):
    monkeypatch.setattr(explorer.source, "clip", None)
    assert explorer.scores(view.replace(words="nothing like it"), Point(0, 0)) == {
        "ready": False,
        "label": None,
        "refined": False,
        "scores": [],
    }


def test_a_point_outside_is_refused(explorer, view):
    for ask in (explorer.likeness, explorer.attention):
        with pytest.raises(UserError, match="outside"):
            ask(view, Point(5000, 0), Task())


def test_the_picture_is_that_of_segment(explorer, view, model, pixels):
    answer = explorer.save(view, "picture", "", Task())
    found = model.segment(pixels, CLASSES, **DEMO)
    expected = poster(pixels, found.labels, found.class_names)
    assert answer.about == {"name": "photo.sclip.png", "type": "image/png"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.blob))), np.asarray(expected))


def test_saved_labels_are_values_at_the_original_size(explorer, view, model, pixels):
    many = [f"word {k}" for k in range(300)] + CLASSES
    for words, kind in ((CLASSES, np.uint8), (many, np.uint16)):
        asked = view.replace(words="; ".join(words))
        answer = explorer.save(asked, "labels", "", Task())
        found = np.asarray(Image.open(io.BytesIO(answer.blob)))
        assert found.dtype == kind
        assert np.array_equal(found, map_of(explorer.labels(asked, Task())))
    assert answer.about["name"] == "photo.labels.png"


def test_heat_is_saved_as_a_picture(explorer, view, pixels):
    answer = explorer.save(view, "heat", "house", Task())
    assert Image.open(io.BytesIO(answer.blob)).size == pixels.shape[1::-1]
    with pytest.raises(UserError, match="file"):
        explorer.save(view, "everything", "", Task())
