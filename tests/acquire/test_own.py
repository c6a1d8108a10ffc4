"""Label maps of one's own annotations: drawn once, taken up, and drawn anew where need be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary, read_label
from sclip_core.datasets.annotations import maps as own
from sclip_core.datasets.annotations.maps import label_maps, unlabelled
from sclip_core.datasets.samples import folder_samples
from tests.datasets.trees import write_image

PETS = Vocabulary.from_classes(["cat", "dog"])
SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]  # rows 1..3, columns 2..5 of 6 x 8 pixels
NAMES = ("a/b", "c", "d")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in NAMES:
        write_image(tmp_path / "images" / f"{name}.jpg")
    return tmp_path / "images"


def write_coco(path: Path, ring: list[Any], images: tuple[str, ...] = NAMES) -> Path:
    """Each image but the last has one dog."""
    listed = [
        {"id": n, "file_name": f"{name}.jpg", "height": 6, "width": 8}
        for n, name in enumerate(images)
    ]
    dogs = [
        {"id": n, "image_id": n, "category_id": 18, "segmentation": [ring], "iscrowd": 0}
        for n in range(len(images) - 1)
    ]
    categories = [{"id": 18, "name": "Dog"}]
    path.write_text(json.dumps({"images": listed, "annotations": dogs, "categories": categories}))
    return path


def leave(images: Path, *names: str) -> None:
    """Remove the other images."""
    for name in set(NAMES) - set(names):
        (images / f"{name}.jpg").unlink()


def expected(rest: int, label: int) -> np.ndarray:
    classes = np.full((6, 8), rest)
    classes[1:4, 2:6] = label
    return classes


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The maps that are written, as they are."""
    written: list[Path] = []
    write_whole = own.write_whole

    def write(path: Path, write: Any) -> None:
        if path.suffix == ".png":
            written.append(path)
        write_whole(path, write)

    monkeypatch.setattr(own, "write_whole", write)
    return written


def test_one_map_an_image(tmp_path: Path, images: Path) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    assert maps.parent == tmp_path / "maps"
    assert len(maps.name) == 16
    for name in NAMES[:2]:
        np.testing.assert_array_equal(read_label(maps / f"{name}.png"), expected(255, 1))
    assert (read_label(maps / "d.png") == 255).all()
    assert [sample.image_id for sample in folder_samples(images, maps)] == list(NAMES)


@pytest.mark.parametrize("first", ["background", "sky, Background"])
def test_what_nothing_covers_is_the_background(tmp_path: Path, images: Path, first: str) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    vocabulary = Vocabulary.from_classes([first, "dog"])
    maps = label_maps(labels, images, vocabulary, tmp_path / "maps")
    np.testing.assert_array_equal(read_label(maps / "c.png"), expected(0, 1))


@pytest.mark.parametrize(("classes", "rest"), [(254, 255), (255, 65535), (300, 65535)])
def test_many_classes_take_sixteen_bits(
    tmp_path: Path, images: Path, classes: int, rest: int
) -> None:
    names = [f"class {n}" for n in range(classes - 1)]
    vocabulary = Vocabulary.from_classes([*names, "dog"])
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    maps = label_maps(labels, images, vocabulary, tmp_path / "maps")
    np.testing.assert_array_equal(read_label(maps / "c.png"), expected(rest, classes - 1))
    assert unlabelled(vocabulary) == rest


def test_a_second_start_draws_nothing(
    tmp_path: Path, images: Path, drawings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    assert len(drawings) == 3
    with monkeypatch.context() as patched:
        patched.setattr(own, "image_size", None)  # nor opens an image
        assert label_maps(labels, images, PETS, tmp_path / "maps") == maps
    assert len(drawings) == 3


def test_an_interrupted_call_is_taken_up(
    tmp_path: Path, images: Path, drawings: list[Path]
) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    (maps / own.MARKER).unlink()
    (maps / "c.png").unlink()
    drawings.clear()
    label_maps(labels, images, PETS, tmp_path / "maps")
    assert drawings == [maps / "c.png"]
    assert (maps / own.MARKER).is_file()


def test_a_map_or_a_marker_that_is_gone_is_made_again(
    tmp_path: Path, images: Path, drawings: list[Path]
) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    (maps / "c.png").unlink()
    drawings.clear()
    label_maps(labels, images, PETS, tmp_path / "maps")
    assert drawings == [maps / "c.png"]
    (maps / own.MARKER).write_text('{"images": 3')
    label_maps(labels, images, PETS, tmp_path / "maps")
    assert json.loads((maps / own.MARKER).read_text())["images"].keys() == set(NAMES)


def test_images_that_come_later_get_their_maps(
    tmp_path: Path, images: Path, drawings: list[Path]
) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE)
    (images / "c.jpg").rename(tmp_path / "c.jpg")
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    assert not (maps / "c.png").exists()
    (tmp_path / "c.jpg").rename(images / "c.jpg")
    drawings.clear()
    assert label_maps(labels, images, PETS, tmp_path / "maps") == maps
    assert drawings == [maps / "c.png"]


def test_other_bytes_or_classes_are_another_folder(tmp_path: Path, images: Path) -> None:
    labels, at = write_coco(tmp_path / "pets.json", SQUARE), tmp_path / "maps"
    first = label_maps(labels, images, PETS, at)
    more = Vocabulary.from_classes(["cat", "dog, hound"])
    others = {first, label_maps(labels, images, more, at)}
    write_coco(labels, [1, 1, 3, 1, 3, 4, 1, 4])
    others.add(label_maps(labels, images, PETS, at))
    assert len(others) == 3
    moved = write_coco(tmp_path / "moved.json", SQUARE)
    assert label_maps(moved, images, PETS, at) == first


def test_yolo_takes_the_size_of_the_image_as_it_is_now(tmp_path: Path, images: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "c.txt").write_text("1 0.25 0.166667 0.75 0.166667 0.75 0.666667 0.25 0.666667\n")
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    np.testing.assert_array_equal(read_label(maps / "c.png"), expected(255, 1))
    write_image(images / "c.jpg", 12, 16)
    os.utime(images / "c.jpg", (1, 1))
    assert label_maps(labels, images, PETS, tmp_path / "maps") == maps
    assert read_label(maps / "c.png").shape == (12, 16)
    (labels / "classes.txt").write_text("dog\ncat\n")  # names decide the maps, too
    named = label_maps(labels, images, PETS, tmp_path / "maps")
    assert set(np.unique(read_label(named / "c.png"))) == {0, 255}


def test_the_pngs_of_a_panoptic_file_are_part_of_the_key(tmp_path: Path, images: Path) -> None:
    entry = {"image_id": 1, "file_name": "c.png", "segments_info": [{"id": 7, "category_id": 18}]}
    leave(images, "c")
    content = {
        "images": [{"id": 1, "file_name": "c.jpg"}],
        "annotations": [entry],
        "categories": [{"id": 18, "name": "dog"}],
    }
    (tmp_path / "pan.json").write_text(json.dumps(content))
    (tmp_path / "pan").mkdir()
    found = []
    for colour in ((7, 0, 0), (0, 0, 0)):
        Image.new("RGB", (8, 6), colour).save(tmp_path / "pan" / "c.png")
        maps = label_maps(tmp_path / "pan.json", images, PETS, tmp_path / "maps")
        found.append((maps, int(read_label(maps / "c.png")[0, 0])))
    assert [value for _, value in found] == [1, 255]
    assert found[0][0] != found[1][0]
    (tmp_path / "pan" / "c.png").unlink()
    with pytest.raises(UserError, match=r"1 of 1 label maps cannot be drawn.*no file at .*c\.png"):
        label_maps(tmp_path / "pan.json", images, PETS, tmp_path / "maps")


def test_all_that_can_be_drawn_is_and_the_rest_is_named(
    tmp_path: Path, images: Path, drawings: list[Path]
) -> None:
    labels = write_coco(tmp_path / "pets.json", [1, 1, 3])
    with pytest.raises(UserError, match=r"2 of 3 label maps cannot .*odd number") as e:
        label_maps(labels, images, PETS, tmp_path / "maps")
    assert "a/b" in str(e.value)
    assert "c in" in str(e.value)
    assert [path.name for path in drawings] == ["d.png"]
    assert not list((tmp_path / "maps").glob(f"*/{own.MARKER}"))


def test_what_does_not_fit(tmp_path: Path, images: Path) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE, ("x/y", "z"))
    with pytest.raises(UserError, match=r"none of the images: it lists 2, e.g. 'x/y'.* 'a/b'"):
        label_maps(labels, images, PETS, tmp_path / "maps")
    with pytest.raises(UserError, match=r"--images .*nowhere does not exist"):
        label_maps(labels, tmp_path / "nowhere", PETS, tmp_path / "maps")
    with pytest.raises(UserError, match=r"unknown category .*'Dog'"):
        label_maps(labels, images, Vocabulary.from_classes(["cat"]), tmp_path / "maps")
    write_coco(labels, SQUARE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written|is a file"):
        label_maps(labels, images, PETS, tmp_path / "file")


@pytest.mark.parametrize("above", ["images", "set/images/val"])
def test_folders_above_the_images_may_be_named(tmp_path: Path, images: Path, above: str) -> None:
    """As exporters write it: images/a.jpg."""
    plain = label_maps(write_coco(tmp_path / "a.json", SQUARE), images, PETS, tmp_path / "maps")
    names = tuple(f"{above}/{name}" for name in NAMES)
    labels = write_coco(tmp_path / "b.json", SQUARE, names)
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    assert maps != plain
    for name in NAMES:
        np.testing.assert_array_equal(
            read_label(maps / f"{name}.png"), read_label(plain / f"{name}.png")
        )


@pytest.mark.parametrize("above", ["", "images/", "a/images/"])
def test_folders_below_the_images_stay(tmp_path: Path, images: Path, above: str) -> None:
    leave(images, "a/b")
    labels = write_coco(tmp_path / "pets.json", SQUARE, (f"{above}a/b", f"{above}z"))
    maps = label_maps(labels, images, PETS, tmp_path / "maps")
    assert [path.relative_to(maps).as_posix() for path in maps.rglob("*.png")] == ["a/b.png"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("train/c", "val/c"), "none of the images"),  # two images would be one
        (("images/a/c", "images/b/d"), "none of the images"),
        (("images/c", "d"), r"not in .*: c \(it lists 'images/c': sub"),  # one fits as it is
    ],
)
def test_other_folders_are_not_taken_away(
    tmp_path: Path, images: Path, names: tuple[str, ...], says: str, drawings: list[Path]
) -> None:
    leave(images, "c", "d")
    labels = write_coco(tmp_path / "pets.json", SQUARE, names)
    with pytest.raises(UserError, match=says):
        label_maps(labels, images, PETS, tmp_path / "maps")
    assert drawings == []


# --- images without annotations


def test_an_image_that_nobody_annotated_is_refused(
    tmp_path: Path, images: Path, drawings: list[Path]
) -> None:
    labels = write_coco(tmp_path / "pets.json", SQUARE, ("a/b", "c"))
    with pytest.raises(UserError, match=r"1 image is not in .*pets\.json \(COCO inst.*: d; ann"):
        label_maps(labels, images, PETS, tmp_path / "maps")
    assert drawings == []
    label_maps(labels, images, PETS, tmp_path / "maps", limit=2)  # d is the third
    assert {path.name for path in drawings} == {"b.png", "c.png"}


@pytest.mark.parametrize("first", ["cat", "background"])
def test_without_a_file_an_image_of_yolo_has_no_objects(
    tmp_path: Path, images: Path, first: str
) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "classes.txt").write_text("bird\ndog\n")
    (folder / "c.txt").write_text("1 0.25 0.1667 0.75 0.1667 0.75 0.6667 0.25 0.6667\n")
    (folder / "d.txt").write_text("")
    said: list[str] = []
    vocabulary = Vocabulary.from_classes([first, "dog"])
    maps = label_maps(folder, images, vocabulary, tmp_path / "maps", say=said.append)
    rest = 0 if first == "background" else 255
    np.testing.assert_array_equal(read_label(maps / "c.png"), expected(rest, 1))
    for name in ("a/b", "d"):
        assert (read_label(maps / f"{name}.png") == rest).all()
    assert said == [f"1 image is not in {folder} (YOLO), and taken for images without objects: a/b"]

    (folder / "a").mkdir()
    (folder / "a/b.txt").write_text((folder / "c.txt").read_text())
    maps = label_maps(folder, images, vocabulary, tmp_path / "maps", say=said.append)
    np.testing.assert_array_equal(read_label(maps / "a/b.png"), expected(rest, 1))
    assert len(said) == 1
