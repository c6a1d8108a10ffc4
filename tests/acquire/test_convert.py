"""Raw annotations to classes, against the published rules, pycocotools' COCO and slow loops."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sclip_core.acquire.cityscapes import cityscapes_polygons, cityscapes_table
from sclip_core.acquire.coco import object_map, object_table, stuff_table
from sclip_core.acquire.context import CONTEXT_IDS, context_map
from sclip_core.acquire.conversion import converted, paint
from sclip_core.config import ImageError, UserError

from ..conftest import GOLDEN

# From COCO-Stuff's labels.txt: "street sign", "hat", "shoe", "eye glasses", "plate", "mirror",
# "window", "desk", "toilet"'s neighbour "door", "blender" and "hair brush", whose ids are
# 12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91; the maps hold the id less one.
NEVER_USED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}

# cityscapesScripts' labels.py, by hand: label id -> train id, where there is one.
TRAIN_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11},
    **{25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}


# --- tables


def test_the_stuff_classes_count_the_used_ids_in_their_order():
    table, classes = stuff_table(), 0
    for value in range(182):
        if value + 1 in NEVER_USED:
            assert table[value] == 255
        else:
            assert table[value] == classes
            classes += 1
    assert classes == 171
    assert table[255] == 255


def test_the_object_classes_count_the_used_things_from_one_and_ignore_nothing():
    table, classes = object_table(), 0
    for value in [*range(182), 255]:
        if value < 90 and value + 1 not in NEVER_USED:
            classes += 1
            assert table[value] == classes
        else:
            assert table[value] == 0
    assert classes == 80


def test_the_object_classes_of_both_sources_are_numbered_alike():
    categories = [i for i in range(1, 91) if i not in NEVER_USED]  # of the instance file
    table = object_table()
    assert [table[category - 1] for category in categories] == list(range(1, 81))


def test_cityscapes_has_nineteen_train_ids_and_ignores_its_other_labels():
    table = cityscapes_table()
    for value in [*range(34), 255]:
        assert table[value] == TRAIN_IDS.get(value, 255)


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (stuff_table, 182),
        (stuff_table, 254),
        (object_table, 182),
        (object_table, 254),
        (cityscapes_table, 34),
        (cityscapes_table, 254),
        (cityscapes_table, 256),
        (stuff_table, 65535),
        (stuff_table, -1),
    ],
)
def test_a_value_that_no_raw_map_has_is_refused_by_name_and_value(table, value):
    raw = np.zeros((2, 3), np.int32)
    raw[1, 1] = value
    with pytest.raises(ImageError, match=rf"^a\.png: .*{value}.*expected 0\.\.n"):
        converted(raw, table(), "0..n", "a.png")


def test_of_many_values_that_no_raw_map_has_five_are_named():
    raw = np.arange(34, 60, dtype=np.int32).reshape(2, 13)
    with pytest.raises(ImageError, match=r"found the values 34, 35, 36, 37, 38, \.\.\.;"):
        converted(raw, cityscapes_table(), "0..33")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*range(182), 255]), min_size=6, max_size=6), st.booleans())
def test_every_pixel_is_looked_up(values, objects):
    raw = np.array(values, np.int32).reshape(2, 3)
    table = object_table() if objects else stuff_table()
    out = converted(raw, table, "")
    assert out.dtype == np.uint8
    assert out.shape == (2, 3)
    for y in range(2):
        for x in range(3):
            assert out[y, x] == table[raw[y, x]]


# --- Cityscapes' polygons


def scene(*objects: tuple[str, list], width: int = 40, height: int = 30) -> dict:
    """A polygon file as Cityscapes has it."""
    entries = [{"label": label, "polygon": polygon} for label, polygon in objects]
    return {"imgHeight": height, "imgWidth": width, "objects": entries}


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_a_later_polygon_is_on_top_and_the_rest_is_ignored():
    drawn = cityscapes_polygons(scene(("road", box(0, 0, 9, 9)), ("car", box(5, 5, 14, 14))))
    assert drawn.shape == (30, 40)
    assert drawn.dtype == np.uint8
    for y in range(30):
        for x in range(40):
            expected = 255
            if x <= 9 and y <= 9:
                expected = 0
            if 5 <= x <= 14 and 5 <= y <= 14:
                expected = 13
            assert drawn[y, x] == expected, (x, y)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("cargroup", 13),
        ("persongroup", 11),
        ("polegroup", 255),  # a label of its own, and not "pole"
        ("pole", 5),
        ("caravan", 255),
        ("trailer", 255),
        ("dynamic", 255),
        ("license plate", 1),  # is not drawn: the sidewalk beneath it shows
        ("license plategroup", 1),
    ],
)
def test_what_a_label_is_drawn_as(label, value):
    drawn = cityscapes_polygons(scene(("sidewalk", box(0, 0, 39, 29)), (label, box(3, 3, 8, 8))))
    assert drawn[5, 5] == value
    assert drawn[20, 20] == 1


def test_deleted_objects_are_not_drawn_whatever_their_label():
    annotation = scene(("sky", box(0, 0, 39, 29)), ("no label", box(0, 0, 9, 9)))
    annotation["objects"][1]["deleted"] = 1
    assert (cityscapes_polygons(annotation) == 10).all()
    annotation["objects"][0]["deleted"] = 0
    assert (cityscapes_polygons(annotation) == 10).all()


def test_an_unknown_label_is_named():
    with pytest.raises(ImageError, match=r"^a\.json: 'zebra' is not a label of Cityscapes"):
        cityscapes_polygons(scene(("zebra", box(0, 0, 3, 3))), "a.json")


def road(polygon: list[list[float]]) -> dict[str, object]:
    return {"label": "road", "polygon": polygon}


@pytest.mark.parametrize(
    "torn",
    [
        {},
        {"imgHeight": 3, "imgWidth": 4},
        {"imgHeight": 3, "imgWidth": 4, "objects": [{"label": "road"}]},
        {"imgHeight": 3, "imgWidth": 4, "objects": [{"polygon": box(0, 0, 1, 1)}]},
        {"imgHeight": 3, "imgWidth": 4, "objects": ["road"]},
        {"imgHeight": 3, "imgWidth": 4, "objects": [{"label": "road", "polygon": [[1]]}]},
        {"imgHeight": 3, "imgWidth": 4, "objects": [{"label": "road", "polygon": [[1, 1]]}]},
        {"imgHeight": 3, "imgWidth": 4, "objects": None},
        {"imgHeight": None, "imgWidth": 4, "objects": []},
        {"imgHeight": -3, "imgWidth": 4, "objects": []},
        {"imgHeight": 3, "imgWidth": 1e30, "objects": []},
        {"imgHeight": float("inf"), "imgWidth": 4, "objects": []},
        {"imgHeight": 3, "imgWidth": 10**6, "objects": []},
        {"imgHeight": 3, "imgWidth": 4, "objects": [road([[0, 0], [1e30, 1], [1, 1]])]},
    ],
)
def test_a_torn_polygon_file_is_refused(torn):
    with pytest.raises(ImageError, match=r"^a\.json.*; expected |^a\.json is not a .*: expected "):
        cityscapes_polygons(torn, "a.json")


LABELS = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle", "unlabeled", "ego vehicle", "rectification border", "out of roi"),
    *("static", "dynamic", "ground", "parking", "rail track", "guard rail", "bridge", "tunnel"),
    *("polegroup", "caravan", "trailer", "license plate", "cargroup", "ridergroup"),
    *("bicyclegroup", "traffic signgroup"),
)
objects = st.tuples(
    st.sampled_from(LABELS),
    st.lists(st.tuples(st.integers(-5, 45), st.integers(-5, 35)), min_size=2, max_size=7),
    st.sampled_from([None, 0, 1]),
)


@pytest.fixture(scope="module")
def official():
    """What Cityscapes' own scripts drew (tests/golden/README.md)."""
    with np.load(GOLDEN / "cityscapes.npz") as arrays:
        return dict(arrays)


def test_every_label_is_what_the_sets_own_scripts_say(official):
    assert len(official["boxes"]) == len(LABELS)
    for text, expected in zip(official["boxes"], official["boxes_train_ids"], strict=True):
        assert np.array_equal(cityscapes_polygons(json.loads(str(text))), expected), text


def test_polygons_are_drawn_as_the_sets_own_scripts_draw_them(official):
    """By Pillow, some versions of which draw single pixels of outlines otherwise."""
    drawn = [cityscapes_polygons(json.loads(str(text))) for text in official["polygons"]]
    assert (np.stack(drawn) == official["polygons_train_ids"]).mean() > 0.99


@settings(max_examples=60, deadline=None)
@given(st.lists(objects, max_size=8))
def test_any_polygons_are_drawn_as_the_sets_own_scripts_draw_them(drawn):
    """Where these are installed: they bring more with them than this is worth."""
    official = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    annotation = scene(*((label, [list(p) for p in polygon]) for label, polygon, _ in drawn))
    for entry, (_, _, deleted) in zip(annotation["objects"], drawn, strict=True):
        if deleted is not None:
            entry["deleted"] = deleted
    theirs = official.Annotation()
    theirs.fromJsonText(json.dumps(annotation))
    expected = np.asarray(official.createLabelImage(theirs, "trainIds"))
    assert np.array_equal(cityscapes_polygons(annotation), expected)
    ids = np.asarray(official.createLabelImage(theirs, "ids")).astype(np.int32)
    assert np.array_equal(converted(ids, cityscapes_table(), ""), expected)


# --- COCO's run lengths and polygons


def unpacked_rle(mask: np.ndarray) -> dict:
    """COCO's run lengths by a slow loop: down the columns, first the pixels that are 0."""
    counts, current, run = [], 0, 0
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if int(mask[y, x]) == current:
                run += 1
            else:
                counts.append(run)
                current, run = 1 - current, 1
    return {"size": list(mask.shape), "counts": [*counts, run]}


def packed_rle(mask: np.ndarray, text: bool = True) -> dict:
    """The same as pycocotools packs it; in JSON it is text."""
    from pycocotools import mask as masks

    rle = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {**rle, "counts": rle["counts"].decode()} if text else rle


def rectangle(top: int, left: int, bottom: int, right: int, size=(9, 12)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


bits = st.lists(st.booleans(), min_size=35, max_size=35).map(lambda b: np.reshape(b, (5, 7)))


@settings(max_examples=40, deadline=None)
@given(bits, st.sampled_from(["unpacked", "text", "bytes"]))
def test_run_lengths_set_just_the_pixels_of_their_mask(mask, kind):
    classes = np.full((5, 7), 3, np.uint8)
    rle = unpacked_rle(mask) if kind == "unpacked" else packed_rle(mask, kind == "text")
    paint(classes, rle, 9)
    for y in range(5):
        for x in range(7):
            assert classes[y, x] == (9 if mask[y, x] else 3)


def test_of_several_polygons_the_union_is_painted():
    classes = np.zeros((10, 20), np.uint8)
    parts = [[2, 2, 8, 2, 8, 7, 2, 7], [12, 1, 18, 1, 18, 9, 12, 9]]
    paint(classes, parts, 4)
    for y in range(10):
        for x in range(20):
            inside = (2 <= x < 8 and 2 <= y < 7) or (12 <= x < 18 and 1 <= y < 9)
            assert classes[y, x] == (4 if inside else 0), (x, y)


@pytest.mark.parametrize("kind", [packed_rle, unpacked_rle])
def test_a_mask_of_another_size_is_refused_with_both_sizes(kind):
    classes = np.zeros((9, 12), np.uint8)
    with pytest.raises(ImageError, match=r"^a: a mask of 7x5 pixels .*the image has 12x9"):
        paint(classes, kind(np.ones((5, 7), bool)), 1, "a")
    assert not classes.any()


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        "text",
        7,
        {},
        {"counts": "abc"},
        {"counts": [1, 2]},
        {"counts": [1, "b"], "size": [9, 12]},
        [[1, 2, "x", 4, 5, 6]],
        [[]],
        [[0, 0, 5, 0, 5]],  # an odd number
        [[0, 0, 5, 0]],  # pycocotools takes four numbers for a box
        [[0, 0, 1e18, 0, 5, 5]],
        [[0, 0, float("nan"), 0, 5, 5]],
        {"counts": [100], "size": [9, 12]},  # cut short
        {"counts": "", "size": [9, 12]},
        {"counts": [10**10], "size": [10**5, 10**5]},
        [{"counts": [108], "size": [9, 12]}],
    ],
)
def test_what_is_no_segmentation_is_refused(segmentation):
    with pytest.raises(ImageError, match=r"^a: "):
        paint(np.zeros((9, 12), np.uint8), segmentation, 1, "a")


def test_without_pycocotools_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(UserError, match=r"pip install 'sclip-benchmark\[data\]'") as caught:
        paint(np.zeros((9, 12), np.uint8), [[0, 0, 5, 0, 5, 5]], 1)
    assert not isinstance(caught.value, ImageError)  # not the fault of a file


# --- PASCAL Context


def test_contexts_categories_are_the_59_classes_and_the_rest():
    assert len(CONTEXT_IDS) == 60
    assert CONTEXT_IDS[0] == 0
    assert list(CONTEXT_IDS) == sorted(set(CONTEXT_IDS))
    # As the MMSegmentation converter lists them, before it sorts them.
    listed = [0, 2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416]
    listed += [33, 162, 420, 454, 295, 296, 427, 44, 45, 46, 308, 59, 440, 445, 31, 232, 65, 354]
    listed += [424, 68, 326, 72, 458, 34, 207, 80, 355, 85, 347, 220, 349, 360, 98, 187, 104, 105]
    listed += [366, 189, 368, 113, 115]
    assert sorted(listed) == list(CONTEXT_IDS)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(bits, st.sampled_from(CONTEXT_IDS), st.booleans()), max_size=5))
def test_context_segments_are_painted_in_their_order(segments):
    found = context_map(
        (5, 7),
        [
            {
                "category_id": category,
                "segmentation": (packed_rle if packed else unpacked_rle)(mask),
            }
            for mask, category, packed in segments
        ],
    )
    assert found.dtype == np.uint8
    for y in range(5):
        for x in range(7):
            here = [category for mask, category, _ in segments if mask[y, x]]
            expected = sorted(CONTEXT_IDS).index(here[-1]) if here else 0
            assert found[y, x] == expected


def test_a_category_that_context_does_not_have_is_named():
    segment = {"category_id": 3, "segmentation": packed_rle(rectangle(0, 0, 2, 2))}
    with pytest.raises(ImageError, match=r"^2008_000002\.jpg: category 3 is not one of the 60"):
        context_map((9, 12), [segment], "2008_000002.jpg")


def test_a_corner_that_is_no_number_is_refused():
    page = {"imgHeight": 3, "imgWidth": 4, "objects": [road([[0, 0], [float("nan"), 1], [1, 1]])]}
    with pytest.raises(
        ImageError, match=r"^a\.json, object 0: a coordinate is not a finite number"
    ):
        cityscapes_polygons(page, "a.json")


def test_a_context_segment_of_another_size_is_refused():
    segment = {"category_id": 2, "segmentation": packed_rle(rectangle(0, 0, 2, 2))}
    with pytest.raises(ImageError, match=r"a mask of 12x9 pixels .*the image has 9x12"):
        context_map((12, 9), [segment])


# --- COCO-Object from instances

CATEGORIES = [1, 3, 13, 90]  # of which 13 follows the unused 12
CLASS_OF = {1: 1, 3: 3, 13: 12, 90: 80}


def instance(number: int, category: int, segmentation: object, area: float, crowd: int = 0) -> dict:
    return {
        "id": number,
        "image_id": 7,
        "category_id": category,
        "segmentation": segmentation,
        "area": area,
        "iscrowd": crowd,
        "bbox": [0, 0, 1, 1],
    }


def by_pycocotools(annotations: list[dict], height: int, width: int) -> np.ndarray:
    """Slowly: at each pixel the smallest that is no crowd, else the smallest crowd."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": 7, "height": height, "width": width}],
        "categories": [{"id": c, "name": str(c)} for c in CATEGORIES],
        "annotations": copy.deepcopy(annotations),
    }
    coco.createIndex()
    masks = [coco.annToMask(one) for one in coco.loadAnns(coco.getAnnIds(imgIds=[7]))]
    expected = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            here = [a for a, m in zip(annotations, masks, strict=True) if m[y, x]]
            best = min(here, key=lambda a: (a["iscrowd"], a["area"], -a["id"]), default=None)
            if best:
                expected[y, x] = CLASS_OF[best["category_id"]]
    return expected


def test_the_smaller_instance_is_on_top_in_any_order_of_the_file():
    large = instance(1, 1, [[0, 0, 12, 0, 12, 9, 0, 9]], 108)
    small = instance(2, 13, packed_rle(rectangle(2, 3, 5, 6)), 9)
    for order in ([large, small], [small, large]):
        found = object_map((9, 12), order, CLASS_OF)
        for y in range(9):
            for x in range(12):
                assert found[y, x] == (12 if 2 <= y < 5 and 3 <= x < 6 else 1)


def test_a_crowd_lies_beneath_every_instance_however_small_it_is():
    crowd = instance(1, 3, unpacked_rle(rectangle(2, 2, 4, 4)), 4, crowd=1)
    large = instance(2, 90, [[0, 0, 8, 0, 8, 9, 0, 9]], 72)
    for order in ([crowd, large], [large, crowd]):
        assert set(np.unique(object_map((9, 12), order, CLASS_OF))) == {0, 80}
    alone = object_map((9, 12), [crowd], CLASS_OF)
    assert (alone == 3 * rectangle(2, 2, 4, 4)).all()


polygon = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=3, max_size=6).map(
    lambda points: [float(v) for point in points for v in point]
)
boxes = st.tuples(st.integers(0, 8), st.integers(0, 11), st.integers(1, 9), st.integers(1, 12))
segmentations = st.one_of(
    st.lists(polygon, min_size=1, max_size=2),
    boxes.map(lambda b: packed_rle(rectangle(*b))),
    boxes.map(lambda b: unpacked_rle(rectangle(*b))),
)
rows = st.tuples(st.sampled_from(CATEGORIES), segmentations, st.integers(1, 100), st.integers(0, 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=5, unique_by=lambda row: row[2]))
def test_instances_are_painted_as_pycocotools_decodes_them(drawn):
    annotations = [
        instance(number, category, segmentation, area, crowd)
        for number, (category, segmentation, area, crowd) in enumerate(drawn, 1)
    ]
    found = object_map((9, 12), copy.deepcopy(annotations), CLASS_OF)
    assert np.array_equal(found, by_pycocotools(annotations, 9, 12))


def test_an_image_without_instances_is_all_background():
    found = object_map((9, 12), [], CLASS_OF)
    assert found.shape == (9, 12)
    assert not found.any()


def test_an_instance_of_an_unknown_category_is_named():
    odd = instance(1, 12, packed_rle(rectangle(0, 0, 1, 1)), 1)
    with pytest.raises(ImageError, match=r"^000000000139\.jpg: category 12 is not in the file"):
        object_map((9, 12), [odd], CLASS_OF, "000000000139.jpg")


def test_pillow_draws_the_border_of_a_polygon_too():
    """Why polygons are drawn by Pillow: another filler gives other maps."""
    image = Image.new("L", (8, 8), 255)
    ImageDraw.Draw(image).polygon([(1, 1), (5, 1), (5, 5), (1, 5)], fill=0)
    drawn = cityscapes_polygons(scene(("road", box(1, 1, 5, 5)), width=8, height=8))
    assert np.array_equal(drawn, np.asarray(image))
    assert (drawn == 0).sum() == 25
