"""Annotations that anybody may have written: drawn, or refused in one line."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.annotations import is_annotations, open_annotations
from sclip_core.datasets.annotations.maps import label_maps
from tests.datasets.trees import write_image

SIZE = (6, 8)
NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.floats(),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400, 1e308, 0.5, 1e-320]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["\0", "../a.jpg"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["size", "counts", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SMALL = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COCO: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "height": 6, "width": 8},
        {"id": 2, "file_name": "sub/b.jpg", "height": 6, "width": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        {
            "id": 2,
            "image_id": 2,
            "category_id": 8,
            "segmentation": {"size": [6, 8], "counts": [10, 5, 33]},
            "iscrowd": 1,
        },
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
}
LABELME: dict[str, Any] = {
    "imageHeight": 6,
    "imageWidth": 8,
    "shapes": [
        {"label": "cat", "points": [[2, 1], [6, 1], [6, 4]], "shape_type": "polygon"},
        {"label": "dog", "points": [[0, 0], [2.5, 2]], "shape_type": "circle"},
    ],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the parts of a structure are."""
    keys: Any = value if isinstance(value, dict) else ()
    if isinstance(value, list):
        keys = range(len(value))
    return [path] * bool(path) + [p for key in keys for p in places(value[key], (*path, key))]


@st.composite
def altered(draw: st.DrawFn, valid: Any) -> Any:
    """A valid structure of which a few parts are others, or not there."""
    found = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(found)))
        parent = found
        for key in above:
            parent = parent[key]
        if draw(st.integers(0, 4)):
            parent[last] = draw(VALUES)
        else:
            del parent[last]
        if not places(found):
            break
    return found


@st.composite
def torn(draw: st.DrawFn, text: str) -> bytes:
    """The bytes of a text, a few of them others."""
    data = bytearray(text.encode())
    start = draw(st.integers(0, len(data)))
    data[start : start + draw(st.integers(0, 9))] = draw(st.binary(max_size=6))
    return bytes(data)


def draw_all(path: Path) -> None:
    """Open, and draw every image; what is wrong is said in one line."""
    try:
        is_annotations(path)
        annotations = open_annotations(path)
        classes = {category: 0 for category in annotations.used}
        for image_id in annotations.ids():
            try:
                assert annotations.draw(image_id, classes, SIZE).shape == SIZE
            except ImageError as error:
                assert_line(error)
    except UserError as error:
        assert_line(error)


def assert_line(error: UserError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 3000


@given(loaded=altered(COCO))
@SMALL
def test_any_coco(tmp_path, loaded):
    (tmp_path / "coco.json").write_text(json.dumps(loaded))
    draw_all(tmp_path / "coco.json")


@given(loaded=altered(LABELME))
@SMALL
def test_any_labelme(tmp_path, loaded):
    (tmp_path / "a.json").write_text(json.dumps(loaded))
    draw_all(tmp_path)


@given(data=torn(json.dumps(COCO)) | torn(json.dumps(LABELME)))
@SMALL
def test_any_bytes_of_json(tmp_path, data):
    (tmp_path / "coco.json").write_bytes(data)
    draw_all(tmp_path / "coco.json")
    draw_all(tmp_path)


YOLO = "0 0.1 0.1 0.9 0.1 0.5 0.9\n1 0.2 0.2 0.8 0.2 0.5 0.7\n"


@given(
    data=torn(YOLO),
    names=st.none() | VALUES | altered({"names": ["cat", "dog"]}) | altered({"names": {0: "cat"}}),
)
@SMALL
def test_any_yolo(tmp_path, data, names):
    """The file of names lies beside, or above, the labels."""
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "a.txt").write_bytes(data)
    (tmp_path / "data.yaml").unlink(missing_ok=True)
    if names is not None:
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(names))
    draw_all(tmp_path / "labels")


@given(data=torn("names:\n  0: cat\n  1: dog\n") | st.binary(max_size=40))
@SMALL
def test_any_names_of_yolo(tmp_path, data):
    (tmp_path / "a.txt").write_text(YOLO)
    (tmp_path / "data.yaml").write_bytes(data)
    (tmp_path / "classes.txt").write_bytes(data)
    draw_all(tmp_path)


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        f"{BOMB}names: *a8\n",
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
        + "names: *a11\n",
        "names: &a [*a]\n",
        "names: 0x" + "f" * 9000,
        "names: [0x" + "f" * 9000 + "]",
        "names: " + "[" * 5000,
        "names: !!timestamp x",
        "names: !!bool x",
        "names: !!python/object/apply:os.mkdir [made]",
    ],
    ids=range(9),
)
def test_bombs_of_names(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(YOLO)
    (tmp_path / "data.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(UserError):
        open_annotations(tmp_path / "labels")
    assert time.monotonic() - started < 3
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("counts", ["o" * 1_000_000, "0" * 9 + "o" * 1_000_000])
def test_run_lengths_of_endless_digits(tmp_path, counts):
    """A number of a million bits, to which each character adds five."""
    loaded = copy.deepcopy(COCO)
    loaded["annotations"][0]["segmentation"] = {"size": [6, 8], "counts": counts}
    (tmp_path / "coco.json").write_text(json.dumps(loaded))
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"not run lengths|add up to"):
        open_annotations(tmp_path / "coco.json").draw("a", {"cat": 0, "dog": 1}, SIZE)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "text", ['{"images": ' + "[" * 50_000, '{"images": ' + '{"a":' * 50_000, "1" * 5000]
)
def test_json_that_no_reader_likes(tmp_path, text):
    (tmp_path / "coco.json").write_text(text)
    with pytest.raises(UserError, match="not JSON"):
        open_annotations(tmp_path / "coco.json")


def test_names_that_lead_out_of_the_folder(tmp_path):
    """Neither an image nor a map is looked for, or written, beside the folders."""
    write_image(tmp_path / "images" / "a.jpg")
    write_image(tmp_path / "b.jpg")
    loaded = copy.deepcopy(COCO)
    loaded["images"][1]["file_name"] = "../b.jpg"
    (tmp_path / "coco.json").write_text(json.dumps(loaded))
    pets = Vocabulary.from_classes(["cat", "dog"])
    label_maps(tmp_path / "coco.json", tmp_path / "images", pets, tmp_path / "maps")
    top = ["b.jpg", "coco.json", "images", "maps"]
    assert sorted(path.name for path in tmp_path.iterdir()) == top
    assert [path.name for path in (tmp_path / "maps").rglob("*.png")] == ["a.png"]


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000, '{"images": "ab"}', '{"images": [[1, 2]]}', '{"images": {"z": 1e999}}', "\0"],
)
def test_any_marker_of_maps(tmp_path, text):
    """What an earlier call is said to have drawn only saves time."""
    write_image(tmp_path / "images" / "a.jpg")
    loaded = copy.deepcopy(COCO)
    (tmp_path / "coco.json").write_text(json.dumps(loaded))
    pets = Vocabulary.from_classes(["cat", "dog"])
    arguments = (tmp_path / "coco.json", tmp_path / "images", pets, tmp_path / "maps")
    maps = label_maps(*arguments)
    (maps / "complete.json").write_text(text)
    assert label_maps(*arguments) == maps
