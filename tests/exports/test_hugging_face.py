"""A run as a dataset, opened by the library datasets without a network."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from huggingface_hub import DatasetCard

from sclip_core import UserError
from sclip_core.config import ImageError
from sclip_core.exports import to_dataset, write_dataset
from sclip_core.exports.hugging_face import card
from sclip_core.results import image_areas


@pytest.fixture
def load(monkeypatch, tmp_path):
    """``datasets.load_dataset`` of a folder, whose copies go to a temporary folder."""
    hf = pytest.importorskip("datasets")
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", True)

    def of(folder):
        return hf.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))

    return of


def as_classes(shown, free=255):
    values = np.asarray(shown).astype(int)
    return np.where(values == free, -1, values)


def test_the_rows_are_the_label_maps(tmp_path, any_run, load):
    write_dataset(any_run, tmp_path / "run")
    found = load(tmp_path / "run")
    assert list(found) == ["test"]
    rows = found["test"]
    assert rows.column_names == ["image_id", "labels", "classes", "miou", "aacc"]
    assert rows.features["classes"].feature.names == list(any_run.class_names)
    for row, image in zip(rows, any_run, strict=True):
        assert row["image_id"] == image.image_id
        np.testing.assert_array_equal(as_classes(row["labels"]), image.labels)
        assert row["classes"] == np.unique(image.labels[image.labels >= 0]).tolist()


def test_the_scores_are_those_of_the_image(tmp_path, dense, scenes_runs, load):
    write_dataset(dense, tmp_path / "run")
    areas = image_areas(dense.run_id, scenes_runs).to_pylist()
    for row in load(tmp_path / "run")["test"]:
        of_image = [each for each in areas if each["image_id"] == row["image_id"]]
        unions = [e["prediction"] + e["label"] - e["intersect"] for e in of_image]
        ious = [e["intersect"] / u for e, u in zip(of_image, unions, strict=True) if u]
        right = sum(e["intersect"] for e in of_image) / sum(e["label"] for e in of_image)
        assert row["miou"] == pytest.approx(100 * np.mean(ious))
        assert row["aacc"] == pytest.approx(100 * right)


def test_with_the_images(tmp_path, dense, load):
    write_dataset(dense, tmp_path / "run", with_images=True)
    for row, image in zip(load(tmp_path / "run")["test"], dense, strict=True):
        pixels = dense.source.image(image.image_id)
        assert np.abs(np.asarray(row["image"]).astype(int) - pixels).mean() < 2  # other decoders
        assert row["labels"].size == row["image"].size


def test_in_memory_it_is_the_same(tmp_path, dense, load):
    write_dataset(dense, tmp_path / "run")
    rows = to_dataset(dense)
    assert rows.features == load(tmp_path / "run")["test"].features
    assert rows["image_id"][:] == list(dense.image_ids)
    np.testing.assert_array_equal(as_classes(rows[0]["labels"]), next(iter(dense)).labels)


def test_the_card_and_the_settings(tmp_path, dense):
    write_dataset(dense, tmp_path / "run")
    card = DatasetCard.load(tmp_path / "run" / "README.md")
    assert card.data.task_categories == ["image-segmentation"]
    assert f"| {dense.row['miou']:.2f} | {dense.row['macc']:.2f} |" in card.text
    assert f"| attention | {dense.row['attention']} |" in card.text
    about = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert about["run"]["run_id"] == dense.run_id
    assert about["run"]["key_refine"] == dense.row["key_refine"]
    assert about["class_names"] == list(dense.class_names)


def test_nothing_is_left_where_an_image_is_gone(tmp_path, dense, monkeypatch):
    pytest.importorskip("datasets")

    def gone(path):
        raise ImageError(f"no file at {path}")

    monkeypatch.setattr("sclip_core.exports.hugging_face.read_sample", gone)
    with pytest.raises(ImageError):
        write_dataset(dense, tmp_path / "run", with_images=True)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library(tmp_path, dense, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"^datasets is not installed: .*\[hub\]'$"):
        write_dataset(dense, tmp_path / "run")


def test_no_name_is_a_tag_in_the_card(dense):
    named = dataclasses.replace(dense, class_names=("<b>a|b</b> & c", *dense.class_names[1:]))
    assert "\n0. &lt;b>a\\|b&lt;/b> &amp; c\n" in card(named)
