"""Images that annotations name otherwise, parts of a set, and runs that find their maps drawn."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from .annotated import (
    GRASS,
    RIGHT,
    ROAD,
    SKY,
    changed,
    coco,
    drawn,
    images_scored,
    labelme,
    own,
    run,
)

__all__ = ["coco", "own", "run"]  # fixtures

NAMES = ["my shot.png", "caf\u00e9.png", "2.png"]
PATHS: dict[str, tuple[Callable[[str], str], str]] = {
    "of the folder above": (lambda name: f"images/{name}", ""),
    "out of the folder": (lambda name: f"../../media/{name}", ""),
    "absolute": (lambda name: f"/data/upload/7/{name}", ""),
    "of Windows": (lambda name: f"C:\\data\\x\\{name}", ""),
    "of folders that differ": (lambda name: f"/data/{len(name)}/{name}", "differ by the folder"),
    "with percent signs": (quote, "2 names differ in spelling"),
    "in parts of characters": (
        lambda name: unicodedata.normalize("NFD", name),
        "1 name differs in spelling",
    ),
    "in upper case": (lambda name: name.replace("my", "My"), "1 name differs in spelling"),
}


@pytest.mark.parametrize("kind", PATHS)
def test_images_under_other_names(kind, coco, run, own, tmp_path):
    change, says = PATHS[kind]
    labels = coco()
    loaded = json.loads(labels.read_text())
    for number, name in enumerate(NAMES):
        (own / "images" / f"{number}.png").rename(own / "images" / name)
        loaded["images"][number]["file_name"] = change(name)
    labels.write_text(json.dumps(loaded))
    code, err = run(labels)
    assert code == 0, err
    assert any(says in line for line in err)
    assert says or not any("differ" in line for line in err)
    assert images_scored(tmp_path) == 3
    np.testing.assert_array_equal(drawn(tmp_path, "my shot"), RIGHT)


# --- parts of a set


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., str]:
    """The flag for the images whose names are given."""

    def flag(*names: str) -> str:
        (tmp_path / "list.txt").write_text("\n".join(names))
        return f"--images-list={tmp_path / 'list.txt'}"

    return flag


def only(labels: Path, *numbers: int) -> Path:
    """A file that lists only some of the images."""
    loaded = json.loads(labels.read_text())
    loaded["images"] = [one for one in loaded["images"] if one["id"] in numbers]
    loaded["annotations"] = [one for one in loaded["annotations"] if one["image_id"] in numbers]
    labels.write_text(json.dumps(loaded))
    return labels


def test_only_images_that_are_listed_need_annotations(coco, run, listed, tmp_path):
    labels = only(coco(), 1, 3)
    code, err = run(labels, listed("0", "2"))
    assert code == 0, err
    assert images_scored(tmp_path) == 2
    code, err = run(labels, listed("0", "1"))
    assert code == 2
    assert f"1 image is not in {labels} (COCO instances): 1; annotate them, or pass" in err[-1]


def test_only_the_first_images_need_annotations(coco, run, tmp_path):
    code, err = run(only(coco(), 1, 2), "--num-samples=2")
    assert code == 0, err
    assert images_scored(tmp_path) == 2


@pytest.mark.parametrize("part", ["list", "number"])
def test_faults_of_other_images_are_not_said(part, coco, run, listed):
    """The third annotation is of image 0."""
    labels = coco(changed(8, segmentation=[]))
    code, err = run(labels, listed("0", "1") if part == "list" else "--num-samples=2")
    assert (code, [line for line in err if "faults in" in line]) == (0, [])
    code, err = run(labels)
    assert code == 1
    assert "2 in " in err[0]


# --- a second run


def faulty_coco(root: Path, coco: Callable[..., Path]) -> Path:
    return coco(changed(2, segmentation=[]))


def faulty_labelme(root: Path, coco: Callable[..., Path]) -> Path:
    for name in "012":
        labelme(root / "pages" / f"{name}.json", ("sky", SKY), ("grass", GRASS), ("road", ROAD))
    (root / "pages" / "1.json").write_text("{")
    labelme(root / "pages" / "0.json", ("sky", SKY), ("grass", GRASS), ("road", ROAD[:2]))
    return root / "pages"


def faulty_yolo(root: Path, coco: Callable[..., Path]) -> Path:
    (root / "texts").mkdir()
    for name in "012":
        (root / "texts" / f"{name}.txt").write_text("0 0 0 1 0 1 0.5 0 0.5\n1 0 0.5 1 0.5 1 1 0 1")
    (root / "texts" / "0.txt").write_text("0 0 0 1 0 1 0.5 0 0.5\n2 0.5 0.5 0.1 0.1")
    (root / "texts" / "2.txt").write_text("0 0 0 1 0 1 0.5 0 0.5\nno numbers")
    return root / "texts"


@pytest.mark.parametrize("make", [faulty_coco, faulty_labelme, faulty_yolo])
def test_a_second_run_says_what_the_first_did(make, coco, run, tmp_path):
    labels = make(tmp_path, coco)

    def said() -> tuple[int, list[str]]:
        code, err = run(labels)
        return code, [line for line in err if str(labels) in line or "left out" in line]

    first = said()
    assert first[0] == 1
    assert len(first[1]) >= 2
    assert said() == first
    code, err = run(labels, "--strict")
    assert code == 2
    assert "--strict: stopped here" in err[-1]
    assert said() == first
