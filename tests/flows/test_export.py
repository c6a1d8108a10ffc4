"""``sclip export``: what it writes, and what it refuses in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from sclip_core.exports import FORMATS, Options, StoredRun, export


def place(format, tmp_path):
    return tmp_path / f"run{FORMATS[format].ending}"


@pytest.mark.parametrize("format", FORMATS)
def test_it_writes_what_the_function_writes(sclip, scenes_runs, tmp_path, format):
    path = place(format, tmp_path)
    given = ("--format", format, "-o", path, "--images", "0001", "0003")
    code, out, err = sclip("export", "latest~3", *given, "--artifacts", scenes_runs)
    assert (code, out, err) == (0, f"{path}\n", "")
    run = StoredRun.open("latest~3", scenes_runs, images=["0001", "0003"])
    (tmp_path / "again").mkdir()
    export(run, format, place(format, tmp_path / "again"))
    assert contents(path) == contents(place(format, tmp_path / "again"))


def contents(path):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    assert files
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


@pytest.fixture
def refused(sclip, scenes_runs, tmp_path):
    """A command that is refused in one line and writes nothing; the line is returned."""

    def command(*arguments, run="latest~3", artifacts=scenes_runs):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = sclip("export", run, *arguments, "--artifacts", artifacts)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return command


class TestRefused:
    """Mistakes, each in one line with exit code 2."""

    def test_an_unknown_run(self, refused, tmp_path):
        line = refused("--format", "png", "-o", tmp_path / "maps", run="scenes-no")
        assert line.startswith("sclip: no run 'scenes-no': expected latest, latest~1, or an id")

    def test_an_unknown_format(self, refused, tmp_path):
        assert "coco" in refused("--format", "yolo", "-o", tmp_path / "run.json")

    def test_another_ending(self, refused, tmp_path):
        line = refused("--format", "coco", "-o", tmp_path / "run.txt")
        assert line.endswith("run.txt: this format is written as .json; change the ending\n")

    def test_a_file_that_is_there(self, refused, tmp_path):
        (tmp_path / "run.json").write_text("mine")
        line = refused("--format", "coco", "-o", tmp_path / "run.json")
        assert line.endswith("run.json is there already: remove it, or choose another path\n")
        assert (tmp_path / "run.json").read_text() == "mine"

    def test_a_folder_with_files(self, refused, tmp_path):
        (tmp_path / "maps").mkdir()
        (tmp_path / "maps" / "mine").touch()
        line = refused("--format", "png", "-o", tmp_path / "maps")
        assert line.endswith("maps is not empty: pass a new or an empty folder, -o DIR\n")

    def test_a_file_as_folder(self, refused, tmp_path):
        (tmp_path / "maps").touch()
        line = refused("--format", "png", "-o", tmp_path / "maps")
        assert line.endswith("maps is a file: this format is a folder, -o DIR\n")

    def test_an_option_of_another_format(self, refused, tmp_path):
        line = refused("--format", "png", "-o", tmp_path / "maps", "--simplify", "2")
        assert line == (
            "sclip: --simplify is for the formats polygons, geojson: png does not read it\n"
        )

    def test_an_unknown_image(self, refused, tmp_path):
        line = refused("--format", "png", "-o", tmp_path / "maps", "--images", "nine")
        assert " has no image nine: it has 0000, " in line

    def test_label_maps_that_are_gone(self, refused, scenes_runs, tmp_path):
        shutil.copytree(scenes_runs, tmp_path / "artifacts")
        shutil.rmtree(tmp_path / "artifacts" / "refine")
        given = ("--format", "coco", "-o", tmp_path / "run.json")
        line = refused(*given, artifacts=tmp_path / "artifacts")
        assert "the label maps of scenes-" in line
        assert line.endswith("any more: run it again\n")

    def test_images_that_are_gone(self, refused, tmp_path):
        given = ("--format", "coco", "-o", tmp_path / "run.json", "--data-root", tmp_path)
        assert refused(*given).startswith("sclip: ")

    def test_a_library_that_is_missing(self, refused, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
        line = refused("--format", "coco", "-o", tmp_path / "run.json")
        assert line == (
            "sclip: pycocotools is not installed: pip install 'sclip-benchmark[data]'\n"
        )


def test_an_image_that_changed_leaves_nothing(sclip, scenes_runs, tmp_path):
    """The first images are written, a later one is not: there is no file and no folder then."""
    shutil.copytree(scenes_runs.parent / "scenes", tmp_path / "scenes")
    last = max((tmp_path / "scenes" / "images").iterdir())
    last.write_bytes(min((tmp_path / "scenes" / "images").iterdir()).read_bytes() + b"\0")
    for format, path in (("png", tmp_path / "maps"), ("coco", tmp_path / "run.json")):
        given = ("--format", format, "-o", path, "--data-root", tmp_path / "scenes")
        code, out, err = sclip("export", "latest~3", *given, "--artifacts", scenes_runs)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{last.stem} has no label map in scenes-" in err
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_an_empty_folder_is_taken(sclip, scenes_runs, tmp_path):
    (tmp_path / "maps").mkdir()
    given = ("--format", "png", "-o", tmp_path / "maps", "--artifacts", scenes_runs)
    assert sclip("export", "latest~3", *given)[0] == 0
    assert len(list((tmp_path / "maps").iterdir())) == 8


@pytest.mark.parametrize("pixels", ["inf", "1e300", "-1", "nan"])
def test_a_distance_that_no_polygon_has(sclip, scenes_runs, tmp_path, pixels):
    given = ("--format", "polygons", "-o", tmp_path / "p.json", "--artifacts", scenes_runs)
    code, out, err = sclip("export", "latest", *given, f"--simplify={pixels}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--simplify" in err
    assert not list(tmp_path.iterdir())


def test_components_and_simplify_reach_the_file(sclip, scenes_runs, tmp_path):
    given = ("--format", "polygons", "-o", tmp_path / "run.json", "--artifacts", scenes_runs)
    assert sclip("export", "latest~3", *given, "--components", "--simplify", "2")[0] == 0
    run = StoredRun.open("latest~3", scenes_runs)
    export(run, "polygons", tmp_path / "same.json", Options(components=True, simplify=2))
    texts = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("run", "same")]
    assert texts[0] == texts[1]
