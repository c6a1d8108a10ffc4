"""``sclip data check`` of a set of one's own, against counts of NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import write_own


@pytest.fixture
def checked(sclip, tmp_path, monkeypatch):
    """The check of a folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def command(own: Path, *more: str, labels: str = "labels") -> tuple[int, str, str]:
        paths = [f"--images={own}/images", f"--labels={own / labels}"]
        return sclip("data", "check", *paths, f"--classes={own}/classes.txt", *more)

    return command


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three pictures, their label maps and classes; all classes occur."""
    return write_own(tmp_path / "own", 3)


def raw(own: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted((own / "labels").iterdir())])


def test_a_sound_set(own, checked):
    code, out, err = checked(own, "--dataset=street", "--json")
    assert (code, err) == (0, "")
    found, labels = json.loads(out), raw(own)
    assert (found["images"], found["labels"], found["sound"]) == (3, 3, 3)
    assert found["sizes"] == {"64x48": 3}
    names = ("sky", "grass", "road")
    assert found["pixels"] == {n: int((labels == k).sum()) for k, n in enumerate(names)}
    assert [(v["value"], v["meaning"]) for v in found["values"]] == [
        (str(k), n) for k, n in enumerate(names) if (labels == k).any()
    ]
    assert found["faults"] == found["causes"] == found["label_maps_without_image"] == []
    assert sorted(path.name for path in Path("street-check").iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]


def test_what_is_printed(own, checked):
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(own / "labels/1.png")
    Image.new("L", (64, 48)).save(own / "labels/other.png")
    code, out, err = checked(own, "--pictures=look")
    assert (code, err) == (0, "")
    share = (raw(own)[:3] == 255).mean()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "custom: 3 images, 3 label maps" in lines
    assert "sizes 64x48 (3)" in lines
    assert f"not evaluated {share:.1%} of the pixels" in lines
    assert "no image 1: other.png" in lines
    assert any(line.startswith("│ 255 │ not evaluated │ 3,072 │") for line in lines)
    assert lines[-1] == "look at the 3 pictures in look"
    with Image.open("look/0.png") as picture:
        assert picture.width > 2 * 190


def test_what_a_run_would_leave_out_ends_with_1(own, checked):
    labels = raw(own)[0].copy()
    labels[:2, :3] = 9
    Image.fromarray(labels).save(own / "labels/0.png")
    (own / "images/2.png").write_bytes(b"torn")
    code, out, err = checked(own)
    assert (code, err) == (1, "")
    assert "6 pixels have a value without a class: 9 (6 px)" in out
    assert f"{own}/images/2.png: " in out
    assert "without class   0.1% of the pixels, values: 1" in out


def test_what_a_run_would_refuse_ends_with_2(own, checked):
    (own / "classes.txt").write_text("background\nbox")
    for path in (own / "labels").iterdir():
        Image.fromarray(((np.asarray(Image.open(path)) == 2) * 255).astype(np.uint8)).save(path)
    code, out, err = checked(own)
    assert code == 2
    assert "pass --label-values 0,255 if 255 is 'box'" in err
    assert err.count("\n") == 1
    assert "never labelled  1: box" in out
    assert checked(own, "--label-values=0,255")[0] == 0


def test_images_without_a_label_map(own, checked):
    (own / "labels/1.png").unlink()
    code, out, err = checked(own)
    assert code == 2
    assert "no label map    1: 1" in out
    assert "1 of 3 images has no label map (1): pass --missing-labels skip" in err
    assert checked(own, "--missing-labels=skip")[0] == 0
    assert checked(own, "--missing-labels=empty")[0] == 0


def test_colours(own, checked):
    (own / "colours.txt").write_text("sky:1,2,3\ngrass:4,5,6\nroad:7,8,9\n")
    table = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9)], np.uint8)
    for path in (own / "labels").iterdir():
        Image.fromarray(table[np.asarray(Image.open(path))]).save(path)
    code, out, _ = checked(own, f"--palette={own}/colours.txt", "--json")
    assert code == 0
    assert {v["value"]: v["meaning"] for v in json.loads(out)["values"]} == {
        "1,2,3": "sky",
        "4,5,6": "grass",
        "7,8,9": "road",
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--pictures={own}/images/look"], "pictures there would be taken for data"),
        (["--pictures={own}/classes.txt"], "is a file: expected a folder"),
        (["voc21"], "found voc21 and other flags: expected the name of a benchmark, or --images"),
    ],
)
def test_mistakes(own, checked, more, words):
    code, _, err = checked(own, *(one.format(own=own) for one in more))
    assert code == 2
    assert words in err


def test_neither_a_name_nor_images(sclip):
    code, _, err = sclip("data", "check")
    assert code == 2
    assert "expected the name of a benchmark, or --images DIR --labels DIR" in err
