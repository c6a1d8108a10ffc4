"""COCO's JSON, read by pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sclip_core.exports import coco_annotations, write_coco
from sclip_core.exports.coco import image_numbers

from .conftest import blobs


def read(path) -> COCO:
    return COCO(str(path))


def maps_of(coco: COCO) -> dict[str, np.ndarray]:
    """The label map of each image, painted from its annotations; each pixel once at most."""
    maps = {}
    for number, image in coco.imgs.items():
        labels = np.full((image["height"], image["width"]), -1)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            mask = coco.annToMask(row).astype(bool)
            assert (labels[mask] == -1).all()
            labels[mask] = row["category_id"] - 1
        maps[image["file_name"]] = labels
    return maps


@pytest.mark.parametrize("components", [False, True])
@pytest.mark.parametrize("polygons", [False, True])
def test_the_masks_are_the_label_maps(tmp_path, any_run, components, polygons):
    write_coco(any_run, tmp_path / "run.json", components, polygons)
    coco = read(tmp_path / "run.json")
    maps = maps_of(coco)
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(any_run.class_names)
    assert len(maps) == len(any_run) == 8
    for image in any_run:
        assert image.file.name == image.name
        np.testing.assert_array_equal(maps[image.name], image.labels)


def test_area_and_box(tmp_path, dense):
    write_coco(dense, tmp_path / "run.json", components=True)
    coco = read(tmp_path / "run.json")
    assert len(coco.anns) > 8
    for row in coco.anns.values():
        inside = np.argwhere(coco.annToMask(row))
        (y, x), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
        assert row["bbox"] == [x, y, right - x, bottom - y]
        assert row["area"] == len(inside)


def test_a_component_is_connected():
    rows = list(coco_annotations(np.eye(3, dtype=int), components=True))
    assert [row["category_id"] for row in rows] == [1, 1, 2, 2, 2]
    assert [row["area"] for row in rows] == [3, 3, 1, 1, 1]
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]


def test_coco_evaluates_it(tmp_path, dense):
    """The same masks as truth and as results: an average precision of 1."""
    write_coco(dense, tmp_path / "run.json")
    truth = read(tmp_path / "run.json")
    results = truth.loadRes(json.loads((tmp_path / "run.json").read_text())["annotations"])
    evaluation = COCOeval(truth, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_of_pixel_edges_are_exact(seed):
    labels = blobs(seed, 5 + seed, 60 - seed)
    height, width = labels.shape
    coco = COCO()
    coco.imgs = {1: {"id": 1, "height": height, "width": width}}
    painted = np.full(labels.shape, -1)
    for row in coco_annotations(labels, polygons=True):
        painted[coco.annToMask(row).astype(bool)] = row["category_id"] - 1
    np.testing.assert_array_equal(painted, labels)


def test_simplified_polygons_stay_near(tmp_path, dense):
    write_coco(dense, tmp_path / "exact.json", polygons=True)
    write_coco(dense, tmp_path / "plain.json", polygons=True, simplify=1.5)
    exact, plain = read(tmp_path / "exact.json"), read(tmp_path / "plain.json")

    def corners(coco):
        return sum(len(ring) for row in coco.anns.values() for ring in row["segmentation"])

    assert corners(plain) < corners(exact) / 2
    overlap = total = 0
    for row in exact.anns.values():
        same = [i for i in plain.getAnnIds(row["image_id"], row["category_id"])]
        one = exact.annToMask(row) > 0
        other = plain.annToMask(plain.anns[same[0]]) > 0 if same else np.zeros_like(one)
        overlap += (one & other).sum()
        total += (one | other).sum()
    assert overlap / total > 0.95


def test_numbers_of_images():
    assert image_numbers(["000000000285", "000000000139"]) == {
        "000000000285": 285,
        "000000000139": 139,
    }
    assert image_numbers(["1", "01"]) == {"1": 1, "01": 2}
