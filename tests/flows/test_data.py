"""``sclip data`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import tables

from ..acquire import trees
from ..acquire.trees import COCO, COCO_IDS, MADE, SETS, place
from ..conftest import TINY

NAMES = ["voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff"]
NAMES += ["ade20k", "cityscapes"]


@pytest.fixture
def data(sclip, tmp_path, monkeypatch):
    """``sclip data``, in an empty folder: (exit code, output, lines on standard error)."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def command(*arguments: object) -> tuple[int, str, list[str]]:
        code, out, err = sclip("data", *arguments)
        assert "Traceback" not in err
        return code, out, err.splitlines()

    return command


def mistake(result: tuple[int, str, list[str]]) -> str:
    """The one line of a user's mistake."""
    code, _, err = result
    assert code == 2
    assert len(err) == 1, err
    assert err[0].startswith("sclip: ")
    return err[0]


@pytest.mark.usefixtures("publisher")
def test_from_nothing_to_a_score(data, sclip, tmp_path, of_size):
    """The four commands of a user who has nothing yet."""
    name, root = "coco_object", tmp_path / "data"
    of_size(name, 3)
    code, _, err = data("download", name, "--root", root)
    assert code == 0, err
    assert mistake(data("check", name, "--root", root)).endswith(
        f"3 label maps are not there: run `sclip data prepare coco_object --root {root}`"
    )
    code, out, _ = data("prepare", name, "--root", root)
    assert (code, "3 maps written" in out) == (0, True), out
    code, out, _ = data("check", name, "--root", root, "--panel", tmp_path / "look.png")
    assert (code, (tmp_path / "look.png").is_file()) == (0, True)
    given = {"dataset": name, "data-root": root, "artifacts": tmp_path / "artifacts", **TINY}
    code, out, err = sclip("run", "--direct", *(f"--{k}={v}" for k, v in given.items()))
    assert code == 0, err
    assert "3 images" in out


# --- list


def test_list_has_the_eight_benchmarks(data, tmp_path):
    code, out, err = data("list", "--root", tmp_path)
    assert (code, err) == (0, [])
    for name in NAMES:
        assert name in out
    for count in ("1,449", "5,104", "5,000", "2,000", "500"):
        assert count in out


def test_list_as_json(data, tmp_path, of_size):
    trees.coco_stuff(tmp_path)
    of_size("ade20k", len(trees.ade20k(tmp_path)))
    code, out, _ = data("list", "--root", tmp_path, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert list(rows) == NAMES
    assert rows["voc21"]["images"] == tables()["benchmarks"]["voc21"]["num_images"] == 1449
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        **dict.fromkeys(NAMES, "absent"),
        "coco_stuff": "raw",
        "coco_object": "raw",
        "ade20k": "ready",
    }
    for row in rows.values():
        assert row["licence"]
        assert row["home"].startswith("http")
        assert row["archives"]


def test_list_of_a_root_that_is_not_there_yet(data, tmp_path):
    assert data("list", "--root", tmp_path / "nowhere")[0] == 0


# --- download


def test_download_says_what_a_person_has_to_fetch(data, tmp_path):
    code, out, err = data("download", "cityscapes", "--root", tmp_path / "data")
    assert code == 2
    assert "registration" in out
    assert "next:" not in out
    assert len(err) == 2
    assert all("https://www.cityscapes-dataset.com/downloads/" in line for line in err)


# --- prepare and check


@pytest.mark.parametrize("name", MADE)
def test_prepare_then_check(name, data, tmp_path, of_size):
    count = len(SETS[name][0](tmp_path))
    of_size(name, count)
    code, out, err = data("prepare", name, "--root", tmp_path)
    assert (code, err) == (0, [])
    assert f"{count} maps written, 0 existed already" in out
    assert f"next: sclip data check {name} --root {tmp_path}" in out
    assert (
        f"0 maps written, {count} existed already" in data("prepare", name, "--root", tmp_path)[1]
    )

    code, out, err = data("check", name, "--root", tmp_path)
    assert (code, err) == (0, [])
    assert f"{count} of {count} images" in out
    assert f"look at {name}-check.png" in out
    with Image.open(f"{name}-check.png") as picture:
        picture.load()


def test_check_as_json(data, tmp_path, of_size):
    expected = trees.ade20k(tmp_path)
    of_size("ade20k", 2)
    look = tmp_path / "look.png"
    code, out, _ = data("check", "ADE20K", "--root", tmp_path, "--json", "-o", look)
    found = json.loads(out)
    assert code == 0
    assert found["right"] is True
    assert len(found["pixels"]) == 150
    evaluated = sum(int((classes > 0).sum()) for classes in expected.values())
    assert sum(found["pixels"].values()) == evaluated
    assert found["faults"] == []
    assert look.is_file()


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "JPEG"), ("a.WEBP", "WEBP"), ("a.png", "PNG"), ("a", "PNG")]
)
def test_the_picture_is_in_the_format_of_its_name(name, kind, data, tmp_path, of_size):
    trees.ade20k(tmp_path)
    of_size("ade20k", 2)
    assert data("check", "ade20k", "--root", tmp_path, "-o", tmp_path / name)[0] == 0
    with Image.open(tmp_path / name) as picture:
        picture.load()
        assert picture.format == kind


@pytest.mark.parametrize("target", ["nowhere/look.png", "look.gif", "."])
def test_where_no_picture_can_go_nothing_is_read(target, data, tmp_path, monkeypatch):
    trees.ade20k(tmp_path)
    monkeypatch.setattr("sclip_core.acquire.check.check", None)
    said = mistake(data("check", "ade20k", "--root", tmp_path, "-o", target))
    assert Path(target).name in said


def test_a_file_of_the_set_is_not_replaced_by_the_picture(data, tmp_path, of_size):
    trees.coco_object(tmp_path)
    of_size("coco_object", 3)
    raw = tmp_path / COCO / f"annotations/val2017/{COCO_IDS[0]}.png"
    before = raw.read_bytes()
    said = mistake(data("check", "coco_object", "--root", tmp_path, "-o", raw))
    assert "would replace" in said
    assert raw.read_bytes() == before


def test_a_root_that_is_a_file_is_no_place(data, tmp_path):
    (tmp_path / "file").touch()
    assert "is a file: expected a folder" in mistake(data("list", "--root", tmp_path / "file"))


def test_maps_that_have_no_raw_annotation_are_named(data, tmp_path):
    """They would be scored as made from the source that the others were made from."""
    trees.coco_object(tmp_path)
    trees.coco_instances(tmp_path)
    assert data("prepare", "coco_object", "--root", tmp_path)[0] == 0
    path = tmp_path / COCO / "annotations/instances_val2017.json"
    found = json.loads(path.read_text())
    gone = found["images"].pop()
    ids = {image["id"] for image in found["images"]}
    found["annotations"] = [one for one in found["annotations"] if one["image_id"] in ids]
    path.write_text(json.dumps(found))
    arguments = ("--root", tmp_path, "--source", "instances", "--force")
    said = mistake(data("prepare", "coco_object", *arguments))
    assert "1 label maps have no raw annotation in instances" in said
    assert gone["file_name"].removesuffix(".jpg") in said
    assert "not all made" in mistake(data("check", "coco_object", "--root", tmp_path))


def test_nothing_to_prepare_is_no_mistake(data, tmp_path):
    trees.voc(tmp_path)
    code, out, _ = data("prepare", "voc21", "--root", tmp_path)
    assert code == 0
    assert "nothing to convert" in out


def test_check_of_a_wrong_tree_names_the_cause_in_one_line(data, tmp_path, of_size):
    of_size("coco_stuff", len(trees.coco_stuff(tmp_path)))
    for name, raw in trees.raw_stuff().items():
        trees.grey(place("coco_stuff", tmp_path, name), raw)
    result = data("check", "coco_stuff", "--root", tmp_path)
    assert "these are raw stuff maps, run `sclip data prepare coco_stuff`" in mistake(result)
    assert f"{COCO_IDS[0]}_labelTrainIds.png: values without a class" in result[1]

    code, out, _ = data("check", "coco_stuff", "--root", tmp_path, "--json")
    assert code == 2
    assert len(json.loads(out)["faults"]) == 3


def test_check_of_too_few_images_says_so(data, tmp_path):
    trees.ade20k(tmp_path)
    line = mistake(data("check", "ade20k", "--root", tmp_path))
    assert "2 images where the validation split has 2,000" in line


def test_prepare_keeps_a_file_that_differs(data, tmp_path):
    trees.coco_object(tmp_path)
    target = place("coco_object", tmp_path, COCO_IDS[0])
    trees.grey(target, np.full((trees.HEIGHT, trees.WIDTH), 80))
    line = mistake(data("prepare", "coco_object", "--root", tmp_path))
    assert "1 existing label maps differ" in line
    assert str(target) in line
    assert "--force" in line
    assert (trees.read(target) == 80).all()
    assert data("prepare", "coco_object", "--root", tmp_path, "--force")[0] == 0
    assert not (trees.read(target) == 80).all()


def test_prepare_names_a_torn_file_and_makes_the_others(data, tmp_path):
    trees.coco_stuff(tmp_path)
    torn = tmp_path / COCO / f"annotations/val2017/{COCO_IDS[0]}.png"
    torn.write_bytes(b"")
    line = mistake(data("prepare", "coco_stuff", "--root", tmp_path))
    assert "1 maps could not be made" in line
    assert str(torn) in line
    assert place("coco_stuff", tmp_path, COCO_IDS[2]).is_file()


@pytest.mark.parametrize("command", ["download", "prepare"])
@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("voc21", "stuff", "leave --source out"),
        ("coco_object", "instance", "Did you mean 'instances'?"),
        ("coco_stuff", "instances", "unknown source 'instances'"),
    ],
)
def test_a_source_that_is_no_choice(command, name, source, says, data, tmp_path):
    trees.coco_images(tmp_path)
    line = mistake(data(command, name, "--root", tmp_path, "--source", source))
    assert says in line


def test_two_sources_are_not_mixed(data, tmp_path):
    trees.coco_instances(tmp_path)
    trees.coco_object(tmp_path)
    arguments = ("prepare", "coco_object", "--root", tmp_path)
    assert data(*arguments, "--source", "instances")[0] == 0
    assert "made from instances, not stuff" in mistake(data(*arguments))
    assert data(*arguments, "--force")[0] == 0


@pytest.mark.parametrize("command", ["download", "prepare", "check"])
def test_an_unknown_set_comes_with_the_nearest_spelling(command, data, tmp_path):
    line = mistake(data(command, "coco_stuf", "--root", tmp_path))
    assert "Did you mean 'coco_stuff'?" in line


@pytest.mark.parametrize("command", ["prepare", "check"])
def test_a_root_that_is_not_there(command, data, tmp_path):
    line = mistake(data(command, "coco_stuff", "--root", tmp_path / "nowhere"))
    assert "does not exist" in line
    assert not list(Path.cwd().iterdir())


def test_the_commands_need_neither_prefect_nor_torch():
    code = (
        "import sys, flows.cli.data, sclip_core.acquire.obtain, sclip_core.acquire.prepare;"
        "print([m for m in ('prefect', 'torch') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["download", "prepare"])
def test_the_drawn_scenes_are_not_fetched(command, data, tmp_path):
    code, _, errors = data(command, "scenes", "--root", tmp_path)
    assert code == 2
    assert "cannot be downloaded; the sets that can are voc21" in errors[0]


def test_archives_are_not_unpacked_within_a_tree(data, tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    code, _, errors = data("download", "voc21", "--root", tmp_path)
    assert code == 2
    assert "pass the folder above all trees" in errors[0]
