"""How far a set has come, by the names of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclip_core.acquire.prepare import prepare
from sclip_core.acquire.status import status

from . import trees
from .trees import COCO_IDS, CONTEXT, MADE, SETS, place


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_there(name, tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        found = status(name, root)
        assert (found.state, found.pairs) == ("absent", 0)
        assert found.what.startswith(f"sclip data download {name}")


@pytest.mark.parametrize(
    ("name", "asks"),
    [("cityscapes", True), ("context60", True), ("voc21", False), ("coco_stuff", False)],
)
def test_it_says_where_a_person_has_to_fetch_something(name, asks, tmp_path):
    assert status(name, tmp_path).what.endswith(" (partly by hand)") is asks


def test_the_default_root_need_not_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trees.coco_stuff(tmp_path / "data")
    assert status("coco_stuff", Path("data")).what == "raw: sclip data prepare coco_stuff"
    assert status("voc21", Path("data")).what == "sclip data download voc21"


@pytest.mark.parametrize("folder", [".", "downloads"])
def test_archives_are_there(folder, tmp_path):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "gtFine_trainvaltest.zip").write_bytes(b"")
    found = status("cityscapes", tmp_path)
    assert found.state == "fetched"
    assert found.what == f"1 of 2 archives: sclip data download cityscapes --root {tmp_path}"


@pytest.mark.parametrize("name", MADE)
def test_raw_annotations_are_there(name, tmp_path):
    SETS[name][0](tmp_path)
    found = status(name, tmp_path)
    assert (found.state, found.pairs) == ("raw", 0)
    assert found.what == f"raw: sclip data prepare {name} --root {tmp_path}"


def test_polygons_alone_are_raw_annotations_too(tmp_path):
    trees.cityscapes(tmp_path, ("polygons",))
    assert status("cityscapes", tmp_path).state == "raw"


def test_images_alone_are_nothing_to_convert(tmp_path):
    trees.coco_images(tmp_path)
    trees.photograph(tmp_path / CONTEXT / "JPEGImages/2008_000000.jpg")
    assert status("coco_stuff", tmp_path).state == "absent"
    assert status("context60", tmp_path).state == "absent"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("voc21", ""),
        ("ade20k", ""),
        ("coco_object", ", made from stuff"),
        ("cityscapes", ", made from labelIds"),
        ("context59", ", made from trainval_merged"),
    ],
)
def test_all_is_there(name, made, tmp_path, of_size):
    count = len(SETS[name][0](tmp_path))
    prepare(name, tmp_path)
    of_size(name, count)
    found = status(name, tmp_path)
    assert found == ("ready", count, f"all {count} images{made}")


def test_some_are_missing(tmp_path, of_size):
    trees.coco_stuff(tmp_path)
    prepare("coco_stuff", tmp_path)
    place("coco_stuff", tmp_path, COCO_IDS[0]).unlink()
    of_size("coco_stuff", 3)
    found = status("coco_stuff", tmp_path)
    what = f"2 of 3 images: sclip data check coco_stuff --root {tmp_path}"
    assert found == ("partial", 2, what)


def test_pairs_are_counted_not_files(tmp_path, of_size):
    trees.ade20k(tmp_path)
    of_size("ade20k", 2)
    (tmp_path / trees.ADE / "images/validation/ADE_val_00000002.jpg").unlink()
    trees.photograph(tmp_path / trees.ADE / "images/validation/ADE_val_00000003.jpg")
    assert status("ade20k", tmp_path)[:2] == ("partial", 1)


def test_no_file_is_opened(tmp_path, of_size):
    trees.coco_stuff(tmp_path)
    for name in COCO_IDS:
        place("coco_stuff", tmp_path, name).write_bytes(b"no label map")
    of_size("coco_stuff", 3)
    assert status("coco_stuff", tmp_path).state == "ready"
