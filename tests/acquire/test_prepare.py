"""Raw annotations to prepared trees: right, resumable, and nothing lost of what was there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as masks

from sclip_core.acquire import coco, context
from sclip_core.acquire.prepare import prepare
from sclip_core.acquire.raw import CONVERSIONS
from sclip_core.config import UserError
from sclip_core.datasets.layouts import benchmark_samples
from sclip_core.datasets.record import record_of
from sclip_core.store.files import DiskError

from . import trees
from .trees import CITIES, CITYSCAPES, COCO, COCO_IDS, CONTEXT, HEIGHT, MADE, SETS, place


def assert_holds(name: str, root: Path, expected: trees.Maps) -> None:
    """That the prepared tree opens, and each label map is the expected one."""
    samples = benchmark_samples(name, root)
    assert sorted(sample.image_id for sample in samples) == sorted(expected)
    for sample in samples:
        assert sample.image.is_file()
        assert np.array_equal(trees.read(sample.label), expected[sample.image_id])


def written_at(folder: Path) -> dict[str, int]:
    """When each file below a folder was written."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("prepared-")
    }


# --- each set


@pytest.mark.parametrize("name", MADE)
def test_a_raw_set_becomes_one_that_opens(name, tmp_path):
    expected = SETS[name][0](tmp_path)
    done = prepare(name, tmp_path)
    assert (done.written, done.there) == (len(expected), 0)
    assert not done.differing
    assert not done.failed
    assert_holds(name, tmp_path, expected)


@pytest.mark.parametrize("name", ["voc21", "voc20", "ade20k"])
def test_maps_that_are_used_as_published_are_left_alone(name, tmp_path):
    expected = SETS[name][0](tmp_path)
    before = written_at(tmp_path)
    assert prepare(name, tmp_path) is None
    assert written_at(tmp_path) == before
    assert_holds(name, tmp_path, expected)


def test_the_root_may_be_the_sets_own_folder(tmp_path):
    expected = trees.coco_stuff(tmp_path)
    prepare("coco_stuff", tmp_path / COCO)
    assert_holds("coco_stuff", tmp_path / COCO, expected)


def test_a_benchmark_may_be_spelt_as_people_do(tmp_path):
    trees.coco_stuff(tmp_path)
    assert prepare("COCO-Stuff", tmp_path).layout == "coco_stuff"


def test_both_sets_of_coco_lie_side_by_side(tmp_path):
    stuff, objects = trees.coco_stuff(tmp_path), trees.coco_object(tmp_path)
    prepare("coco_stuff", tmp_path)
    prepare("coco_object", tmp_path)
    prepare("coco_stuff", tmp_path)
    assert_holds("coco_stuff", tmp_path, stuff)
    assert_holds("coco_object", tmp_path, objects)


DAMAGED_INSTANCES = {
    "lists 79 categories; expected COCO's 80": lambda d: d["categories"].pop(),
    "lists 81 categories": lambda d: d["categories"].append({"id": 91, "name": "x"}),
    "lists 80 categories; expected COCO's 80, each": lambda d: d["categories"][0].update(id=2),
    "an image's number twice": lambda d: d["images"][1].update(id=d["images"][0]["id"]),
    "an annotation is of image 7, which it does not": lambda d: d["annotations"][0].update(
        image_id=7
    ),
    r"000000000139\.jpg'?, twice": lambda d: d["images"][1].update(file_name="000000000139.jpg"),
    "which cannot be a file name": lambda d: d["images"][1].update(file_name="a\0.jpg"),
    "cannot be a file name": lambda d: d["images"][1].update(file_name="../a.jpg"),
    "have an unexpected form": lambda d: d["images"][1].update(file_name=5),
    "have an unexpected for": lambda d: d["categories"][0].update(id="2"),
    "lists no images": lambda d: d.update(images=[], annotations=[]),
}


@pytest.mark.parametrize("message", DAMAGED_INSTANCES)
def test_a_damaged_instance_file_is_refused_before_anything_is_drawn(message, tmp_path):
    trees.coco_instances(tmp_path)
    path = tmp_path / COCO / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    DAMAGED_INSTANCES[message](data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        prepare("coco_object", tmp_path, "instances")
    assert not list((tmp_path / COCO / "annotations/val2017").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": "9"}, r"the size is \('9', 12\).*expected two whole"),
        ({"height": 10**9}, "expected two whole numbers of 1..32,768"),
        ({"height": HEIGHT + 1}, r"a mask of 12x9 pixels.*has 12x10"),
    ],
)
def test_the_others_are_drawn_where_one_image_is_of_no_size(change, message, tmp_path):
    trees.coco_instances(tmp_path)
    path = tmp_path / COCO / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"][0].update(change)
    path.write_text(json.dumps(data))
    done = prepare("coco_object", tmp_path, "instances")
    assert done.written == 2
    (failed,) = done.failed.values()
    assert re.search(message, failed)


def test_coco_object_from_its_instances(tmp_path):
    expected = trees.coco_instances(tmp_path)
    done = prepare("coco_object", tmp_path, "instances")
    assert done.source == "instances"
    assert_holds("coco_object", tmp_path, expected)


@pytest.mark.parametrize("form", ["labelIds", "polygons"])
def test_cityscapes_from_what_is_there(form, tmp_path):
    expected = trees.cityscapes(tmp_path, (form,))
    assert prepare("cityscapes", tmp_path).source == form
    assert_holds("cityscapes", tmp_path, expected)


def test_cityscapes_two_forms_give_the_same_maps(tmp_path):
    expected = trees.cityscapes(tmp_path)
    assert prepare("cityscapes", tmp_path).source == "labelIds"
    again = prepare("cityscapes", tmp_path, "Polygons", force=True)
    assert (again.source, again.written, again.there) == ("polygons", 0, len(expected))


def test_label_maps_are_grey_pngs(tmp_path):
    from PIL import Image

    trees.coco_object(tmp_path)
    prepare("coco_object", tmp_path)
    with Image.open(place("coco_object", tmp_path, COCO_IDS[0])) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (12, 9))


# --- the split of PASCAL Context


def test_the_context_split_is_the_detail_apis_own(tmp_path):
    trees.context_raw(tmp_path)
    prepare("context60", tmp_path)
    listed = (tmp_path / CONTEXT / "ImageSets/SegmentationContext/val.txt").read_text()
    assert listed == "2008_000000\n2008_000003\n2008_000006\n2008_000009\n"
    kept = trees.validation_of_the_detail_api(trees.context_images())
    assert listed.split() == [Path(image["file_name"]).stem for image in kept]
    maps = {path.stem for path in (tmp_path / CONTEXT / "SegmentationClassContext").glob("*.png")}
    assert maps == set(listed.split())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["train", "val", "test"]), max_size=14))
def test_in_any_order_of_the_phases(tmp_path_factory, phases):
    tree = tmp_path_factory.mktemp("context")
    images = [
        {"image_id": i, "file_name": f"{i}.jpg", "height": 3, "width": 4, "phase": phase}
        for i, phase in enumerate(phases)
    ]
    (tree / "trainval_merged.json").write_text(
        json.dumps({"images": images, "annos_segmentation": []})
    )
    kept = trees.validation_of_the_detail_api(images)
    if not kept:
        with pytest.raises(UserError, match="lists no images of the validation split"):
            CONVERSIONS["voc2010"].jobs(tree, "trainval_merged")
        return
    jobs = CONVERSIONS["voc2010"].jobs(tree, "trainval_merged")
    assert [job.image_id for job in jobs] == [str(image["image_id"]) for image in kept]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=14))
def test_segments_are_those_that_the_detail_api_sees(tmp_path_factory, owners):
    """Its second loop, over the segments, also takes entries out of the list that it walks."""
    tree = tmp_path_factory.mktemp("context")
    images = [
        {"image_id": i, "file_name": f"{i}.jpg", "height": 1, "width": 14, "phase": phase}
        for i, phase in enumerate(["val", "val", "train", "train"])
    ]
    segments = []
    for at, owner in enumerate(owners):
        mask = np.zeros((1, 14), np.uint8, order="F")
        mask[0, at] = 1
        packed = masks.encode(mask)
        packed["counts"] = packed["counts"].decode()
        segments.append({"id": at, "image_id": owner, "category_id": 2, "segmentation": packed})
    data = {"images": images, "annos_segmentation": segments}
    (tree / "trainval_merged.json").write_text(json.dumps(data))
    listed = list(segments)
    for segment in listed:
        if segment["image_id"] not in (0, 1):
            listed.remove(segment)
            continue
        segment["seen"] = True
    for job in CONVERSIONS["voc2010"].jobs(tree, "trainval_merged"):
        expected = np.zeros(14, np.uint8)
        for segment in segments:
            if segment.get("seen") and str(segment["image_id"]) == job.image_id:
                expected[segment["id"]] = 1
        np.testing.assert_array_equal(job.draw()[0], expected)


@pytest.mark.parametrize("odd", ["not text", "folder", "file above", "pipe"])
def test_an_odd_context_split_is_one_line(odd, tmp_path):
    trees.context_raw(tmp_path)
    split = tmp_path / CONTEXT / "ImageSets/SegmentationContext/val.txt"
    if odd == "file above":
        split.parent.parent.mkdir()
        split.parent.touch()
    else:
        split.parent.mkdir(parents=True)
    if odd == "not text":
        split.write_bytes(b"\xff\xfe\x00")
    elif odd == "folder":
        split.mkdir()
    elif odd == "pipe":
        os.mkfifo(split)
    with pytest.raises(UserError, match=str(split.parent)):
        prepare("context60", tmp_path)
    if odd != "file above":  # told before a map is drawn
        assert not list((tmp_path / CONTEXT / "SegmentationClassContext").glob("*.png"))
    if odd in ("not text", "pipe"):
        assert prepare("context60", tmp_path, force=True).complete
        assert split.is_file()


def test_a_context_split_in_another_order_is_the_same(tmp_path):
    trees.context_raw(tmp_path)
    prepare("context60", tmp_path)
    split = tmp_path / CONTEXT / "ImageSets/SegmentationContext/val.txt"
    text = "\ufeff" + "".join(f"{line}\n" for line in reversed(split.read_text().split()))
    split.write_text(text, "utf-8")
    assert prepare("context60", tmp_path).complete
    assert split.read_text("utf-8") == text


def test_an_odd_file_in_another_tree_is_no_crash(tmp_path):
    trees.coco_object(tmp_path)
    for part in ("images", "annotations"):
        (tmp_path / f"coco_object/{part}/val2017").mkdir(parents=True)
    odd = tmp_path / COCO / "annotations/instances_val2017.json"
    odd.write_text('{"images": [{}], "annotations": [], "categories": [5]}')
    with pytest.raises(UserError, match=r"no .*instances_val2017\.json: from"):
        prepare("coco_object", tmp_path, "instances")


@pytest.mark.parametrize("name", MADE)
def test_no_image_is_needed(name, tmp_path):
    """Who fetches the annotations first may convert them first."""
    count = len(SETS[name][0](tmp_path))
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*_leftImg8bit.png")]:
        path.unlink()
    for folder in ("images", "leftImg8bit"):
        for path in list(tmp_path.rglob(folder)):
            shutil.rmtree(path)
    done = prepare(name, tmp_path)
    assert (done.written, done.complete) == (count, True)


def test_of_two_trees_the_one_with_maps_is_taken(tmp_path):
    trees.coco_object(tmp_path)
    prepare("coco_object", tmp_path)
    for part in ("images", "annotations"):
        (tmp_path / f"coco_object/{part}/val2017").mkdir(parents=True)
    assert prepare("coco_object", tmp_path).there == 3


def test_another_context_split_stays_unless_forced(tmp_path):
    trees.context_raw(tmp_path)
    split = tmp_path / CONTEXT / "ImageSets/SegmentationContext/val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("2008_000006\n")
    with pytest.raises(UserError, match=r"another split: it has 1 .* 4, and 2008_.*; .* --force"):
        prepare("context60", tmp_path)
    assert split.read_text() == "2008_000006\n"
    prepare("context60", tmp_path, force=True)
    assert len(split.read_text().split()) == 4


def test_annotations_without_a_part_are_the_users_to_mend(tmp_path):
    trees.context_raw(tmp_path)
    file = tmp_path / CONTEXT / "trainval_merged.json"
    data = json.loads(file.read_text())
    del data["images"][0]["file_name"]
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"lack a part .*file_name"):
        prepare("context60", tmp_path)


# --- again, and on


@pytest.mark.parametrize("name", MADE)
def test_a_second_run_writes_nothing(name, tmp_path):
    expected = SETS[name][0](tmp_path)
    prepare(name, tmp_path)
    before = written_at(tmp_path)
    done = prepare(name, tmp_path, force=True)
    assert (done.written, done.there) == (0, len(expected))
    assert written_at(tmp_path) == before


def test_only_missing_maps_are_made(tmp_path):
    expected = trees.coco_stuff(tmp_path)
    prepare("coco_stuff", tmp_path)
    place("coco_stuff", tmp_path, COCO_IDS[1]).unlink()
    before = written_at(tmp_path)
    done = prepare("coco_stuff", tmp_path)
    assert (done.written, done.there) == (1, 2)
    assert written_at(tmp_path).items() >= before.items()
    assert_holds("coco_stuff", tmp_path, expected)


def interrupt_at(
    monkeypatch, module: ModuleType, function: str, count: int, error: BaseException
) -> None:
    """Let a conversion raise at the call after so many."""
    original, calls = getattr(module, function), 0

    def replacement(*arguments, **others):
        nonlocal calls
        calls += 1
        if calls > count:
            raise error
        return original(*arguments, **others)

    monkeypatch.setattr(module, function, replacement)


def test_an_interrupted_run_is_known_as_such_and_is_continued(tmp_path, monkeypatch):
    expected = trees.coco_stuff(tmp_path)
    with monkeypatch.context() as patched:
        interrupt_at(patched, coco, "converted", 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare("coco_stuff", tmp_path, workers=1)
    tree = tmp_path / COCO
    assert record_of(tree, "coco_stuff")["complete"] is False
    there = list((tree / "annotations/val2017").glob("*_labelTrainIds.png"))
    assert len(there) == 1
    before = written_at(tmp_path)

    done = prepare("coco_stuff", tmp_path)
    assert (done.written, done.there) == (2, 1)
    assert written_at(tmp_path).items() >= before.items()
    assert record_of(tree, "coco_stuff")["complete"] is True
    assert_holds("coco_stuff", tmp_path, expected)


def test_an_interrupted_context_has_no_split_yet(tmp_path, monkeypatch):
    trees.context_raw(tmp_path)
    with monkeypatch.context() as patched:
        interrupt_at(patched, context, "context_map", 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare("context60", tmp_path, workers=1)
    assert not (tmp_path / CONTEXT / "ImageSets").exists()


# --- what was there before


def state_of(path: Path) -> tuple[int, ...]:
    """Without the time of the last access: reading is allowed."""
    state = os.lstat(path)
    return state.st_ino, state.st_mode, state.st_nlink, state.st_size, state.st_mtime_ns


@pytest.mark.parametrize("content", ["other", "torn", "empty", "folder link"])
def test_a_file_that_differs_stays_unless_forced(content, tmp_path):
    expected = trees.coco_object(tmp_path)
    target = place("coco_object", tmp_path, COCO_IDS[2])
    if content == "other":
        trees.grey(target, np.zeros((trees.HEIGHT, trees.WIDTH)))
    elif content == "folder link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.write_bytes(b"\x89PNG\r\n\x1a\n" if content == "torn" else b"")
    before = state_of(target)

    done = prepare("coco_object", tmp_path)
    assert done.differing == [target]
    assert done.written == 2
    assert state_of(target) == before
    assert record_of(tmp_path / COCO, "coco_object")["complete"] is False

    done = prepare("coco_object", tmp_path, force=True)
    assert (done.differing, done.written, done.there) == ([], 1, 2)
    assert record_of(tmp_path / COCO, "coco_object")["complete"] is True
    assert_holds("coco_object", tmp_path, expected)


def test_the_same_pixels_in_another_encoding_count_as_there(tmp_path):
    expected = trees.coco_object(tmp_path)
    for name, classes in expected.items():
        trees.grey(place("coco_object", tmp_path, name), classes)
    before = written_at(tmp_path)
    assert prepare("coco_object", tmp_path).there == len(expected)
    assert written_at(tmp_path) == before


def test_maps_of_another_source_are_not_mixed_in(tmp_path):
    stuff = trees.coco_object(tmp_path)
    instances = trees.coco_instances(tmp_path)
    prepare("coco_object", tmp_path)
    with pytest.raises(UserError, match="were made from stuff, not instances: pass --source stuff"):
        prepare("coco_object", tmp_path, "instances")
    assert_holds("coco_object", tmp_path, stuff)

    assert prepare("coco_object", tmp_path, "instances", force=True).written == 3
    assert_holds("coco_object", tmp_path, instances)
    with pytest.raises(UserError, match="were made from instances, not stuff"):
        prepare("coco_object", tmp_path)  # what is made by default does not follow what is there
    assert_holds("coco_object", tmp_path, instances)


def test_even_an_interrupted_one_of_another_source_is_not_mixed_in(tmp_path, monkeypatch):
    trees.coco_object(tmp_path)
    trees.coco_instances(tmp_path)
    with monkeypatch.context() as patched:
        interrupt_at(patched, coco, "object_map", 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare("coco_object", tmp_path, "instances", workers=1)
    with pytest.raises(UserError, match="were made from instances, not stuff"):
        prepare("coco_object", tmp_path)


def test_maps_that_were_not_made_here_are_not_said_to_be(tmp_path):
    """Those of another project may be of another source."""
    instances = trees.coco_instances(tmp_path)
    trees.coco_object(tmp_path)
    for name, classes in instances.items():
        trees.grey(place("coco_object", tmp_path, name), classes)
    assert len(prepare("coco_object", tmp_path).differing) == 3
    assert record_of(tmp_path / COCO, "coco_object") is None
    assert_holds("coco_object", tmp_path, instances)
    assert prepare("coco_object", tmp_path, "instances").there == 3
    assert record_of(tmp_path / COCO, "coco_object")["complete"] is True


def test_maps_that_were_changed_since_are_noted(tmp_path):
    expected = trees.coco_object(tmp_path)
    prepare("coco_object", tmp_path)
    trees.grey(place("coco_object", tmp_path, COCO_IDS[0]), expected[COCO_IDS[1]])
    prepare("coco_object", tmp_path)
    record = record_of(tmp_path / COCO, "coco_object")
    assert (record["complete"], record["differing"], record["failed"]) == (False, 1, 0)


def test_a_raw_map_that_was_damaged_since_takes_nothing_back(tmp_path):
    trees.coco_object(tmp_path)
    prepare("coco_object", tmp_path)
    (tmp_path / COCO / f"annotations/val2017/{COCO_IDS[0]}.png").write_bytes(b"")
    assert list(prepare("coco_object", tmp_path).failed) == [COCO_IDS[0]]
    assert record_of(tmp_path / COCO, "coco_object")["complete"] is True


def test_the_note_comes_before_the_first_map(tmp_path, monkeypatch):
    """By force, of another source: whatever happens then, it is known that they are mixed."""
    trees.coco_object(tmp_path)
    trees.coco_instances(tmp_path)
    prepare("coco_object", tmp_path)
    before = record_of(tmp_path / COCO, "coco_object")
    with monkeypatch.context() as patched:
        interrupt_at(patched, coco, "object_map", 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare("coco_object", tmp_path, "instances", force=True, workers=1)
    assert record_of(tmp_path / COCO, "coco_object") == before  # none was written
    with monkeypatch.context() as patched:
        interrupt_at(patched, coco, "object_map", 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare("coco_object", tmp_path, "instances", force=True, workers=1)
    record = record_of(tmp_path / COCO, "coco_object")
    assert (record["made_from"], record["complete"]) == ("instances", False)


def test_any_source_will_do_where_all_give_the_same_maps(tmp_path):
    trees.cityscapes(tmp_path)
    prepare("cityscapes", tmp_path, "labelIds")
    for path in tmp_path.rglob("*_labelIds.png"):
        path.unlink()
    done = prepare("cityscapes", tmp_path)
    assert (done.source, done.written, done.differing) == ("polygons", 0, [])


def test_raw_maps_in_the_tree_of_the_other_set_are_found(tmp_path):
    """COCO-Object has two places: what lies in one may hide the other."""
    trees.coco_object(tmp_path)
    (tmp_path / "coco_object/images/val2017").mkdir(parents=True)
    (tmp_path / "coco_object/annotations/val2017").mkdir(parents=True)
    with pytest.raises(UserError, match="no raw maps") as error:
        prepare("coco_object", tmp_path)
    other = tmp_path / COCO
    assert f"pass --root {other}, and to sclip run --data-root {other}" in str(error.value)
    assert prepare("coco_object", other).written == 3


def test_the_record_says_what_the_maps_were_made_from(tmp_path):
    trees.coco_instances(tmp_path)
    prepare("coco_object", tmp_path, "instances")
    path = tmp_path / COCO / "annotations/val2017/prepared-coco_object.json"
    assert json.loads(path.read_text()) == {
        "set": "coco_object",
        "made_from": "instances",
        "version": 1,
        "complete": True,
        "maps": 3,
    }


# --- what cannot be converted


def test_a_torn_raw_map_is_named_and_the_others_are_made(tmp_path):
    expected = trees.coco_stuff(tmp_path)
    torn = tmp_path / COCO / f"annotations/val2017/{COCO_IDS[1]}.png"
    torn.write_bytes(torn.read_bytes()[:-9])
    done = prepare("coco_stuff", tmp_path)
    assert list(done.failed) == [COCO_IDS[1]]
    assert str(torn) in done.failed[COCO_IDS[1]]
    assert done.written == 2
    assert record_of(tmp_path / COCO, "coco_stuff")["complete"] is False
    for name in (COCO_IDS[0], COCO_IDS[2]):
        assert np.array_equal(trees.read(place("coco_stuff", tmp_path, name)), expected[name])
    assert not place("coco_stuff", tmp_path, COCO_IDS[1]).exists()


@pytest.mark.parametrize("content", ["", '{"imgHeight": 9, "imgWidth"', "{}", "[]", "\x00\x01"])
def test_a_torn_polygon_file_is_named_and_the_others_are_drawn(content, tmp_path):
    trees.cityscapes(tmp_path, ("polygons",))
    torn = tmp_path / CITYSCAPES / f"gtFine/val/{CITIES[0]}_gtFine_polygons.json"
    torn.write_text(content)
    done = prepare("cityscapes", tmp_path)
    assert len(done.failed) == 1
    assert str(torn) in next(iter(done.failed.values()))
    assert done.written == 2


def test_values_that_no_raw_map_has_fail_by_file(tmp_path):
    trees.coco_stuff(tmp_path)
    odd = tmp_path / COCO / f"annotations/val2017/{COCO_IDS[0]}.png"
    trees.grey(odd, np.full((9, 12), 200))
    failed = prepare("coco_stuff", tmp_path).failed
    assert list(failed) == [COCO_IDS[0]]
    assert "found the values 200" in failed[COCO_IDS[0]]


def test_a_context_category_of_another_release_fails_by_image(tmp_path):
    trees.context_raw(tmp_path)
    path = tmp_path / CONTEXT / "trainval_merged.json"
    data = json.loads(path.read_text())
    data["annos_segmentation"][0]["category_id"] = 3
    path.write_text(json.dumps(data))
    done = prepare("context60", tmp_path)
    assert list(done.failed) == ["2008_000000"]
    assert not (tmp_path / CONTEXT / "ImageSets").exists()


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("coco_stuff", None, r"no raw maps of COCO-Stuff in .*stuffthingmaps_trainval2017\.zip"),
        ("coco_object", None, r"no raw maps of COCO-Stuff in .*stuffthingmaps_trainval2017\.zip"),
        ("coco_object", "instances", r"no .*instances_val2017\.json: from annotations_trainval"),
        ("cityscapes", None, r"no \*_gtFine_labelIds\.png below .*gtFine_trainvaltest\.zip"),
        ("cityscapes", "polygons", r"no \*_gtFine_polygons\.json below"),
        ("context60", None, r"no .*trainval_merged\.json: sclip data download context60"),
    ],
)
def test_without_raw_annotations_it_says_where_they_come_from(name, source, says, tmp_path):
    trees.coco_images(tmp_path)
    trees.cityscapes(tmp_path, ())
    trees.photograph(tmp_path / CONTEXT / "JPEGImages/2008_000000.jpg")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=says):
        prepare(name, tmp_path, source)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", ["", '{"images": [', "[]", '{"images": []}'])
def test_a_torn_annotation_file_is_named(content, tmp_path):
    trees.context_raw(tmp_path)
    (tmp_path / CONTEXT / "trainval_merged.json").write_text(content)
    with pytest.raises(UserError, match=r"trainval_merged\.json (is not JSON|holds a list|has no)"):
        prepare("context60", tmp_path)


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("coco_stuff", "instances", "unknown source 'instances'"),
        ("voc21", "stuff", "have one source"),
        ("context60", "stuff", "unknown source 'stuff'"),
        ("coco_object", "instance", "Did you mean 'instances'"),
        ("cityscapes", "polygon", "Did you mean 'polygons'"),
    ],
)
def test_a_source_that_is_no_choice_is_refused(name, source, says, tmp_path):
    SETS[name][0](tmp_path)
    with pytest.raises(UserError, match=says):
        prepare(name, tmp_path, source)


@pytest.mark.parametrize("root", ["missing", "file", "empty"])
def test_a_root_without_the_set_is_refused(root, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=root):
        prepare("coco_stuff", tmp_path / root)


# --- the disk


@pytest.mark.parametrize("room", [1, 3, 5])
def test_a_full_disk_leaves_nothing_half_written(room, tmp_path, monkeypatch):
    expected = trees.coco_stuff(tmp_path)
    folder = tmp_path / COCO / "annotations/val2017"
    fsync, left = os.fsync, room

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match="No space left"):
            prepare("coco_stuff", tmp_path, workers=1)
    assert not list(folder.glob(".writing*"))
    for path in folder.glob("*_labelTrainIds.png"):
        assert np.array_equal(trees.read(path), expected[path.name.split("_")[0]])
    prepare("coco_stuff", tmp_path)
    assert_holds("coco_stuff", tmp_path, expected)


def test_progress_is_told_of_every_map(tmp_path):
    class Told:
        calls: list[tuple] = []  # noqa: RUF012

        def start(self, *arguments):
            self.calls.append(("start", *arguments))

        def advance(self, count):
            self.calls.append(("advance", count))

        def finish(self):
            self.calls.append(("finish",))

    trees.coco_stuff(tmp_path)
    told = Told()
    prepare("coco_stuff", tmp_path, progress=told)
    assert told.calls == [("start", "coco_stuff", 3, 0), *[("advance", 1)] * 3, ("finish",)]
