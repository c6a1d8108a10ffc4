"""One faulty shape, file or image of annotations costs only itself, in any format."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    changed,
    coco,
    drawn,
    images_scored,
    labelme,
    own,
    run,
)
from .conftest import flags

__all__ = ["coco", "own", "run"]  # fixtures


def box(*sides: int) -> np.ndarray:
    """The right map with a box that is not evaluated: left, top, right, bottom."""
    left, top, right, bottom = sides
    classes = RIGHT.copy()
    classes[top:bottom, left:right] = IGNORED
    return classes


def added(**fields: Any) -> Callable[[list[Any]], object]:
    return lambda a: a.append({"id": 99, "image_id": 1, "category_id": 9, "iscrowd": 0, **fields})


PARTS: dict[str, tuple[Callable[[list[Any]], object], str, np.ndarray]] = {
    "a part of two points": (
        changed(2, segmentation=[[50, 40, 50, 46], ROAD]),
        "0 in SET, annotation 3: 1 of its 2 outlines has no area (2 points): left out",
        RIGHT,
    ),
    "a flat outline of its own": (
        added(segmentation=[[3, 3, 9, 3, 6, 3]]),
        "0 in SET, annotation 99: an outline of 3 points without area: left out",
        RIGHT,
    ),
    "a bare outline": (
        changed(2, segmentation=ROAD),
        "annotation 3: a bare list of numbers, expected a list of outlines: drawn as one outline",
        RIGHT,
    ),
    "a box alone": (
        added(segmentation=[], bbox=[4.5, 5, 10, 10]),
        r"annotation 99: 'segmentation' is []; expected polygons or run lengths (boxes alone do "
        "not tell which pixels are meant): its box is left out of the evaluation",
        box(4, 5, 15, 15),
    ),
    "an outline that is not there": (
        changed(2, segmentation=[[]]),
        "annotation 3: an outline of 0 points; expected at least 3: its box is left out",
        box(20, 30, 40, 44),
    ),
    "two points of a larger object": (
        changed(2, segmentation=[[20, 30, 21, 30]]),
        "annotation 3: an outline of 2 points without area: its box is left out of the evaluation",
        box(20, 30, 40, 44),
    ),
    "an odd number of coordinates": (
        changed(2, segmentation=[ROAD[:-1]]),
        "annotation 3: an odd number of coordinates (7); expected x, y: its box is left out",
        box(20, 30, 40, 44),
    ),
    "torn run lengths": (
        changed(2, segmentation={"size": [H, W], "counts": [5, 5]}),
        "annotation 3: the run lengths add up to 10 pixels",
        box(20, 30, 40, 44),
    ),
    "an unknown category": (
        changed(2, category_id=77),
        "annotation 3: category 77 is not listed: left out of the evaluation",
        box(20, 30, 40, 44),
    ),
}


@pytest.mark.parametrize("fault", PARTS)
def test_a_faulty_shape_costs_only_itself(fault, coco, run, tmp_path):
    """Where it may be is not evaluated; all else of its image is scored."""
    change, says, expected = PARTS[fault]
    labels = coco(change)
    code, err = run(labels)
    assert code == 1
    note = f"{labels}: faults in 1 annotation of 1 image: "
    says = says.replace("SET", str(labels))
    assert err[0].startswith(f"note: {note}")
    assert says in err[0]
    assert err[-1].startswith(f"sclip: {note}")
    assert images_scored(tmp_path) == 3
    np.testing.assert_array_equal(drawn(tmp_path), expected)
    np.testing.assert_array_equal(drawn(tmp_path, "1"), RIGHT)
    assert [line for line in run(labels)[1] if says in line] == [err[0], err[-1]]
    code, err = run(labels, "--strict")
    assert code == 2
    assert says in err[-1]
    assert "(--strict: stopped here" in err[-1]


WHOLE: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "no outline and no box": (
        changed(2, segmentation=[], bbox=None),
        "annotation 3: 'segmentation' is []",
    ),
    "of another picture": (
        changed(2, segmentation=[[900, 900, 990, 900, 990, 990]]),
        "annotation 3: coordinates from 900 to 990",
    ),
    "a mask of another size": (
        changed(2, segmentation={"size": [9, 9], "counts": [81]}),
        "annotation 3: a mask of 9x9 pixels",
    ),
}


@pytest.mark.parametrize("fault", WHOLE)
def test_an_object_that_may_be_anywhere_costs_its_image(fault, coco, run, tmp_path):
    change, says = WHOLE[fault]
    labels = coco(change)
    for again in (False, True):
        code, err = run(labels)
        assert code == 1
        lines = [line for line in err if says in line]
        assert [line[:12] for line in lines] == ["left out: 0:", "sclip: left "], again
        assert images_scored(tmp_path) == 2
    code, err = run(labels, "--strict")
    assert (code, says in err[-1]) == (2, True)


def test_boxes_that_are_not_those_of_the_outlines_are_not_relied_upon(coco, run, tmp_path):
    def change(annotations: list[Any]) -> None:
        for one in annotations:
            one["bbox"] = [0, 0, 1, 1]
        annotations[2]["segmentation"] = []

    code, err = run(coco(change))
    assert (code, images_scored(tmp_path)) == (1, 2)
    assert err[0].startswith("left out: 0: in ")


def test_an_annotation_of_an_image_that_is_not_listed(coco, run, tmp_path):
    labels = coco(added(image_id=1234, segmentation=[ROAD]))
    code, err = run(labels)
    assert code == 1
    says = "1 annotation of images that it does not list: annotation 99 of image 1234"
    assert err[0] == f"note: {labels}: {says}"
    assert images_scored(tmp_path) == 3


def test_an_image_that_nobody_annotated(coco, run, tmp_path):
    labels = coco()
    loaded = json.loads(labels.read_text())
    loaded["images"].pop()
    loaded["annotations"] = [one for one in loaded["annotations"] if one["image_id"] != 3]
    labels.write_text(json.dumps(loaded))
    code, err = run(labels)
    assert code == 2
    assert "1 image is not in" in err[-1]
    assert "--missing-labels skip" in err[-1]
    code, err = run(labels, "--missing-labels=skip")
    assert (code, images_scored(tmp_path)) == (0, 2)
    assert any("1 of 3 images has no label map, left out" in line for line in err)
    code, err = run(labels, "--missing-labels=empty", "--force=results")
    assert code == 0


@pytest.mark.parametrize("option", ["--label-values=0,1,2", "--label-pattern={id}_m.png"])
def test_what_only_label_maps_have(option, coco, run):
    code, err = run(coco(), option)
    assert code == 2
    assert f"{option.split('=')[0]} is for label maps, and " in err[-1]


def test_images_that_are_not_there_are_said(coco, run, own, tmp_path):
    labels = coco()
    (own / "images" / "2.png").unlink()
    code, err = run(labels)
    assert code == 0
    assert err[0] == f"note: {labels} (COCO instances) has 1 image that --images lacks: 2"


def test_an_image_that_cannot_be_read(coco, run, own, tmp_path):
    labels, image = coco(), own / "images" / "1.png"
    image.write_bytes(image.read_bytes()[:60])
    for _ in range(2):
        code, err = run(labels)
        assert code == 1
        assert err[0].startswith(f"left out: {image} is damaged")
        assert err[-1].startswith(f"sclip: left out: {image} is damaged")
        assert images_scored(tmp_path) == 2


def test_annotations_of_turned_pixels_where_no_turn_is_wanted(coco, run, own, tmp_path):
    labels, image = coco(), own / "images" / "1.png"
    loaded = Image.open(image).transpose(Image.Transpose.ROTATE_90)
    exif = loaded.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, to the size of the annotations
    loaded.save(image, exif=exif)
    code, err = run(labels, "--exif=ignore")
    assert code == 1
    says = "1: its annotations fit the pixels after EXIF turns them, which --exif ignore prevents"
    assert any(says in line for line in err)
    assert images_scored(tmp_path) == 2
    assert run(labels)[0] == 0


def test_a_set_of_boxes_alone_is_refused(coco, run):
    code, err = run(coco(lambda a: [one.update(segmentation=[]) for one in a]))
    assert code == 2
    assert "3 of 3 label maps cannot be drawn" in err[-1]
    assert "boxes alone do not tell which pixels are meant" in err[-1]


def test_an_interrupted_drawing_forgets_no_fault(coco, run, tmp_path):
    labels = coco(PARTS["a box alone"][0])
    _, err = run(labels)
    (marker,) = (tmp_path / "artifacts" / "ground_truth").glob("*/complete.json")
    marker.unlink()
    assert run(labels)[1][0] == err[0]


def test_a_plan_says_the_same_before_and_after(coco, run, own, sclip, tmp_path):
    labels = coco(PARTS["a box alone"][0])
    given = flags(own, tmp_path / "artifacts", labels=labels)
    said = []
    for _ in range(2):
        _, _, err = sclip("plan", *given)
        said.append([line for line in err.splitlines() if "faults in" in line])
        assert run(labels)[0] == 1
    assert len(said[0]) == 1
    assert said[0] == said[1]


def test_where_the_background_is_a_class_a_box_is_not_background(coco, run, own, tmp_path):
    """A missing object would count as what lies behind it."""
    labels = coco(changed(2, segmentation=[]))
    (own / "classes.txt").write_text("background\nsky\nroad\n")
    loaded = json.loads(labels.read_text())
    loaded["annotations"] = [one for one in loaded["annotations"] if one["category_id"] != 2]
    labels.write_text(json.dumps(loaded))
    code, err = run(labels)
    assert code == 1, err
    expected = np.where(RIGHT == 0, 1, 0)
    expected[30:44, 20:40] = IGNORED
    np.testing.assert_array_equal(drawn(tmp_path), expected)


# --- files of other formats


def test_a_torn_labelme_file_costs_its_image(run, tmp_path):
    for name in "012":
        labelme(tmp_path / "pages" / f"{name}.json", ("sky", SKY), ("grass", GRASS), ("road", ROAD))
    torn = tmp_path / "pages" / "1.json"
    torn.write_text(torn.read_text()[:50])
    code, err = run(tmp_path / "pages")
    assert code == 1
    assert any(line.startswith(f"left out: 1: {torn} is not JSON, or cut sh") for line in err)
    assert images_scored(tmp_path) == 2
    np.testing.assert_array_equal(drawn(tmp_path), RIGHT)


def test_images_beside_their_labelme_files(own, sclip, tmp_path):
    """Grey images would be taken for label maps."""
    for path in sorted((own / "images").iterdir()):
        Image.open(path).convert("L").save(path)
        labelme(path.with_suffix(".json"), ("sky", SKY), ("grass", GRASS), ("road", ROAD))
    given = flags(own, tmp_path / "artifacts", labels=own / "images")
    code, _, err = sclip("run", "--direct", *given)
    assert code == 0, err
    np.testing.assert_array_equal(drawn(tmp_path), RIGHT)
