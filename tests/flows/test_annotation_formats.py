"""YOLO and LabelMe as people bring them, and the files of other tools."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .annotated import (
    GRASS,
    IGNORED,
    RIGHT,
    ROAD,
    SKY,
    H,
    W,
    drawn,
    images_scored,
    labelme,
    own,
    run,
)

__all__ = ["own", "run"]  # fixtures

SET = {2: SKY, 1: GRASS, 0: ROAD}  # by the numbers of NAMES
NAMES = "names:\n  0: road\n  1: grass\n  2: sky\n"
BOXED = RIGHT.copy()  # where the road's box is not evaluated
BOXED[30:44, 20:40] = IGNORED
BOX = [0.46875, 0.77083333, 0.3125, 0.29166667]  # of the road: centre and size


def line(category: int, numbers: Any) -> str:
    return " ".join([str(category), *(f"{n:.8f}" for n in numbers)])


def outline(category: int, ring: list[int]) -> str:
    return line(category, (np.reshape(ring, (-1, 2)) / (W, H)).ravel())


def yolo(root: Path, names: str = NAMES, called: str = "data.yaml", road: str = "") -> Path:
    """A set whose first image has another line for its road."""
    (root / "labels").mkdir(parents=True)
    for number in range(3):
        lines = [outline(category, ring) for category, ring in SET.items()]
        if road and not number:
            lines[-1] = road
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
    (root / called).write_text(names)
    return root / "labels"


# --- YOLO


@pytest.mark.parametrize("called", ["data.yaml", "street-seg.yaml", "coco8.yml"])
def test_names_are_found_in_a_yaml_file_of_any_name(called, run, tmp_path):
    code, err = run(yolo(tmp_path / "set", f"path: .\ntrain: images\n{NAMES}", called))
    assert code == 0, err
    said = [line for line in err if "YOLO's categories have the names that" in line]
    assert len(said) == (called != "data.yaml")
    assert all(called in line and "0 road, 1 grass, 2 sky" in line for line in said)
    np.testing.assert_array_equal(drawn(tmp_path), RIGHT)


def test_numbers_that_are_taken_for_lines_are_said(run, tmp_path):
    """Road and sky are swapped, which nothing but the note tells."""
    code, err = run(yolo(tmp_path / "set", "nothing: here"))
    assert code == 0
    assert "the numbers 0, 1, 2 are taken for lines of --classes, counted from 0" in err[0]
    np.testing.assert_array_equal(drawn(tmp_path), 2 - RIGHT.astype(int))


NO_OUTLINE = {
    "a box": (line(0, BOX), NAMES, "is a box, which"),
    "a pose that YAML tells": (
        line(0, [*BOX, 0.3, 0.3, 0.7, 0.7, 0.9, 0.1, 0.2, 0.8]),
        f"{NAMES}kpt_shape: [4, 2]\n",
        "is a box with key points of a pose, which",
    ),
    "a pose in the box": (
        line(0, [*BOX, 0.4, 0.7, 0.6, 0.85, 0.55, 0.65, 0.35, 0.9]),
        NAMES,
        "looks like a box with key points of a pose, which",
    ),
    "a pose with what is seen": (
        line(0, [*BOX, 0.4, 0.7, 2, 0.6, 0.85, 1, 0, 0, 0, 0.35, 0.9, 2]),
        NAMES,
        "looks like a box with key points of a pose, which",
    ),
}


@pytest.mark.parametrize("kind", NO_OUTLINE)
def test_a_line_that_is_no_outline_costs_its_box(kind, run, tmp_path):
    road, names, says = NO_OUTLINE[kind]
    labels = yolo(tmp_path / "set", names, road=road)
    code, err = run(labels)
    assert code == 1
    assert f"faults in 1 annotation of 1 image: {labels / '0.txt'}, line 3 {says}" in err[0]
    assert err[-1] == f"sclip: {err[0].removeprefix('note: ')}"
    np.testing.assert_array_equal(drawn(tmp_path), BOXED)
    np.testing.assert_array_equal(drawn(tmp_path, "1"), RIGHT)


def test_off_and_on_are_names(own, run, tmp_path):
    """They are truth values in YAML."""
    (own / "classes.txt").write_text("sky, off\ngrass, on\nroad\n")
    code, err = run(yolo(tmp_path / "set", "nc: 3\nnames: [road, on, off]\n"))
    assert code == 0, err
    assert any("on, off are truth values in YAML, taken for names here" in line for line in err)
    np.testing.assert_array_equal(drawn(tmp_path), RIGHT)


# --- LabelMe


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_masks_of_labelme_are_drawn_to_the_pixel(before, run, tmp_path):
    mask = np.random.default_rng(0).random((14, 20)) < 0.5
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    for name in "012":
        page = tmp_path / "pages" / f"{name}.json"
        labelme(page, ("sky", SKY), ("grass", GRASS), ("road", ROAD))
        loaded = json.loads(page.read_text())
        text = before + base64.b64encode(file.getvalue()).decode()
        loaded["shapes"][2] |= {
            "shape_type": "mask",
            "points": [[20, 30], [39, 43]],
            "mask": text,
        }
        page.write_text(json.dumps(loaded))
    code, err = run(tmp_path / "pages")
    assert code == 0, err
    expected = RIGHT.copy()
    expected[30:44, 20:40] = np.where(mask, 2, 1)
    np.testing.assert_array_equal(drawn(tmp_path), expected)


def test_labelme_files_with_names_of_their_own(run, tmp_path):
    """Their ``imagePath`` tells the image, and a file with the image's name goes before it."""
    for number in range(3):
        page = tmp_path / "pages" / f"{'task_' if number else ''}{number}.json"
        labelme(page, ("sky", SKY), ("grass", GRASS), ("road", ROAD))
        loaded = json.loads(page.read_text())
        page.write_text(json.dumps({**loaded, "imagePath": f"..\\images\\{number or 1}.png"}))
    code, err = run(tmp_path / "pages")
    assert code == 0, err
    assert "2 names fit an image by the 'imagePath' in the file: 'task_1' for '1'" in err[0]
    assert images_scored(tmp_path) == 3
    np.testing.assert_array_equal(drawn(tmp_path, "2"), RIGHT)


def test_no_map_of_an_image_that_lost_its_annotations_is_left(own, run, tmp_path):
    """A new image takes the file whose ``imagePath`` named another one."""
    for number in range(3):
        page = tmp_path / "pages" / f"{number or 'task'}.json"
        labelme(page, ("sky", SKY), ("grass", GRASS), ("road", ROAD))
        loaded = json.loads(page.read_text())
        page.write_text(json.dumps({**loaded, "imagePath": f"{number}.png"}))
    assert run(tmp_path / "pages")[0] == 0
    assert images_scored(tmp_path) == 3
    shutil.copy(own / "images" / "0.png", own / "images" / "task.png")
    code, err = run(tmp_path / "pages", "--missing-labels=skip")
    assert code == 0, err
    assert "0" in next(line for line in err if "--missing-labels skip" in line)


# --- other tools

STRANGE: dict[str, tuple[str, str, str]] = {
    "CVAT": (
        "annotations.xml",
        '<annotations><image id="0" name="0.png"><polygon points="0,0;1,1"/></image></annotations>',
        "CVAT's own XML",
    ),
    "Pascal VOC": (
        "0.xml",
        "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        "Pascal VOC's XML, which has boxes alone",
    ),
    "Label Studio": ("tasks.json", '[{"result": [{"from_name": "label"}]}]', "Label Studio"),
    "VIA": ("via.json", '{"_via_settings": {}, "x": {}}', "VGG Image Annotator"),
    "Supervisely": ("0.json", '{"objects": [{"classTitle": "sky"}]}', "Supervisely"),
    "captions": (
        "captions.json",
        '{"images": [], "annotations": [{"image_id": 1, "caption": "a road"}]}',
        "it has captions, no shapes",
    ),
    "results": (
        "results.json",
        '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]',
        "it has predictions (COCO results), no ground truth: pass the file of instances",
    ),
}


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("tool", STRANGE)
def test_files_of_other_tools_are_named(tool, folder, run, tmp_path):
    name, content, says = STRANGE[tool]
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / name
    path.write_text(content)
    code, err = run(path.parent if folder else path)
    assert code == 2
    assert says in err[-1]
