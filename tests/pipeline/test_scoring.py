"""Predictions scored: as mmsegmentation, cityscapesScripts and torchmetrics score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from sclip_core import results
from sclip_core.acquire.coco import stuff_table
from sclip_core.config import UserError, resolve
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.official_ids import category_ids, pixel_values
from sclip_core.datasets.palettes import VOC_VOID, voc_colours
from sclip_core.datasets.predictions import PredictionOptions
from sclip_core.pipeline.scoring import ScoredPredictions, score, score_with, shifted
from sclip_core.progress import Silent

GOLDEN = Path(__file__).parents[1] / "golden" / "scored.npz"
LAYOUT = {
    "leftImg8bit": "leftImg8bit/val/{city}/{name}_leftImg8bit.png",
    "labelTrainIds": "gtFine/val/{city}/{name}_gtFine_labelTrainIds.png",
}


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """The golden truth in Cityscapes' layout, of two cities, and the golden arrays."""
    root = tmp_path_factory.mktemp("data")
    arrays = dict(np.load(GOLDEN))
    for k, truth in enumerate(arrays["train_ids"][arrays["truth_ids"]]):
        city = "ab"[k % 2]
        for what, pattern in LAYOUT.items():
            values = truth if what == "labelTrainIds" else np.zeros((*truth.shape, 3), np.uint8)
            path = pattern.format(city=city, name=name_of(k))
            save(root / "cityscapes" / path, values)
    return root, arrays


def name_of(k: int) -> str:
    return f"{'ab'[k % 2]}_{k:06}_000019"


def write(folder: Path, maps: np.ndarray) -> Path:
    """Predictions as tools write them for a submission: all cities in one folder."""
    for k, values in enumerate(maps):
        save(folder / f"{name_of(k)}_leftImg8bit.png", values)
    return folder


def ious(found: ScoredPredictions, key: str = "iou") -> np.ndarray:
    values = [row[key] for row in found.classes]
    return np.array([np.nan if value is None else value for value in values])


def test_official_ids_score_as_cityscapesscripts_scores_them(cityscapes, tmp_path):
    root, arrays = cityscapes
    out = write(tmp_path / "out", arrays["predicted_ids"])
    found = score(
        out, values="raw", dataset="cityscapes", data_root=root, artifacts=tmp_path / "artifacts"
    )
    np.testing.assert_allclose(ious(found), 100 * arrays["cityscapes_iou"], rtol=1e-12)
    assert found.row["miou"] == pytest.approx(100 * float(arrays["cityscapes_average"]))


def test_classes_score_as_mmsegmentation_scores_them(cityscapes, tmp_path):
    root, arrays = cityscapes
    out = write(tmp_path / "out", arrays["train_ids"][arrays["predicted_ids"]])
    found = score(out, dataset="cityscapes", data_root=root, artifacts=tmp_path / "artifacts")
    areas = [
        [row[k] for row in found.classes] for k in ("intersect", "union", "prediction", "label")
    ]
    np.testing.assert_array_equal(areas, arrays["mmseg_areas"])
    np.testing.assert_allclose(ious(found), 100 * arrays["mmseg_iou"], rtol=1e-6)
    np.testing.assert_allclose(ious(found, "acc"), 100 * arrays["mmseg_acc"], rtol=1e-6)
    assert found.row["miou"] == pytest.approx(100 * np.nanmean(arrays["mmseg_iou"]), rel=1e-6)
    assert found.row["macc"] == pytest.approx(100 * np.nanmean(arrays["mmseg_acc"]), rel=1e-6)
    assert found.row["aacc"] == pytest.approx(100 * float(arrays["mmseg_aacc"]), rel=1e-6)


def test_ids_that_are_read_as_classes_are_refused(cityscapes, tmp_path):
    root, arrays = cityscapes
    out = write(tmp_path / "out", arrays["predicted_ids"])
    with pytest.raises(
        UserError, match=r"own numbers, 7\.\.8, 11\.\.13, .*pass --prediction-values raw"
    ):
        score(out, dataset="cityscapes", data_root=root, artifacts=tmp_path / "artifacts")


def test_a_published_figure_of_its_name_stands_beside_it(cityscapes, tmp_path):
    from sclip_core.results.published import beside

    root, arrays = cityscapes
    out = write(tmp_path / "out", arrays["train_ids"][arrays["predicted_ids"]])
    found = score(
        out, "SC-CLIP", dataset="cityscapes", data_root=root, artifacts=tmp_path / "artifacts"
    )
    figure = beside(found.row)
    assert figure.method == "SC-CLIP"
    assert figure.miou is not None
    assert figure.caveats[0].startswith("label maps made by another tool")
    assert "6 of 500 images" in figure.caveats


def own(root: Path, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """A dataset of one's own with these label maps, and their predictions."""
    for k, (values, guess) in enumerate(zip(truth, predicted, strict=True)):
        save(root / "images" / f"{k}.png", np.zeros((*values.shape[:2], 3), np.uint8))
        save(root / "labels" / f"{k}.png", values)
        save(root / "out" / f"{k}.png", guess)
    (root / "classes.txt").write_text("a\nb\nc\nd\ne")
    given: dict[str, Any] = {name: root / name for name in ("images", "labels")}
    given |= {"classes": root / "classes.txt", "artifacts": root / "artifacts"}
    return {**given, "ignore_label": (255,)}


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kept=st.sets(st.integers(0, 4), min_size=1),
    guessed=st.sets(st.integers(0, 4), min_size=1),
    ignored=st.floats(0, 0.5),
    void=st.floats(0, 0.5),
)
def test_scores_are_those_of_torchmetrics(
    seed, kept, guessed, ignored, void, tmp_path_factory: pytest.TempPathFactory
):
    rng, shape = np.random.default_rng(seed), (3, 7, 9)
    truth = rng.choice(sorted(kept), shape).astype(np.uint8)
    truth[rng.random(shape) < ignored] = 255
    truth[0, 0, 0] = min(kept)  # one pixel at least is evaluated
    predicted = rng.choice(sorted(guessed), shape).astype(np.uint8)
    predicted[rng.random(shape) < void] = 255
    root = tmp_path_factory.mktemp("own")
    found = score(root / "out", **own(root, truth, predicted))
    # torchmetrics knows no "no prediction": a sixth class, whose own scores are left out
    guess = torch.from_numpy(np.where(predicted == 255, 5, predicted).astype(np.int64))
    target = torch.from_numpy(truth.astype(np.int64))
    options: dict[str, Any] = {"num_classes": 6, "average": None, "ignore_index": 255}
    iou = MulticlassJaccardIndex(**options, zero_division=-1.0)(guess, target).numpy()[:5]
    theirs = np.where(iou < 0, np.nan, 100 * iou)
    np.testing.assert_allclose(ious(found), theirs, rtol=1e-5)
    assert found.row["miou"] == pytest.approx(np.nanmean(theirs), rel=1e-5)
    right = MulticlassAccuracy(num_classes=6, average="micro", ignore_index=255)(guess, target)
    assert found.row["aacc"] == pytest.approx(100 * float(right), rel=1e-5)
    by_class = MulticlassAccuracy(**options)(guess, target).numpy()[:5]
    there = [k for k in range(5) if (truth == k).any()]
    np.testing.assert_allclose(ious(found, "acc")[there], 100 * by_class[there], rtol=1e-5)
    assert np.isnan(np.delete(ious(found, "acc"), there)).all()


def test_copies_of_an_image_have_predictions_of_their_own(tmp_path):
    """Both images have the same bytes, which stand for one row of a run's label maps."""
    truth = np.zeros((2, 4, 4), np.uint8)
    predicted = np.stack([np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)])
    found = score(tmp_path / "out", **own(tmp_path, truth, predicted))
    assert found.row["aacc"] == 50
    areas = results.image_areas(found.run_id, tmp_path / "artifacts").to_pylist()
    right = {row["image_id"]: row["intersect"] for row in areas if row["class_id"] == 0}
    assert right == {"0": 16, "1": 0}


def test_files_that_were_scored_are_not_read_again(tmp_path, monkeypatch):
    maps = np.zeros((2, 4, 4), np.uint8)
    given = own(tmp_path, maps, maps)
    first = score(tmp_path / "out", **given)

    def refuse(*_: object) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr("sclip_core.datasets.predictions.files.PredictedFiles.read", refuse)
    second = score(tmp_path / "out", **given)
    assert (second.run_id, second.row["created_at"]) == (first.run_id, first.row["created_at"])


def test_numbers_that_count_from_one_are_noted(tmp_path):
    """No value is beyond the classes, so that only the scores can tell."""
    truth = np.tile(np.arange(4, dtype=np.uint8), (2, 4, 2))
    lines: list[str] = []

    class Told(Silent):
        def note(self, line: str) -> None:
            lines.append(line)

    given = own(tmp_path, truth, truth + np.uint8(1))
    assert score(tmp_path / "out", **given, reporter=Told()).row["aacc"] == 0
    assert lines[-1].startswith("100.0 % of the pixels are called the class after their own")
    lines.clear()
    found = score(tmp_path / "out", **given, values=[1, 2, 3, 4, 5], reporter=Told())
    assert found.row["aacc"] == 100
    assert not any("called" in line for line in lines)


def test_colours_are_those_of_the_label_maps(tmp_path):
    """Own data with label maps in colours, and predictions in the same, also the void one."""
    colours = np.uint8([(9, 9, 9), (0, 0, 0), (1, 2, 3), (4, 5, 6), (7, 8, 9), (99, 99, 0)])
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 6, (2, 2, 8, 8))
    names = [*"abcde", "void"]
    lines = (f"{n}:{','.join(map(str, c))}" for n, c in zip(names, colours.tolist(), strict=True))
    (tmp_path / "colours.txt").write_text("\n".join(lines))
    given = own(tmp_path, colours[truth], colours[predicted])
    options = PredictionOptions(tmp_path / "out")
    found = score_with(resolve(**given, palette=tmp_path / "colours.txt"), options)
    evaluated = truth < 5
    assert found.row["aacc"] == pytest.approx(100 * (truth == predicted)[evaluated].mean())
    nothing = (predicted == 5)[evaluated].sum()
    rows = results.confusion(found.run_id, tmp_path / "artifacts").to_pylist()
    assert sum(row["pixels"] for row in rows if row["prediction_id"] is None) == nothing


def test_colours_of_voc(voc, tmp_path):
    """PASCAL VOC's, of a benchmark whose label maps have indices."""
    labels = sorted((voc / "SegmentationClass").iterdir())
    codes = np.array([*voc_colours()[:255], VOC_VOID])
    for path in labels:
        values = codes[np.asarray(Image.open(path))]
        rgb = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1)
        save(tmp_path / "out" / path.name, rgb.astype(np.uint8))
    data = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path / "artifacts"}
    assert score(tmp_path / "out", palette="voc", **data).row["aacc"] == 100
    with pytest.raises(UserError, match="--palette voc"):
        score(tmp_path / "out", **data)


def test_categories_of_coco_are_classes_of_coco_object():
    """1 is a person and 90 the last thing; 12 was never used, and the background has none."""
    found = category_ids("coco_object")
    assert found is not None
    names = Vocabulary.named("coco_object").class_names
    named = {number: names[k] for k, number in enumerate(found.of_classes)}
    assert (named[None], named[1], named[13], named[90]) == (
        "background",
        "person",
        "stop sign",
        "toothbrush",
    )
    assert 12 not in named
    stuff = pixel_values("coco_stuff")
    assert stuff is not None
    assert [stuff_table()[i] for i in stuff.of_classes if i is not None] == list(range(171))


@pytest.mark.parametrize(
    ("right", "after", "said"), [(20, 80, True), (40, 60, False), (10, 45, False)]
)
def test_a_shift_is_said_where_most_pixels_have_it_and_few_are_right(right, after, said):
    pixels = {(0, 0): right, (0, 1): after, (0, None): 100 - right - after}
    rows = [
        {"label_id": label, "prediction_id": found, "pixels": count}
        for (label, found), count in pixels.items()
    ]
    assert (shifted(rows) is not None) == said
