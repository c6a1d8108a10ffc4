"""Labels of views: those of ``SCLIP.segment`` and of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sclip_core import SCLIP
from sclip_core.config import UserError, resolve
from sclip_core.explore import labels as labels_module
from sclip_core.explore import refined as refined_module
from sclip_core.explore.desk import Cancelled, Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.kept import Kept
from sclip_core.explore.view import Point, View, settings_of
from sclip_core.explore.words import parsed
from sclip_core.pipeline import filling
from sclip_core.pipeline.pipeline import Pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.segmentation import backends
from sclip_core.segmentation.backends.numba_lattice import WeightedLattice
from sclip_core.segmentation.backends.numba_pamr import WeightedImage
from sclip_core.store.files import DiskError

from .views import (
    CLASSES,
    WORDS,
    CancelledAfter,
    copied,
    explorer_of,
    map_of,
    sent_by_page,
    view_of,
)

DEMO = {"short_side": 192, "slide_crop": 48, "slide_stride": 24}
METHODS = ("csa", "naclip", "sc-clip", "pearl", "itaclip")
THRESHOLDS = ({}, {"prob_thd": 0.3, "area_thd": 0.15, "logit_scale": 12.0})


@pytest.fixture(scope="module")
def artifacts(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(scenes_runs, tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def explorer(artifacts: Path) -> Explorer:
    return explorer_of(artifacts)


@pytest.fixture
def iterations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of PAMR that are made, chunk by chunk."""
    made: list[int] = []
    iterate, refine = WeightedImage.iterate, WeightedLattice.refine

    def counted(self: WeightedImage, buffers: Any, steps: int) -> Any:
        made.append(steps)
        return iterate(self, buffers, steps)

    def refined(self: WeightedLattice, tasks: Any) -> None:
        refine(self, tasks)
        made.extend(task.steps for task in tasks)

    monkeypatch.setattr(WeightedImage, "iterate", counted)
    monkeypatch.setattr(WeightedLattice, "refine", refined)
    return made


def same(found: np.ndarray, expected: np.ndarray, steps: int) -> None:
    """All pixels without PAMR; with it 99.99 % of them, as sums are taken in another order."""
    share = float((found == expected).mean())
    assert share == 1 if not steps else share >= 0.9999


@pytest.mark.parametrize("thresholds", THRESHOLDS, ids=["plain", "thresholds"])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("method", METHODS)
def test_labels_of_an_upload_are_those_of_segment(explorer, method, steps, thresholds):
    pixels = explorer.collections[0].pixels(explorer.collections[0].ids()[1])
    collection, image = sent_by_page(explorer, pixels)
    given = {"pamr_steps": steps, **DEMO, **thresholds}
    view = View(collection=collection, image=image, words=WORDS, method=method, **given)
    answer = explorer.labels(view, Task())
    model = SCLIP.load("sclip-demo", "scenes", method=method)
    expected = model.segment(pixels, CLASSES, **given).labels
    same(map_of(answer), expected, steps)
    counts = np.bincount(expected.ravel(), minlength=len(CLASSES)) / expected.size
    shares = [each["share"] for each in answer.about["classes"]]
    assert np.allclose(shares, 100 * counts, atol=0.02)
    assert answer.about["score"] is None


@pytest.mark.parametrize("steps", [0, 3])
def test_labels_of_a_run_are_those_that_it_stored(explorer, steps):
    collection = explorer.collections[0]
    view = view_of(explorer, pamr_steps=steps)
    run = Run(settings_of(view, collection.settings))
    stage = Pipeline.of(run).refine
    rows = stage.rows()
    assert len(rows) == len(collection)
    for image in collection.ids()[:3]:
        answer = explorer.labels(view.replace(image=image), Task())
        same(map_of(answer), stage.read(rows[collection.digest(image)]), steps)
        assert answer.about["encoded"] == "stored"


def test_damaged_features_are_computed_and_stored_again(scenes_runs, tmp_path):
    artifacts = copied(scenes_runs, tmp_path)
    before = explorer_of(artifacts)
    view = view_of(before, pamr_steps=0)
    expected = map_of(before.labels(view, Task()))
    chunks = list((artifacts / "dense_features").glob("*/segments/*/c/*/*"))
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(chunk.read_bytes()[:-9])
    answer = explorer_of(artifacts).labels(view, Task())
    assert answer.about["encoded"] == "now"
    same(map_of(answer), expected, 0)
    assert explorer_of(artifacts).labels(view, Task()).about["encoded"] == "stored"


def test_what_is_encoded_is_what_a_run_stores(scenes_runs, tmp_path, windows):
    explorer = explorer_of(copied(scenes_runs, tmp_path))
    collection, image = explorer.collections[0], explorer.collections[0].ids()[2]
    maps = {}
    for method in ("naclip", "sc-clip"):
        answer = explorer.labels(view_of(explorer, 2, method=method, pamr_steps=0), Task())
        assert answer.about["encoded"] == "now"
        maps[method] = map_of(answer)
    windows.clear()
    again = explorer_of(tmp_path / "artifacts")
    for method in maps:
        view = view_of(again, 2, method=method, pamr_steps=0)
        assert again.image(collection.id, image)["encoded"]
        assert again.labels(view, Task()).about["encoded"] == "stored"
        settings = settings_of(view, collection.settings)
        run = Run(settings)
        run_pipelines([run])
        stages = Pipeline.of(run)
        assert run.journal.outcomes["dense_features"].cached == 1
        stored = stages.refine.read(stages.refine.rows()[collection.digest(image)])
        assert np.array_equal(stored, maps[method])


def test_the_score_is_that_of_the_run(explorer):
    collection = explorer.collections[0]
    answer = explorer.labels(view_of(explorer, 3, pamr_steps=0), Task())
    truth = collection.truth(collection.ids()[3])
    labels, ious = map_of(answer).astype(int), {}
    names = collection.vocabulary.class_names
    for k, name in enumerate(names):
        mine, right = (labels == k) & (truth >= 0), truth == k
        if (mine | right).any():
            ious[name] = 100 * (mine & right).sum() / (mine | right).sum()
    score = answer.about["score"]
    assert {each["name"]: each["iou"] for each in score["classes"]} == pytest.approx(ious, abs=0.01)
    assert score["miou"] == pytest.approx(np.mean(list(ious.values())), abs=0.01)


def test_a_threshold_decides_again_from_what_is_kept(explorer, iterations):
    given = {"words": WORDS, "pamr_steps": 4, "logit_scale": 12.0}
    explorer.labels(view_of(explorer, 4, **given), Task())
    iterations.clear()
    for thresholds in ({"prob_thd": 0.3}, {"prob_thd": 0.5, "area_thd": 0.1}, {"area_thd": 0.2}):
        found = map_of(explorer.labels(view_of(explorer, 4, **given, **thresholds), Task()))
        assert not iterations
        fresh = explorer_of(explorer.collections[0].settings.artifacts)
        expected = map_of(fresh.labels(view_of(fresh, 4, **given, **thresholds), Task()))
        assert np.array_equal(found, expected)
        iterations.clear()


@pytest.mark.parametrize("dilations", ["8,16", "3,5"], ids=["parts", "whole"])
def test_more_steps_go_on_from_fewer(explorer, iterations, dilations):
    given = {"words": WORDS, "pamr_dilations": dilations}
    explorer.labels(view_of(explorer, 5, pamr_steps=3, **given), Task())
    iterations.clear()
    found = explorer.labels(view_of(explorer, 5, pamr_steps=5, **given), Task())
    assert sum(iterations) == 2
    fresh = explorer_of(explorer.collections[0].settings.artifacts)
    expected = fresh.labels(view_of(fresh, 5, pamr_steps=5, **given), Task())
    assert np.array_equal(map_of(found), map_of(expected))


@pytest.mark.parametrize("more", [0, 3], ids=["at once", "in two goes"])
def test_part_by_part_logits_and_labels_are_those_of_whole_images(explorer, monkeypatch, more):
    """With more words than are refined together, whose last ones are only filled up."""
    words = "; ".join([WORDS, *(f"word {number}" for number in range(38))])
    logits, maps = [], []
    for parts in (True, False):
        monkeypatch.setattr(refined_module, "_takes_parts", lambda refiner, of=parts: of)
        each = explorer_of(explorer.collections[0].settings.artifacts)
        if more:
            each.labels(view_of(each, 5, words=words, pamr_steps=7 - more), Task())
        view = view_of(each, 5, words=words, pamr_steps=7)
        maps.append(map_of(each.labels(view, Task())))
        logits.append(each.labeller.logits.get((*each._scenes.get(view).of_refined, 7)))
    one, other = logits
    assert one.queries > refined_module.CHUNK
    assert one.queries % 8
    assert not one.values[..., one.queries :].any()
    np.testing.assert_allclose(one.tensor(), other.tensor(), atol=5e-6, rtol=0)
    np.testing.assert_array_equal(*maps)


def test_only_new_words_are_refined(explorer, iterations):
    steps = {"pamr_steps": 4, "slide_stride": 12}
    explorer.labels(view_of(explorer, 5, words=WORDS, **steps), Task())
    iterations.clear()
    for words, made in (
        ("box; tree; sky, clouds; house", 4),  # of which box is new
        ("tree; sky", 0),
    ):
        view = view_of(explorer, 5, words=words, **steps)
        found = explorer.labels(view, Task())
        assert sum(iterations) == made
        fresh = explorer_of(explorer.collections[0].settings.artifacts)
        same(map_of(found), map_of(fresh.labels(view, Task())), 4)
        logits = [
            each.labeller.logits.get((*each._scenes.get(view).of_refined, 4)).tensor()
            for each in (explorer, fresh)
        ]
        assert np.allclose(*logits, atol=1e-6)
        iterations.clear()


@pytest.mark.parametrize("method", ["csa", "pearl"])
def test_without_numba_the_labels_are_the_same(explorer, artifacts, monkeypatch, method):
    others, usual = explorer_of(artifacts), backends.decides_by_numba
    monkeypatch.setattr(backends, "decides_by_numba", lambda device: False)
    for steps in (0, 2, 3):
        view = view_of(explorer, 2, words=WORDS, pamr_steps=steps, method=method, prob_thd=0.2)
        found = map_of(others.labels(view, Task()))
        scores = others.scores(view, Point(30, 40))
        with monkeypatch.context() as patch:
            patch.setattr(backends, "decides_by_numba", usual)
            same(found, map_of(explorer.labels(view, Task())), 1)
            expected = explorer.scores(view, Point(30, 40))
        assert scores["label"] == expected["label"]
        for one, other in zip(scores["scores"], expected["scores"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_pamr_is_cancelled_between_two_steps(explorer, iterations):
    view = view_of(explorer, 6, words=WORDS, pamr_steps=50, pamr_dilations="3,5")
    with pytest.raises(Cancelled):
        explorer.labels(view, CancelledAfter(4))
    assert sum(iterations) <= 4
    iterations.clear()
    assert explorer.labels(view, Task()).about["seconds"]["pamr"] > 0
    assert sum(iterations) == 50


def test_pamr_is_cancelled_between_two_passes_over_parts(explorer, iterations):
    view = view_of(explorer, 6, words=WORDS, pamr_steps=40)
    for lines in range(4):  # the weights, and the outer and inner parts
        with pytest.raises(Cancelled):
            explorer.labels(view, CancelledAfter(lines))
        assert not iterations
    assert explorer.labels(view, Task()).about["seconds"]["pamr"] > 0
    assert sum(iterations) == 40


def test_logits_that_do_not_fit_in_memory_can_be_cancelled_too(explorer, iterations, monkeypatch):
    view = view_of(explorer, 7, words=WORDS, pamr_steps=6)
    expected = map_of(explorer.labels(view, Task()))
    fresh = explorer_of(explorer.collections[0].settings.artifacts)
    fresh.labeller.logits.most = 1
    iterations.clear()
    with pytest.raises(Cancelled):
        fresh.labels(view, CancelledAfter(2))
    assert not fresh.labeller.maps
    assert np.array_equal(map_of(fresh.labels(view, Task())), expected)
    assert not fresh.labeller.logits


def test_read_only_artifacts_stay_as_they_are(scenes_runs, tmp_path, monkeypatch):
    explorer = explorer_of(copied(scenes_runs, tmp_path))

    def refused(root: object) -> None:
        raise DiskError("read-only")

    monkeypatch.setattr(filling, "writable", refused)
    before = {path for path in (tmp_path / "artifacts" / "dense_features").rglob("*")}
    view = view_of(explorer, method="naclip", pamr_steps=0)
    first = explorer.labels(view, Task())
    assert first.about["encoded"] == "now"
    other = view.replace(words=WORDS)
    assert explorer.labels(other, Task()).about["encoded"] == "memory"
    assert {path for path in (tmp_path / "artifacts" / "dense_features").rglob("*")} == before
    monkeypatch.undo()
    again = explorer_of(tmp_path / "artifacts").labels(view, Task())
    assert np.array_equal(map_of(first), map_of(again))  # rounded as it would be stored


def test_a_method_that_needs_masks_is_refused(explorer):
    with pytest.raises(UserError, match="needs masks"):
        explorer.labels(view_of(explorer, method="corrclip"), Task())


def test_large_pictures_are_decided_at_full_size_and_sent_smaller(explorer, monkeypatch):
    from sclip_core.explore import view as view_module

    whole = map_of(explorer.labels(view_of(explorer, words=WORDS), Task()))
    monkeypatch.setattr(view_module, "LARGEST_SHOWN", whole.size // 4)
    answer = explorer.labels(view_of(explorer, words=WORDS), Task())
    small = map_of(answer)
    assert small.size <= whole.size // 4
    for row in range(0, small.shape[0], 7):
        for column in range(0, small.shape[1], 7):
            y = int((row + 0.5) * whole.shape[0] / small.shape[0])
            x = int((column + 0.5) * whole.shape[1] / small.shape[1])
            assert small[row, column] == whole[y, x]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat; ", (("cat",),)),
        ("cat, ; grass", (("cat",), ("grass",))),
        (" ; cat,kitten,cat;;grass\nsky", (("cat", "kitten"), ("grass",), ("sky",))),
        ("cat; dog; cat", (("cat",), ("dog",))),
    ],
)
def test_half_typed_lists_are_read(text, words):
    assert parsed(text).vocabulary.words == words


def test_a_list_names_no_file(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("secret")
    assert parsed(str(file)).vocabulary.class_names == (str(file),)


def test_words_that_the_model_cannot_tell_apart_are_a_note(explorer):
    answer = explorer.labels(view_of(explorer, words="sky; Sky"), Task())
    assert any("same words" in line for line in answer.about["notes"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pamr_steps": 51}, "pamr_steps"),
        ({"pamr_dilations": "8;16"}, "pamr_dilations.*whole numbers, such as 8,16"),
        ({"prob_thd": 1.5}, "prob_thd"),
        ({"words": "x" * 50_000}, "words"),
        ({"short_side": "336"}, "short_side"),
        ({"path": "/etc"}, "path"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(values, said):
    with pytest.raises(UserError, match=said) as refused:
        View.checked({"collection": "scenes", **values})
    assert "\n" not in str(refused.value)


def test_unknown_names_are_refused(explorer):
    with pytest.raises(UserError, match="image"):
        explorer.labels(view_of(explorer).replace(image="nope"), Task())
    with pytest.raises(UserError, match="collection"):
        explorer.labels(View(collection="nope"), Task())
    with pytest.raises(UserError, match="method"):
        explorer.labels(view_of(explorer, method="nope"), Task())


def test_what_is_kept_is_bounded():
    kept: Kept[str] = Kept(10)
    for name in "abc":
        kept.put(name, name, 4)
    assert [key for key, _ in kept.items()] == ["c", "b"]
    assert kept.get("b") == "b"
    kept.put("d", "d", 4)
    assert [key for key, _ in kept.items()] == ["d", "b"]
    kept.put("large", "large", 11)
    assert kept.get("large") is None
    kept.put("d", "d", 9)
    assert (len(kept), kept.bytes) == (1, 9)


def test_the_bounds_of_an_explorer_hold(artifacts, monkeypatch):
    monkeypatch.setattr(labels_module, "LOGITS", 2_000_000)
    explorer = explorer_of(artifacts)
    for steps in range(1, 8):
        explorer.labels(view_of(explorer, words="sky; grass", pamr_steps=steps), Task())
        assert explorer.labeller.logits.bytes <= 2_000_000


def test_a_method_brings_what_sclip_run_brings(explorer):
    base = explorer.collections[0].settings
    for method in METHODS:
        view = view_of(explorer, method=method, pamr_steps=2)
        found = settings_of(view, base)
        given = {n: getattr(base, n) for n in ("model", "pretrained", "dataset", "data_root")}
        expected = resolve(**given, **DEMO, method=method, pamr_steps=2)
        for name in ("method", "attention", "parameters", "refiner", "after", "template_set"):
            assert getattr(found, name) == getattr(expected, name)
