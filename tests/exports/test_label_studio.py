"""Label Studio's tasks: the RLE of its brush as its SDK has it, and the labelling interface."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from sclip_core.exports import brush_rle, write_label_studio
from sclip_core.exports.label_studio import labelling_interface, prediction

from ..conftest import GOLDEN
from .conftest import blobs

CASES = json.loads((GOLDEN / "label_studio_brush.json").read_text("utf-8"))["masks"]


def decoded(rle: list[int]) -> np.ndarray:
    """The values that the bytes stand for, as Label Studio's own decoder reads them, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeats = read(1)
        count = 1 + read(sizes[read(2)])
        values += [read(word)] * count if repeats else [read(word) for _ in range(count)]
    assert len(bits) - at < 8
    return np.array(values)


def mask_of(case) -> np.ndarray:
    values = (np.arange(len(case["lengths"])) + case["first"]) % 2
    return np.repeat(values, case["lengths"]).reshape(case["size"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case["size"])))
def test_the_bytes_are_those_of_its_sdk(case):
    """Which adds a byte where the last one is full already."""
    ours = brush_rle(mask_of(case))
    assert case["rle"] in (ours, [*ours, 0])


@pytest.mark.parametrize("seed", range(8))
def test_it_stands_for_the_mask(seed):
    mask = blobs(seed) == 1
    values = decoded(brush_rle(mask)).reshape(*mask.shape, 4)
    assert (values == 255 * mask[..., None]).all()


def test_its_sdk_reads_it():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = blobs(1) == 1
    values = brush.decode_rle(brush_rle(mask)).reshape(*mask.shape, 4)
    assert (values == 255 * mask[..., None]).all()


def test_a_task_has_the_label_map(tmp_path, any_run):
    write_label_studio(any_run, tmp_path / "tasks")
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text("utf-8"))
    for task, image in zip(tasks, any_run, strict=True):
        assert task["data"]["image"] == f"/data/local-files/?d={image.name}"
        assert task["data"]["image_id"] == image.image_id
        (found,) = task["predictions"]
        assert found["model_version"] == any_run.run_id
        painted = np.full(image.labels.shape, -1)
        for region in found["result"]:
            size = region["original_height"], region["original_width"]
            inside = decoded(region["value"]["rle"]).reshape(*size, 4)[..., 3] > 0
            (name,) = region["value"]["brushlabels"]
            painted[inside] = any_run.class_names.index(name)
        np.testing.assert_array_equal(painted, image.labels)


def test_the_interface_knows_what_predictions_name(tmp_path, dense):
    write_label_studio(dense, tmp_path / "tasks", "s3://bucket/photos/")
    view = ElementTree.parse(tmp_path / "tasks" / "config.xml").getroot()
    image, brush = view
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text("utf-8"))
    assert tasks[0]["data"]["image"] == f"s3://bucket/photos/{next(iter(dense)).name}"
    for region in tasks[0]["predictions"][0]["result"]:
        assert region["from_name"] == brush.get("name")
        assert region["to_name"] == brush.get("toName") == image.get("name")
        assert region["type"] == brush.tag.lower() == "brushlabels"
    assert image.get("value") == "$image"
    assert [label.get("value") for label in brush] == list(dense.class_names)
    assert len({label.get("background") for label in brush}) == len(dense.class_names)


def test_names_with_marks_of_xml():
    view = ElementTree.fromstring(labelling_interface(['a "b" & <c>']))
    assert view[1][0].get("value") == 'a "b" & <c>'


def test_parts_of_a_class():
    found = prediction(np.eye(2, dtype=int), ["other", "dot"], components=True)
    assert [r["value"]["brushlabels"][0] for r in found["result"]] == ["other"] * 2 + ["dot"] * 2
