"""Which images are taken: of another split, of a list."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.datasets import open_dataset
from sclip_core.datasets.chosen import chosen_ids

IDS = ["a/one", "a/two", "b/one", "b/three"]


@pytest.fixture
def listed(tmp_path):
    def write(*lines: str) -> Path:
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


class TestChosen:
    def test_all_without_a_list(self):
        assert chosen_ids(IDS, None) == IDS
        assert chosen_ids(IDS, None, 2) == IDS[:2]

    @pytest.mark.parametrize(
        ("line", "image_id"),
        [
            ("a/one", "a/one"),
            ("a/one.jpg", "a/one"),
            ("./a/one.png", "a/one"),
            ("/data/images/b/three.jpg", "b/three"),
            ("three.jpg", "b/three"),
            ("two", "a/two"),
            ("images\\\\b\\\\one.jpg".replace("\\\\", "\\"), "b/one"),
        ],
    )
    def test_ids_and_paths(self, listed, line, image_id):
        assert chosen_ids(IDS, listed(line)) == [image_id]

    def test_in_the_order_of_the_dataset(self, listed):
        assert chosen_ids(IDS, listed("b/three", "a/one")) == ["a/one", "b/three"]
        assert chosen_ids(IDS, listed("b/three", "a/one"), 1) == ["a/one"]

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (["a/one", "a/tow"], "'a/tow'.* Did you mean 'a/two'"),
            (["four", "five"], "names 2 of 2 images that the dataset has not: four, five"),
            (["a/one", "four", "five"], "names 2 of 3 images that the dataset has not: four, five"),
            (["one"], "names 1 of 1 image .*: one; expected ids such as a/one, a/two, b/one"),
            (["a/two", "two.jpg"], "names a/two twice"),
            (["a/two", "a/two"], "lists a/two twice"),
            ([""], "lists no image"),
        ],
    )
    def test_refused(self, listed, lines, says):
        with pytest.raises(UserError, match=says):
            chosen_ids(IDS, listed(*lines))


def write(path: Path, shape=(4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros(shape, np.uint8))


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for name in "abc":
        write(root / "JPEGImages" / f"{name}.jpg")
        write(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in {"val": "a", "train": "bc", "mine": "ac"}.items():
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
    return tmp_path


@pytest.fixture
def ade(tmp_path):
    root = tmp_path / "ade20k"
    for split, names in {"validation": "a", "training": "bc"}.items():
        for name in names:
            write(root / "images" / split / f"{name}.jpg")
            write(root / "annotations" / split / f"{name}.png")
    return tmp_path


def ids(dataset: str, root: Path, **settings) -> list[str]:
    found = open_dataset(resolve(dataset=dataset, data_root=root, **settings))
    assert all(path.is_file() for sample in found.samples for path in sample.files)
    return [sample.image_id for sample in found.samples]


def test_cityscapes_names(tmp_path, listed):
    """What its images have after the id is no part of it."""
    root = tmp_path / "cityscapes"
    for name in ("ulm/ulm_0", "ulm/ulm_1"):
        write(root / "leftImg8bit" / "val" / f"{name}_leftImg8bit.png")
        write(root / "gtFine" / "val" / f"{name}_gtFine_labelTrainIds.png")
    path = listed("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png")
    assert ids("cityscapes", tmp_path, images_list=path) == ["ulm/ulm_1"]


class TestSplits:
    @pytest.mark.parametrize(
        ("split", "expected"), [(None, "a"), ("val", "a"), ("train", "bc"), ("mine", "ac")]
    )
    def test_by_a_list_of_the_layout(self, voc, split, expected):
        assert ids("voc21", voc, split=split) == list(expected)
        assert ids("voc20", voc / "VOC2012", split=split) == list(expected)

    @pytest.mark.parametrize(
        ("split", "expected"),
        [(None, "a"), ("val", "a"), ("validation", "a"), ("train", "bc"), ("training", "bc")],
    )
    def test_by_folders_of_the_layout(self, ade, split, expected):
        assert ids("ade20k", ade, split=split) == list(expected)

    def test_with_a_year(self, tmp_path):
        for split in ("val2017", "train2017"):
            write(tmp_path / "coco_stuff" / "images" / split / f"{split}.jpg")
            maps = tmp_path / "coco_stuff" / "annotations" / split
            write(maps / f"{split}_labelTrainIds.png")
        assert ids("coco_stuff", tmp_path, split="train") == ["train2017"]

    def test_one_that_is_not_there(self, voc, ade):
        with pytest.raises(
            UserError, match=r"no split 'trian' .*: there are mine, train, val; exp"
        ):
            ids("voc21", voc, split="trian")
        with pytest.raises(UserError, match=r"no split 'test' .*: there are training, validation;"):
            ids("ade20k", ade, split="test")
        with pytest.raises(UserError, match=r"String should match|expected"):
            ids("voc21", voc, split="../val")

    def test_where_there_are_none(self, tmp_path):
        write(tmp_path / "scenes" / "images" / "a.jpg")
        write(tmp_path / "scenes" / "labels" / "a.png")
        with pytest.raises(UserError, match=r"scenes has one set of images, and no split 'train'"):
            ids("scenes", tmp_path, split="train")

    def test_images_of_ones_own(self, tmp_path):
        write(tmp_path / "images" / "a.jpg")
        with pytest.raises(UserError, match=r"--split train is for benchmarks"):
            open_dataset(resolve(images=tmp_path / "images", classes="cat", split="train"))

    def test_with_a_list_of_images(self, voc, listed):
        assert ids("voc21", voc, split="train", images_list=listed("c.jpg")) == ["c"]
        with pytest.raises(UserError, match=r"names 1 of 1 image"):
            ids("voc21", voc, images_list=listed("b"))


def test_a_list_of_ones_own_images(tmp_path, listed):
    for name in ("a", "b", "sub/c"):
        write(tmp_path / "images" / f"{name}.jpg")
        if name != "b":
            write(tmp_path / "labels" / f"{name}.png")
    own = {"images": tmp_path / "images", "labels": tmp_path / "labels"}
    given = resolve(**own, classes="cat, kitten; dog", images_list=listed("c.jpg", "a"))
    assert [s.image_id for s in open_dataset(given).samples] == ["a", "sub/c"]
    with pytest.raises(UserError, match=r"no label map|no annotation|have no"):
        open_dataset(resolve(**own, classes="cat, kitten; dog"))
