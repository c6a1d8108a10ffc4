"""Annotations: drawn as pycocotools' own COCO class and slow loops over pixels do, or refused."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.annotations import is_annotations, match, open_annotations
from sclip_core.datasets.annotations.categories import NOT_EVALUATED
from tests.datasets.trees import write_image, write_label

SIZE = (40, 60)  # H, W
HALL = (0, 0, 60, 0, 60, 40, 0, 40)  # all of the picture
STAR = [
    30.5,
    2.0,
    36.5,
    15.0,
    55.0,
    15.5,
    41.0,
    24.0,
    47.0,
    38.0,
    30.0,
    29.0,
    13.0,
    38.5,
    19.0,
    24.0,
]
CATEGORIES = [{"id": 7, "name": "Traffic_light"}, {"id": 3, "name": "cat"}]
VOCABULARY = Vocabulary.from_classes(["background", "cat, kitten", "traffic light", "dog"])
CAT, LIGHT = 1, 2


def square(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def inside(corners: list[float], shape: tuple[int, int] = SIZE) -> np.ndarray:
    """Whether each pixel's centre lies in a polygon: crossings of a ray to the right."""
    pairs = np.reshape(corners, (-1, 2)).tolist()
    found = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    found[row, column] ^= True
    return found


def near(corners: list[float], shape: tuple[int, int] = SIZE, reach: float = 1.0) -> np.ndarray:
    """Whether each pixel's centre is that near to an edge, where rasterisers may differ."""
    pairs = np.reshape(corners, (-1, 2))
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.zeros(shape, bool)
    for start, end in zip(pairs, np.roll(pairs, -1, 0), strict=True):
        along = end - start
        t = ((columns - start[0]) * along[0] + (rows - start[1]) * along[1]) / (along @ along)
        t = t.clip(0, 1)
        gap = np.hypot(columns - start[0] - t * along[0], rows - start[1] - t * along[1])
        found |= gap < reach
    return found


def annotation(number: int, segmentation: Any, category: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": 0,
        **more,
    }


def write_coco(path: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    images = [{"id": 1, "file_name": "a/b.jpg", "height": SIZE[0], "width": SIZE[1]}]
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def draw(path: Path, image_id: str = "a/b", size: tuple[int, int] = SIZE) -> np.ndarray:
    annotations = open_annotations(path)
    return annotations.draw(image_id, match(annotations.used, VOCABULARY, str(path)), size)


def drawn_and_told(path: Path, image_id: str = "a/b") -> tuple[np.ndarray, list[str]]:
    told: list[str] = []
    annotations = open_annotations(path)
    classes_of = match(annotations.used, VOCABULARY, str(path))
    return annotations.draw(image_id, classes_of, SIZE, told.append), told


def drawn(tmp_path: Path, *annotations: dict[str, Any]) -> np.ndarray:
    return draw(write_coco(tmp_path / "a.json", list(annotations)))


# Categories


@pytest.mark.parametrize("name", ["cat", "Cat", " CAT", "kitten", "traffic-light", "Traffic_Light"])
def test_a_category_is_found_by_any_word_of_its_class(name: str) -> None:
    assert match([name], VOCABULARY, "x") == {name: LIGHT if "ight" in name else CAT}


def test_the_name_of_a_class_goes_before_a_word_of_another() -> None:
    vocabulary = Vocabulary.from_classes(["fruit, orange", "orange", "plum, stone", "rock, stone"])
    assert match(["orange"], vocabulary, "x") == {"orange": 1}
    with pytest.raises(UserError, match="category 'stone' of x is a word of 'plum' and 'rock'"):
        match(["stone"], vocabulary, "x")


def test_categories_without_a_class_are_named_with_the_nearest_spelling() -> None:
    with pytest.raises(UserError, match=r"x: unknown category 'catt'\. Did you mean 'cat'") as info:
        match(["catt", "cat", "zebra"], VOCABULARY, "x")
    assert "In all 2 have no class: catt, zebra" in str(info.value)
    assert "Add each name to the line of its class" in str(info.value)


def test_numbers_are_classes_but_not_where_one_is_the_background() -> None:
    plain = Vocabulary.from_classes(["cat", "dog"])
    assert match([1, 0], plain, "x") == {0: 0, 1: 1}
    with pytest.raises(UserError, match=r"category number 2, counted from 0.* 2 classes"):
        match([2], plain, "x")
    with pytest.raises(UserError, match=r"background.*classes\.txt"):
        match([0], VOCABULARY, "x")


# COCO instances


def test_a_polygon_covers_the_pixels_whose_centres_lie_in_it(tmp_path: Path) -> None:
    found = drawn(tmp_path, annotation(1, [STAR])) == CAT
    sure = ~near(STAR)
    np.testing.assert_array_equal(found[sure], inside(STAR)[sure])
    assert sure.mean() > 0.7
    assert found.sum() > 300


def test_instances_are_those_of_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blob = np.asfortranarray(rng.random(SIZE) < 0.2)
    compressed = coco_mask.encode(blob.astype(np.uint8, order="F"))
    runs = np.diff(np.flatnonzero(np.diff(blob.ravel("F"), prepend=False, append=True)), prepend=0)
    counts = [int(n) for n in runs]
    shapes = [
        [STAR, square(1, 1, 5, 6)],  # one object in two parts
        {"size": list(SIZE), "counts": compressed["counts"].decode()},
        {"size": list(SIZE), "counts": [*counts, blob.size - sum(counts)]},
        [square(-9, -9, 20, 20)],
    ]
    for number, shape in enumerate(shapes):
        path = write_coco(tmp_path / f"{number}.json", [annotation(1, shape)])
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = COCO(str(path))
        expected = theirs.annToMask(theirs.anns[1]).astype(bool)
        np.testing.assert_array_equal(draw(path), np.where(expected, CAT, -1))
    np.testing.assert_array_equal(draw(tmp_path / "1.json") == CAT, blob)
    np.testing.assert_array_equal(draw(tmp_path / "2.json") == CAT, blob)


def test_long_compressed_run_lengths(tmp_path: Path) -> None:
    size = (300, 400)
    masks = [np.zeros(size, np.uint8, order="F") for _ in range(4)]
    masks[1][:] = 1
    masks[2][3:290, 5:380] = 1
    masks[3][7:9, 350:] = 1
    images = [{"id": 1, "file_name": "a/b.jpg", "height": 300, "width": 400}]
    for mask in masks:
        rle = {"size": list(size), "counts": coco_mask.encode(mask)["counts"].decode()}
        path = write_coco(tmp_path / "a.json", [annotation(1, rle)], images=images)
        np.testing.assert_array_equal(draw(path, size=size) == CAT, mask == 1)


@pytest.mark.parametrize("swap", [False, True])
def test_the_smaller_instance_is_on_top_in_any_order(tmp_path: Path, swap: bool) -> None:
    large, small = annotation(1, [list(HALL)]), annotation(2, [square(10, 10, 20, 20)], 7)
    classes = drawn(tmp_path, *([small, large] if swap else [large, small]))
    expected = np.full(SIZE, CAT)
    expected[10:20, 10:20] = LIGHT
    np.testing.assert_array_equal(classes, expected)


def test_of_two_of_the_same_area_the_later_is_on_top(tmp_path: Path) -> None:
    same = [square(10, 10, 20, 20)]
    assert drawn(tmp_path, annotation(1, same), annotation(2, same, 7))[15, 15] == LIGHT
    assert drawn(tmp_path, annotation(1, same, 7), annotation(2, same))[15, 15] == CAT


def test_a_crowd_lies_beneath_however_small(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[10:12, 10:70] = 1
    crowd = {"size": list(SIZE), "counts": coco_mask.encode(mask)["counts"].decode()}
    classes = drawn(
        tmp_path,
        annotation(1, [square(0, 0, 30, 40)]),
        annotation(2, crowd, 7, iscrowd=1),
    )
    expected = np.full(SIZE, -1)
    expected[10:12, 10:] = LIGHT
    expected[:, :30] = CAT
    np.testing.assert_array_equal(classes, expected)


def test_what_lies_outside_is_cut_off(tmp_path: Path) -> None:
    classes = drawn(tmp_path, annotation(1, [square(-20, 30, 30, 75)]))
    expected = np.full(SIZE, -1)
    expected[30:, :30] = CAT
    np.testing.assert_array_equal(classes, expected)


def test_images_without_annotations_are_known_and_empty(tmp_path: Path) -> None:
    annotations = open_annotations(write_coco(tmp_path / "a.json", []))
    assert (annotations.format, annotations.ids()) == ("COCO instances", ["a/b"])
    assert annotations.names == ("cat", "Traffic_light")
    assert not annotations.used
    assert (annotations.draw("a/b", {}, SIZE) == -1).all()


def test_categories_that_nothing_uses_need_no_class(tmp_path: Path) -> None:
    more = [*CATEGORIES, {"id": 0, "name": "things"}]
    path = write_coco(tmp_path / "a.json", [annotation(1, [STAR])], categories=more)
    assert open_annotations(path).used == {"cat"}
    assert draw(path).max() == CAT


BAD_SHAPES = {
    "an odd number of coordinates": [[1, 2, 3, 4, 5, 6, 7]],
    "an outline of 2 points": [[1, 2, 3, 4]],
    "an outline of 0 points": [[]],
    "not a finite number": [[1, 2, float("nan"), 4, 5, 6]],
    "expected x in 0..60 and y in 0..40": [[1, 2, 3, 400, 5, 6]],
    "are not run lengths": {"size": list(SIZE), "counts": [3, -3]},
    "add up to 7 pixels; expected 2,400": {"size": list(SIZE), "counts": [3, 4]},
    "not run lengths": {"size": list(SIZE), "counts": "PPP"},
    "a mask of 9x9.*the image has 60x40": {"size": [9, 9], "counts": [81]},
    "boxes alone": None,
    "expected polygons or run lengths": [],
    "expected numbers": [["1", "2", "3", "4", "5", "6"]],
    "expected numbers x": [[1, [2], 3, 4, 5, 6]],
    "the size of the run lengths": {"counts": [81]},
    "0..1, within the first pixel: fractions": [[0.1, 0.1, 0.9, 0.1, 0.5, 0.8]],
}


@pytest.mark.parametrize("words", BAD_SHAPES)
def test_a_shape_that_cannot_be_drawn_is_a_fault_of_its_image(tmp_path: Path, words: str) -> None:
    with pytest.raises(ImageError, match=words) as info:
        drawn(tmp_path, annotation(12, BAD_SHAPES[words]))
    assert "a/b" in str(info.value)
    assert "annotation 12" in str(info.value)


def test_clicks_on_the_corner_of_the_picture_are_no_fractions(tmp_path: Path) -> None:
    assert (drawn(tmp_path, annotation(1, [[0, 0, 0, 0, 1, 1]])) == -1).sum() >= 2399


NO_CROWD = (None, 0, False, "0", "false", 0.0, "")
CROWD = (1, True, "1", "True", 1.0)


def test_what_is_a_crowd(tmp_path: Path) -> None:
    """A cat in the left half, a light in all of it: the smaller is on top, a crowd never."""
    left, whole = [[0, 0, 30, 0, 30, 40, 0, 40]], [[0, 0, 60, 0, 60, 40, 0, 40]]
    for crowd, expected in (*((no, CAT) for no in NO_CROWD), *((yes, LIGHT) for yes in CROWD)):
        entries = {**annotation(1, left), "iscrowd": crowd}, annotation(2, whole, category=7)
        assert drawn(tmp_path, *entries)[20, 10] == expected
    for odd in ("2", 2, [0], "maybe"):
        with pytest.raises(ImageError, match=r"annotation 1: 'iscrowd' is .*expected 0 or 1"):
            drawn(tmp_path, {**annotation(1, left), "iscrowd": odd})


def test_numbers_too_large_for_anything(tmp_path: Path) -> None:
    for huge in (1e300, 10**400, -(2**63)):
        with pytest.raises(ImageError, match="a/b"):
            drawn(tmp_path, annotation(1, [[0, 0, huge, 0, huge, huge]]))


def test_torn_compressed_run_lengths(tmp_path: Path) -> None:
    mask = np.asfortranarray(np.random.default_rng(1).random(SIZE) < 0.5).astype(np.uint8)
    text = coco_mask.encode(mask)["counts"].decode()
    for torn in (text[:-1], text[: len(text) // 2], text + "5", text[:-1] + "o", ""):
        with pytest.raises(ImageError, match="run lengths"):
            drawn(tmp_path, annotation(1, {"size": list(SIZE), "counts": torn}))


def test_images_that_have_a_url_alone(tmp_path: Path) -> None:
    """As in LVIS, which has no ``file_name``."""
    marks = [annotation(1, [square(1, 1, 4, 4)])]
    expected = draw(write_coco(tmp_path / "named.json", marks))
    image = {"id": 1, "coco_url": "http://a.org/b.jpg", "height": SIZE[0], "width": SIZE[1]}
    path = write_coco(tmp_path / "url.json", marks, images=[image])
    (image_id,) = open_annotations(path).ids()
    assert image_id.endswith("/b")
    np.testing.assert_array_equal(draw(path, image_id), expected)


def test_an_image_of_another_size(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", [])
    with pytest.raises(ImageError, match="swapped"):
        draw(path, size=SIZE[::-1])
    with pytest.raises(ImageError, match="the image is 61x40 pixels"):
        draw(path, size=(40, 61))


def test_a_size_in_other_spellings(tmp_path: Path) -> None:
    def sized(height: Any, width: Any) -> Path:
        images = [{"id": 1, "file_name": "a/b.jpg", "height": height, "width": width}]
        return write_coco(tmp_path / "a.json", [], images=images)

    for height, width in ((41.0, 60), (41, 60.0)):
        with pytest.raises(ImageError, match="its label map 60x41"):
            draw(sized(height, width))
    assert draw(sized(None, 60)).shape == SIZE
    assert draw(sized("40", "60")).shape == SIZE
    for height, width in (("4O", 60), (float("nan"), 60), (40, 60.5), (True, 60), (0, 60)):
        with pytest.raises(ImageError, match=r"a\.json, image 'a/b\.jpg': the image's size is \["):
            draw(sized(height, width))


BAD_FILES: dict[str, str | dict[str, Any]] = {
    "is not JSON, or cut short": '{"images": [',
    "nested too deep|recursion": "[" * 200_000,
    "holds a list": "[]",
    "holds a whole number": "3",
    "'annotations' is missing": {"images": []},
    "'images' is missing": {"annotations": [], "categories": []},
    "'images' is {}": {"images": {}, "annotations": [], "categories": []},
    r"'images' \[0\] is 3": {"images": [3], "annotations": [], "categories": []},
    "category 3 is there twice": {"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
    "'name' is missing": {"categories": [{"id": 3}]},
    "the file name '../' is empty": {"images": [{"id": 1, "file_name": "../"}]},
    "cannot be the name of a file": {"images": [{"id": 1, "file_name": "\ud800.jpg"}]},
    "1 annotation of images that it does not list: annotation 1 of image 9; expected": {
        "annotations": [annotation(1, [STAR], image_id=9)]
    },
    "category 9 of an annotation is not listed, nor": {"annotations": [annotation(1, [STAR], 9)]},
    "1 annotation of images that it does not list: annotation None of image None": {
        "annotations": [{}]
    },
    "a COCO file: it has predictions .COCO results., no ground truth: pass the": json.dumps(
        [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]
    ),
    "a list of annotations alone, without 'images' and 'categories': exp": json.dumps(
        [annotation(1, [STAR])]
    ),
    "LabelMe file, which has one image": {"shapes": []},
}


@pytest.mark.parametrize("words", BAD_FILES)
def test_a_file_that_is_none(tmp_path: Path, words: str) -> None:
    content, path = BAD_FILES[words], tmp_path / "a.json"
    if isinstance(content, str):
        path.write_text(content)
    elif ("annotations" in content and len(content) > 1) or words.startswith("'annotations'"):
        path.write_text(json.dumps(content))
    else:
        write_coco(path, **{"annotations": [], **content})
    with pytest.raises(UserError, match=words) as info:
        open_annotations(path)
    assert not isinstance(info.value, ImageError)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


def test_without_pycocotools_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pycocotools

    monkeypatch.delattr(pycocotools, "mask")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "pycocotools.mask")
    with pytest.raises(UserError, match=r"pip install 'sclip-benchmark\[data\]'"):
        drawn(tmp_path, annotation(1, [STAR]))


# COCO panoptic


def write_panoptic(tmp_path: Path, segments: np.ndarray, infos: list[dict[str, Any]]) -> Path:
    """As panopticapi's ``id2rgb`` writes ids."""
    colours = np.zeros((*segments.shape, 3), np.uint8)
    rest = segments.copy()
    for channel in range(3):
        colours[..., channel] = rest % 256
        rest //= 256
    (tmp_path / "pan").mkdir(exist_ok=True)
    Image.fromarray(colours).save(tmp_path / "pan" / "b.png")
    entry = {"image_id": 1, "file_name": "b.png", "segments_info": infos}
    return write_coco(tmp_path / "pan.json", [entry])


def test_panoptic_ids_are_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    numbers = np.array([0, 1, 255, 256, 70_000, 2**24 - 1])
    places = rng.integers(0, 6, SIZE)
    infos = [
        {"id": int(n), "category_id": 3 if n % 2 else 7, "iscrowd": 0} for n in numbers.tolist()[1:]
    ]
    path = write_panoptic(tmp_path, numbers[places], infos)
    annotations = open_annotations(path)
    assert (annotations.format, annotations.ids()) == ("COCO panoptic", ["a/b"])
    assert set(annotations.files.values()) == {path, tmp_path / "pan" / "b.png"}
    expected = [[-1, CAT, CAT, LIGHT, LIGHT, CAT][n] for n in places.ravel()]
    np.testing.assert_array_equal(draw(path), np.reshape(expected, SIZE))


def test_panoptic_faults(tmp_path: Path) -> None:
    info = [{"id": 5, "category_id": 3}]
    path = write_panoptic(tmp_path, np.full(SIZE, 6), info)
    with pytest.raises(ImageError, match="ids 6 are not in segments_info"):
        draw(path)
    write_panoptic(tmp_path, np.full((8, 8), 5), info)
    with pytest.raises(ImageError, match="its label map 8x8"):
        draw(path)
    for infos, words in (([*info, *info], "id 5 is there twice"), ([{**info[0], "id": 0}], "id 0")):
        write_panoptic(tmp_path, np.full(SIZE, 5), infos)
        with pytest.raises(ImageError, match=rf"segments_info of a/b: the {words}"):
            draw(path)
    write_panoptic(tmp_path, np.full(SIZE, 5), info)
    cv2.imwrite(str(tmp_path / "pan" / "b.png"), np.full((*SIZE, 3), 5 << 8, np.uint16))
    with pytest.raises(ImageError, match="16 bits a channel; expected 8"):
        draw(path)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "pan" / "b.png", format="JPEG")
    with pytest.raises(ImageError, match="is not a PNG"):
        draw(path)
    (tmp_path / "pan" / "b.png").unlink()
    with pytest.raises(ImageError, match="no file at"):
        draw(path)
    (tmp_path / "pan").rmdir()
    with pytest.raises(UserError, match=r"no folder .*pan: the PNGs of a panoptic file"):
        draw(path)
    (tmp_path / "pan").mkdir()
    entry = json.loads(path.read_text())["annotations"][0]
    other = {**entry, "segments_info": []}
    with pytest.raises(UserError, match="image a/b has 2 entries that differ"):
        open_annotations(write_coco(tmp_path / "pan.json", [entry, other]))
    assert open_annotations(write_coco(tmp_path / "pan.json", [entry, entry])).ids() == ["a/b"]


# LabelMe


def write_labelme(path: Path, *shapes: tuple[str, str | None, Any], **more: Any) -> Path:
    entries = [{"label": a, "points": c} | ({"shape_type": b} if b else {}) for a, b, c in shapes]
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "imagePath": "..\\old.jpg"}
    path.write_text(json.dumps({"version": "5.4.1", "shapes": entries, **size, **more}))
    return path


def pairs(corners: list[float]) -> list[list[float]]:
    return np.reshape(corners, (-1, 2)).tolist()


def test_labelme_shapes(tmp_path: Path) -> None:
    write_labelme(
        tmp_path / "a" / "b.json",
        ("cat", None, pairs(STAR)),
        ("traffic light", "rectangle", [[20, 30], [10, 25]]),
    )
    write_labelme(tmp_path / "c.json", ("cat", "circle", [[30, 20], [30, 32]]))
    annotations = open_annotations(tmp_path)
    assert (annotations.format, annotations.ids()) == ("LabelMe", ["a/b", "c"])
    assert annotations.names == ("cat", "traffic light")
    classes = draw(tmp_path)
    assert (classes[25:30, 10:20] == LIGHT).all()
    assert (classes == LIGHT).sum() == 50
    sure = ~near(STAR)
    sure[25:30, 10:20] = False
    np.testing.assert_array_equal(classes[sure] == CAT, inside(STAR)[sure])
    rows, columns = np.mgrid[:40, :60] + 0.5
    gap = np.hypot(columns - 30, rows - 20) - 12
    np.testing.assert_array_equal(
        (draw(tmp_path, "c") == CAT)[abs(gap) > 0.8], gap[abs(gap) > 0.8] < 0
    )


@pytest.mark.parametrize("last", [CAT, LIGHT])
def test_the_later_labelme_shape_is_on_top(tmp_path: Path, last: int) -> None:
    shapes = [("cat", "rectangle", [[0, 0], [60, 40]]), ("traffic light", None, pairs(STAR))]
    write_labelme(tmp_path / "a" / "b.json", *(shapes if last == LIGHT else shapes[::-1]))
    assert draw(tmp_path)[20, 30] == last


@pytest.mark.parametrize("kind", ["line", "linestrip", "points", "mask", "cuboid"])
def test_the_box_of_labelme_shapes_without_area_is_not_evaluated(tmp_path: Path, kind: str) -> None:
    shapes = [("traffic light", "rectangle", [[0, 0], [60, 40]]), ("cat", kind, [[1, 2], [5, 9]])]
    path = write_labelme(tmp_path / "b.json", *shapes[::-1])
    classes, (line,) = drawn_and_told(tmp_path, "b")
    expected = np.full(SIZE, LIGHT)
    expected[2:9, 1:5] = NOT_EVALUATED
    np.testing.assert_array_equal(classes, expected)
    assert line.startswith(f"{path}, shape 0 (cat): ")
    assert kind in line
    assert line.endswith("its box is left out of the evaluation")


def test_a_labelme_point_is_left_out(tmp_path: Path) -> None:
    shapes = [("traffic light", "rectangle", [[0, 0], [60, 40]]), ("cat", "point", [[5, 9]])]
    path = write_labelme(tmp_path / "b.json", *shapes)
    classes, told = drawn_and_told(tmp_path, "b")
    assert (classes == LIGHT).all()
    assert told == [f"{path}, shape 1 (cat): a point has no area: left out"]


def test_labelme_faults(tmp_path: Path) -> None:
    path = write_labelme(tmp_path / "a" / "b.json", ("cat", "circle", [[1, 2]]))
    with pytest.raises(ImageError, match="a circle of 1 points"):
        draw(tmp_path)
    write_labelme(path, ("cat", "polygon", [[1, 2], [3]]))
    with pytest.raises(ImageError, match="expected numbers"):
        draw(tmp_path)
    write_labelme(path, imageHeight=39)
    with pytest.raises(ImageError, match="its label map 60x39"):
        draw(tmp_path)
    path.write_text('{"flags": {}}')
    with pytest.raises(UserError, match="is not a LabelMe file: it has no 'shapes'"):
        open_annotations(tmp_path)
    path.write_text('{"shapes": [{"label": 3}]}')
    with pytest.raises(UserError, match="'label' is 3; expected a text"):
        open_annotations(tmp_path)


# YOLO


def yolo_line(category: int, corners: list[float]) -> str:
    fractions = (np.reshape(corners, (-1, 2)) / SIZE[::-1]).ravel()
    return " ".join([str(category), *(f"{n:.9f}" for n in fractions)])


def write_yolo(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_one_yolo_category_without_a_name_is_left_out(tmp_path: Path) -> None:
    labels = tmp_path / "set" / "labels"
    plain = [yolo_line(0, square(10, 10, 20, 20))] * 5
    odd = yolo_line(7, square(30, 10, 40, 20))
    write_yolo(labels / "classes.txt", "cat")
    drawn_plain, _ = drawn_and_told(write_yolo(labels / "a" / "b.txt", *plain).parents[1])
    write_yolo(labels / "a" / "b.txt", *plain, odd)
    drawn_odd, told = drawn_and_told(labels)
    assert len(told) == 1
    assert "line 6: category 7 has no name: left out of the evaluation" in told[0]
    border, within = near(square(30, 10, 40, 20)), inside(square(30, 10, 40, 20))
    assert (within & ~border).any()
    assert (drawn_odd[within & ~border] == NOT_EVALUATED).all()
    elsewhere = ~within & ~border
    np.testing.assert_array_equal(drawn_odd[elsewhere], drawn_plain[elsewhere])
    write_yolo(labels / "a" / "b.txt", *plain[:2], odd)
    with pytest.raises(UserError, match="category 7, but names are given"):
        open_annotations(labels)


def test_yolo_is_drawn_with_the_smaller_on_top(tmp_path: Path) -> None:
    labels = tmp_path / "set" / "labels"
    lines = yolo_line(1, square(10, 10, 20, 20)), yolo_line(0, STAR)
    write_yolo(labels / "a" / "b.txt", *lines)
    write_yolo(labels / "empty.txt")
    annotations = open_annotations(labels)
    assert (annotations.format, annotations.names) == ("YOLO", None)
    assert annotations.ids() == ["a/b", "empty"]
    assert annotations.used == {0, 1}
    for turned in (lines, lines[::-1]):
        write_yolo(labels / "a" / "b.txt", *turned)
        classes = open_annotations(labels).draw("a/b", {0: 5, 1: 6}, SIZE)
        expected = np.where(inside(STAR), 5, -1)
        expected[10:20, 10:20] = 6
        sure = ~near(STAR)
        sure[10:20, 10:20] = True
        np.testing.assert_array_equal(classes[sure], expected[sure])
    assert (annotations.draw("empty", {}, SIZE) == -1).all()


NAMES: dict[str, Callable[[Path], object]] = {
    "classes.txt here": lambda at: (at / "classes.txt").write_text("Traffic_light\ncat\n"),
    "data.yaml here": lambda at: (at / "data.yaml").write_text("names: [Traffic_light, cat]"),
    "dataset.yaml above": lambda at: (at.parent / "dataset.yaml").write_text(
        "path: .\nnames:\n  0: Traffic_light\n  1: cat\n"
    ),
    "data.yaml two above": lambda at: (at.parent.parent / "data.yaml").write_text(
        "names: [Traffic_light, cat]"
    ),
}


@pytest.mark.parametrize("where", NAMES)
def test_yolo_names(tmp_path: Path, where: str) -> None:
    labels = tmp_path / "val" / "labels"
    write_yolo(labels / "a" / "b.txt", yolo_line(1, STAR))
    NAMES[where](labels)
    annotations = open_annotations(labels)
    assert annotations.names == ("Traffic_light", "cat")
    assert annotations.ids() == ["a/b"]
    assert len(annotations.files) == 2
    assert draw(labels)[20, 30] == CAT


def test_two_files_of_names_that_differ_are_refused(tmp_path):
    """The user's own list beside the set's names, in another order, would swap all classes."""
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("0 0 0 1 0 1 1\n")
    (tmp_path / "classes.txt").write_text("dog\ncat, kitten\n")
    assert open_annotations(labels).names == ("dog", "cat, kitten")
    (labels / "data.yml").write_text("names: [cat, dog]")
    with pytest.raises(UserError, match=r"classes\.txt and .*data\.yml name .* differently: rem"):
        open_annotations(labels)
    (labels / "data.yml").write_text("names: [Dog, cat]")
    assert open_annotations(labels).names == ("Dog", "cat")


def test_yolo_faults(tmp_path: Path) -> None:
    labels = tmp_path / "val" / "labels"
    path = write_yolo(labels / "a" / "b.txt")
    vocabulary = Vocabulary.from_classes(["cat"])
    for line, words in {
        "0 0.1 0.1 0.2 0.2": "line 2 is a box",
        "0 0.1 0.1 0.2 0.2 0.3": "an odd number of coordinates",
        "0 0.1 0.1": "an outline of 1 points",
        "0 0.1 nan 0.2 0.2 0.3 0.3": "not a finite number",
        "0 12 20 35 40 50 60": "expected x in 0..1 and y in 0..1",
    }.items():
        write_yolo(path, "", line)
        annotations = open_annotations(labels)
        with pytest.raises(ImageError, match=words) as info:
            annotations.draw("a/b", match(annotations.used, vocabulary, "x"), SIZE)
        assert f"{path}, line 2" in str(info.value)
    for line in ("-1 0.1 0.1", "0.5 0.1 0.1", "inf 0 0", "nan 0 0"):
        write_yolo(path, line)
        with pytest.raises(UserError, match="expected 'category x y x y"):
            open_annotations(labels)
    write_yolo(path, "1 0.1 0.1 0.2 0.2 0.3 0.3", "cat 1 2")
    with pytest.raises(UserError, match=r"b.txt, line 2 is 'cat 1 2'"):
        open_annotations(labels)
    write_yolo(path, "1 0.1 0.1 0.2 0.2 0.3 0.3")
    (labels / "classes.txt").write_text("cat\n")
    with pytest.raises(UserError, match=r"line 1: category 1, but names are given for 0\.\.0"):
        open_annotations(labels)
    (labels / "classes.txt").unlink()
    (labels / "data.yaml").write_text("names: [cat, 3]")
    with pytest.raises(UserError, match="expected a name for each"):
        open_annotations(labels)
    (labels / "data.yaml").write_text("names: [cat")
    with pytest.raises(UserError, match="is not YAML"):
        open_annotations(labels)


# Which is which


def test_what_is_no_annotation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no annotations at .*nowhere"):
        open_annotations(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no annotations: expected a COCO file"):
        open_annotations(tmp_path)
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(UserError, match="is not a JSON file"):
        open_annotations(tmp_path / "a.xml")
    write_yolo(tmp_path / "a.txt", yolo_line(0, STAR))
    write_labelme(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"both JSON and YOLO files, e\.g\. b\.json and a\.txt"):
        open_annotations(tmp_path)


def test_is_annotations(tmp_path: Path) -> None:
    assert is_annotations(write_coco(tmp_path / "coco.json", []))
    assert not is_annotations(tmp_path / "nowhere.json")
    assert is_annotations(tmp_path)
    maps = tmp_path / "maps"
    write_label(maps / "a.png", np.zeros(SIZE, np.uint8))
    write_yolo(maps / "a.txt", yolo_line(0, STAR))
    assert not is_annotations(maps)
    write_yolo(tmp_path / "yolo" / "a.txt", yolo_line(0, STAR))
    assert is_annotations(tmp_path / "yolo")
    write_yolo(tmp_path / "notes" / "README.txt", "Photographs of cats")
    assert not is_annotations(tmp_path / "notes")
    write_labelme(tmp_path / "labelme" / "a.json")
    write_image(tmp_path / "labelme" / "a.png")
    write_yolo(tmp_path / "labelme" / "labels.txt", "cat")
    assert is_annotations(tmp_path / "labelme")
    assert open_annotations(tmp_path / "labelme").ids() == ["a"]
