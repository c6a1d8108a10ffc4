"""Image files as people have them: turned by EXIF, deep, damaged, of many kinds, very large."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..pictures import scene
from .conftest import flags

CLASSES = "sky\ngrass\nroad"


def drawn(root: Path, turn: int = 1, square: bool = False) -> Path:
    """Two pictures whose stored pixels EXIF turns, and label maps drawn on the stored pixels."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    exif = Image.Exif()
    if turn > 1:
        exif[0x112] = turn
    for number in range(2):
        picture, labels = scene(number)
        picture, labels = picture[160:208, 100:164], labels[160:208, 100:164] % 3
        if square:
            picture, labels = picture[:, :48], labels[:, :48]
        back = {1: 0, 3: 2, 6: 1}[turn]
        Image.fromarray(np.rot90(picture[..., ::-1], back)).save(
            root / f"images/p{number}.png", exif=exif
        )
        Image.fromarray(np.rot90(labels, back).astype(np.uint8)).save(
            root / f"labels/p{number}.png"
        )
    (root / "classes.txt").write_text(CLASSES)
    return root


@pytest.fixture
def run(sclip, tmp_path):
    def command(data: Path, *arguments: str, **others: object):
        return sclip("run", "--direct", *flags(data, tmp_path / "artifacts", **others), *arguments)

    return command


def score(out: str) -> str:
    return next(line for line in out.splitlines() if "mIoU" in line).split("mIoU")[1].split()[0]


@pytest.mark.parametrize(("turn", "square"), [(3, False), (6, True)])
def test_a_silent_turn_is_said_and_can_be_left_out(run, tmp_path, turn, square) -> None:
    data = drawn(tmp_path / "d", turn, square)
    code, _, err = run(data)
    assert code == 0
    assert "note: EXIF turns 2 images" in err
    code, ignored, err = run(data, "--exif", "ignore")
    assert code == 0
    assert "note: --exif ignore: 2 images stay as stored" in err
    for path in (data / "images").iterdir():  # the same pixels, without the tag
        Image.fromarray(np.asarray(Image.open(path))).save(path)
    assert score(run(data)[1]) == score(ignored)


def test_label_maps_with_the_tag_of_their_image_are_turned_with_it(run, tmp_path) -> None:
    data = drawn(tmp_path / "d", 3)
    alone = score(run(data, "--exif", "ignore")[1])
    exif = Image.Exif()
    exif[0x112] = 3
    for path in (data / "labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path))).save(path, exif=exif)
    code, out, err = run(data)
    assert code == 0
    assert "note: EXIF turns 2 images and their label maps alike" in err
    for folder in ("images", "labels"):  # both turned for good
        for path in (data / folder).iterdir():
            Image.fromarray(np.rot90(np.asarray(Image.open(path)), 2)).save(path)
    assert score(run(data)[1]) == score(out) != alone


@pytest.mark.parametrize("stored", [True, False])
def test_annotations_of_either_size_are_drawn_where_they_belong(run, tmp_path, stored) -> None:
    data = drawn(tmp_path / "d", 6)
    turned = Image.open(data / "images/p0.png").size  # as stored: 48 x 64
    size = turned if stored else turned[::-1]
    box = {"x": [0, 10, 10, 0], "y": [0, 0, 20, 20]}  # a corner of the stored pixels
    x, y = np.array(box["x"]), np.array(box["y"])
    if not stored:
        x, y = turned[1] - y, x  # turned clockwise
    outline = np.stack([x, y], -1).ravel().tolist()
    name = [f"p{k}.png" for k in range(2)]
    (data / "a.json").write_text(json.dumps({
        "images": [{"id": k, "file_name": name[k], "width": size[0], "height": size[1]}
                   for k in range(2)],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "iscrowd": 0,
                         "segmentation": [outline]} for k in range(2)],
        "categories": [{"id": 1, "name": "grass"}],
    }))  # fmt: skip
    code, _, err = run(data, labels=data / "a.json")
    assert code == 0, err
    assert ("are turned with them" in err) == stored
    (path,) = (tmp_path / "artifacts/ground_truth").rglob("p0.png")
    drawn_map = np.asarray(Image.open(path))
    assert drawn_map.shape == turned  # 48 rows, 64 columns: as the image is shown
    rows, columns = np.nonzero(drawn_map == 1)
    assert rows.max() <= 10
    assert columns.min() >= 43


def test_a_turn_that_sizes_tell_is_refused_with_what_to_do(run, tmp_path) -> None:
    data = drawn(tmp_path / "d", 6)
    code, _, err = run(data)
    assert code == 2
    assert "pass --exif ignore" in err
    assert run(data, "--exif", "ignore")[0] == 0


def test_dark_images_are_refused_before_anything_is_computed(run, tmp_path) -> None:
    data = drawn(tmp_path / "d")
    for path in (data / "images").iterdir():
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 15
        Image.fromarray(grey).save(path)
    code, out, err = run(data)
    assert code == 2
    assert "it would be almost black" in err
    assert "computed" not in out + err
    assert run(data, "--pixel-range", "0,3825")[0] == 0


def test_one_bad_file_costs_only_itself(run, sclip, tmp_path) -> None:
    data = drawn(tmp_path / "d")
    for name in ("empty", "text", "folder", "wrong"):
        shutil.copy(data / "labels/p0.png", data / f"labels/{name}.png")
    (data / "images/empty.jpg").write_bytes(b"")
    (data / "images/text.jpg").write_text("no image")
    (data / "images/folder.jpg").mkdir()
    (data / "labels/folder.png").unlink()
    shutil.copy(data / "images/p0.png", data / "images/wrong.jpg")  # a PNG called .jpg
    code, out, err = run(data)
    assert code == 1
    assert "3 images" in out
    for name in ("empty", "text", "folder"):
        assert sum(f"{name}.jpg" in line and "left out" in line for line in err.splitlines()) >= 1


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_match_in_either_unicode_form(run, tmp_path, form) -> None:
    data = drawn(tmp_path / "d")
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = "Müllers Garten"
    (data / "images/p0.png").rename(data / "images" / f"{unicodedata.normalize(form, name)}.png")
    (data / "labels/p0.png").rename(data / "labels" / f"{unicodedata.normalize(other, name)}.png")
    code, out, _ = run(data)
    assert code == 0
    assert "2 images" in out


def test_segment_says_what_it_skips_and_shrinks(sclip, tmp_path) -> None:
    data = drawn(tmp_path / "d")
    wide = Image.open(data / "images/p0.png").resize((90, 80))
    wide.convert("RGB").save(data / "images/p2.jfif", "JPEG")
    (data / "images/clip.mov").write_bytes(b"no image")
    from ..conftest import TINY

    model = [f"--{key}={value}" for key, value in TINY.items()]
    code, out, err = sclip(
        "segment", str(data / "images"), "--classes", "sky;grass", "-o", str(tmp_path / "o"),
        "--short-side", "16", "--slide-crop", "16", "--slide-stride", "16", *model,
    )  # fmt: skip
    assert "1 file skipped: 1 .mov" in err
    assert "5 times smaller" in err
    assert code == 0, err
    assert len(out.splitlines()) == 3
    code, _, err = sclip(
        "segment", str(data / "images/p0.png"), "--classes", "sky;grass",
        "-o", str(tmp_path / "o.png"), "--tile", "--slide-crop", "32", "--slide-stride", "16",
        *model,
    )  # fmt: skip
    assert code == 0, err
    assert "--tile: 1 image without a resize, in all 6 windows of 32 pixels" in err
