"""From a publisher's archives to a set that can be prepared, by a server on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sclip_core.acquire import obtain as obtain_module
from sclip_core.acquire.obtain import obtain
from sclip_core.acquire.prepare import prepare
from sclip_core.config import UserError
from sclip_core.datasets.layouts import benchmark_samples

from . import trees
from .publisher import Publisher
from .trees import COCO, CONTEXT, SETS


def by_hand(publisher: Publisher, name: str, folder: Path) -> None:
    """What a person does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((publisher.folder / name).read_bytes())


@pytest.mark.parametrize("name", ["voc21", "ade20k", "coco_stuff", "coco_object"])
def test_from_nothing_to_a_set_that_opens(name, publisher, tmp_path):
    root = tmp_path / "data"
    done = obtain(name, root)
    assert done.by_hand == []
    assert done.there == []
    assert all(path.is_file() for path in done.fetched)
    prepare(name, root)
    drawn = SETS[name][0](tmp_path / "again")
    samples = benchmark_samples(name, root)
    assert {sample.image_id for sample in samples} == set(drawn)
    for sample in samples:
        assert (trees.read(sample.label) == drawn[sample.image_id]).all()


def test_only_what_the_validation_split_needs_is_unpacked(publisher, tmp_path):
    root = tmp_path / "data"
    obtain("coco_stuff", root)
    kept = {p.relative_to(root).as_posix() for p in (root / COCO).rglob("*") if p.is_file()}
    assert kept == {
        *(f"{COCO}/images/val2017/{name}.jpg" for name in trees.COCO_IDS),
        *(f"{COCO}/annotations/val2017/{name}.png" for name in trees.COCO_IDS),
    }


def test_a_second_start_asks_nothing_and_writes_nothing(publisher, tmp_path):
    root = tmp_path / "data"
    fetched = obtain("coco_stuff", root).fetched
    publisher.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.??g")}
    said: list[str] = []
    done = obtain("coco_stuff", root, say=said.append)
    assert done.there == ["val2017.zip", "stuffthingmaps_trainval2017.zip"]
    assert (done.unpacked, done.fetched, done.by_hand) == ({}, [], [])
    assert len(said) == 2

    for path in fetched:  # they may be removed, as the command says
        path.unlink()
    assert obtain("coco_object", root).there == done.there
    assert publisher.asked == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.??g")} == before


def test_a_lost_file_is_unpacked_again(publisher, tmp_path):
    root = tmp_path / "data"
    obtain("coco_stuff", root)
    publisher.asked.clear()
    lost = root / COCO / f"images/val2017/{trees.COCO_IDS[0]}.jpg"
    lost.unlink()
    done = obtain("coco_stuff", root)
    assert done.unpacked == {"val2017.zip": 1}
    assert lost.is_file()
    assert publisher.asked == []


def test_from_instances_other_annotations_are_fetched(publisher, tmp_path):
    root = tmp_path / "data"
    done = obtain("coco_object", root, "instances")
    assert list(done.unpacked) == ["val2017.zip", "annotations_trainval2017.zip"]
    assert not any("stuffthingmaps" in path for path in publisher.asked)
    assert prepare("coco_object", root, "instances").written == 3
    with pytest.raises(UserError, match="Did you mean 'instances'"):
        obtain("coco_object", root, "instance")


def test_what_needs_a_login_is_asked_for_all_at_once(publisher, tmp_path):
    root = tmp_path / "data"
    done = obtain("cityscapes", root)
    assert len(done.by_hand) == 2
    for line, name in zip(
        done.by_hand, ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"], strict=True
    ):
        assert line.startswith(f"{name} (")
        assert "https://www.cityscapes-dataset.com/downloads/" in line
        assert str(root / "downloads" / name) in line
    assert publisher.asked == []


@pytest.mark.parametrize("folder", ["downloads", "."])
def test_it_goes_on_from_what_a_person_fetched(folder, publisher, tmp_path):
    root = tmp_path / "data"
    by_hand(publisher, "gtFine_trainvaltest.zip", root / folder)
    done = obtain("cityscapes", root)
    assert done.unpacked == {"gtFine_trainvaltest.zip": 6}  # label ids and polygons
    assert [line.split()[0] for line in done.by_hand] == ["leftImg8bit_trainvaltest.zip"]

    by_hand(publisher, "leftImg8bit_trainvaltest.zip", root / folder)
    done = obtain("cityscapes", root)
    assert done.there == ["gtFine_trainvaltest.zip"]
    assert done.by_hand == []
    assert prepare("cityscapes", root).written == 3
    assert len(benchmark_samples("cityscapes", root)) == 3


@pytest.mark.parametrize("folder", ["downloads", ".", CONTEXT])
def test_contexts_annotation_file_is_put_in_its_place(folder, publisher, tmp_path):
    root = tmp_path / "data"
    done = obtain("context60", root)
    assert [line.split()[0] for line in done.by_hand] == ["trainval_merged.json"]
    assert done.unpacked == {"VOCtrainval_03-May-2010.tar": len(trees.PHASES)}

    by_hand(publisher, "trainval_merged.json", root / folder)
    done = obtain("context60", root)
    assert done.by_hand == []
    assert json.loads((root / CONTEXT / "trainval_merged.json").read_text())["images"]
    assert prepare("context60", root).written == 4
    assert len(benchmark_samples("context59", root)) == 4
    assert len(obtain("context60", root).there) == 2


def test_what_lies_in_its_place_and_is_another_file_is_refused(publisher, tmp_path):
    place = tmp_path / CONTEXT / "trainval_merged.json"
    place.parent.mkdir(parents=True)
    place.write_text("")
    with pytest.raises(
        UserError, match=r"trainval_merged\.json is not the published file .*remove"
    ):
        obtain("context60", tmp_path)
    assert place.exists()


def test_a_mirror_is_not_asked_for_what_a_person_put_into_the_root(
    publisher, tmp_path, monkeypatch
):
    monkeypatch.setenv("SCLIP_DATA_URL", "http://127.0.0.1:9")
    for name in ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"):
        by_hand(publisher, name, tmp_path)
    assert len(obtain("cityscapes", tmp_path).unpacked) == 2


def test_a_mirror_without_an_address_is_named(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIP_DATA_URL", "mirror.example/sets")
    with pytest.raises(
        UserError, match=r"SCLIP_DATA_URL is 'mirror.example/sets': expected an add"
    ):
        obtain("voc21", tmp_path)


def test_a_mirror_has_all_archives(publisher, tmp_path, monkeypatch):
    for path in publisher.folder.iterdir():
        path.rename(tmp_path / "published" / path.name)
    monkeypatch.setenv(obtain_module.MIRROR, f"{publisher.url}/")
    root = tmp_path / "data"
    for name, count in (("cityscapes", 3), ("context60", 4)):
        done = obtain(name, root)
        assert done.by_hand == []
        assert prepare(name, root).written == count


def test_a_file_with_other_content_is_replaced_only_by_force(publisher, tmp_path):
    root = tmp_path / "data"
    odd = root / COCO / f"images/val2017/{trees.COCO_IDS[0]}.jpg"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"another")
    with pytest.raises(UserError, match="another content"):
        obtain("coco_stuff", root)
    assert odd.read_bytes() == b"another"
    assert obtain("coco_stuff", root, force=True).unpacked["val2017.zip"] >= 1
    assert odd.read_bytes() != b"another"


def test_a_file_that_was_damaged_since_is_mended_by_force(publisher, tmp_path):
    """It has its size: only who asks for it has all of them compared with the archive."""
    root = tmp_path / "data"
    obtain("coco_stuff", root)
    path = root / COCO / f"images/val2017/{trees.COCO_IDS[0]}.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    assert obtain("coco_stuff", root).unpacked == {}
    assert path.read_bytes() != whole
    assert obtain("coco_stuff", root, force=True).unpacked["val2017.zip"] == 1
    assert path.read_bytes() == whole


def test_a_root_that_is_a_file_is_refused(publisher, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="choose a --root that can be written to"):
        obtain("voc21", tmp_path / "data")
