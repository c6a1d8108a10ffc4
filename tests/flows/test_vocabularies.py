"""Classes as people bring them: the forms of other projects, names that mean ignore, thresholds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import flags

RIGHT = "sky, clouds\ngrass, tree\nroad, box\n"
FORMS = {
    "segearth.txt": "sky,clouds\ngrass,tree\nroad,box\n",
    "openseg.txt": "0:sky,clouds\n1:grass,tree\n2:road,box\n",
    "catseg.json": '["sky, clouds", "grass, tree", "road, box"]\n',
    "roboflow.csv": 'Pixel Value, Class\n0, "sky, clouds"\n1, "grass, tree"\n2, "road, box"\n',
}
SUMMARY = "3 classes, 6 words: sky, grass, road; background: none"


@pytest.fixture
def plan(small, tmp_path, sclip):
    """Plans a run over the small pictures: the keys of its stages, and what is printed."""

    def command(classes, *more, **others):
        given = flags(small, tmp_path / "artifacts", classes=classes, **others)
        code, out, err = sclip("plan", *given, "--json", *more)
        assert code == 0, err
        return {s["stage"]: s["key"] for s in json.loads(out)}, err

    return command


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FORMS)
def test_other_forms_are_the_same_run_and_said(plan, tmp_path, name):
    right, nothing = plan(written(tmp_path, "right.txt", RIGHT))
    assert "note: " not in nothing
    found, err = plan(written(tmp_path, name, FORMS[name]))
    assert found == right
    (note,) = [line for line in err.splitlines() if line.startswith("note: ")]
    assert name in note


def test_classes_are_one_line_of_a_plan_and_a_run(small, tmp_path, sclip):
    given = flags(small, tmp_path / "artifacts", classes=written(tmp_path, "c.txt", RIGHT))
    several = [*given, "--attention=csa,vanilla"]
    for command in (["plan", *several], ["run", "--direct", *several]):
        code, out, err = sclip(*command)
        assert code == 0, err
        assert SUMMARY in out.splitlines()[:2]
        assert out.count("6 words") == 1


@pytest.mark.parametrize("classes", ["sky, clouds; grass, tree; road, box", None])
def test_words_in_the_command_are_those_of_a_file(plan, tmp_path, classes):
    file = written(tmp_path, "c.txt", RIGHT)
    assert plan(classes or file)[0] == plan(file)[0]


def test_segment_and_run_take_the_same_words(plan, small, tmp_path, sclip):
    names = written(tmp_path, "c.txt", "sky\ngrass\nroad\n")
    keys, err = plan("sky,grass,road")
    assert keys == plan(names)[0]
    assert "one line, read as 3 classes separated by ','" in err
    maps = []
    for classes in ("sky,grass,road", names):
        target = tmp_path / f"{len(maps)}.png"
        model = [one for one in flags(small, tmp_path) if "model" in one or "pretrained" in one]
        image, picture = small / "images/0.png", tmp_path / "p.png"
        options = ["--classes", classes, *model, "-o", picture, "--labels-out", target]
        code, _, err = sclip("segment", image, *options)
        assert code == 0, err
        assert "3 classes, 3 words: sky, grass, road; background: none" in err
        maps.append(np.asarray(Image.open(target)))
    assert np.array_equal(*maps)
    code, _, err = sclip("segment", image, "--classes", "nowhere.txt", "-o", picture)
    assert code == 2
    assert "no vocabulary file at nowhere.txt" in err


def test_pixels_of_an_ignored_name_are_not_evaluated(small, tmp_path, sclip):
    """The same scores as where the label maps themselves have 255 there."""
    shutil.copytree(small / "labels", tmp_path / "labels")
    for path in (tmp_path / "labels").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.array([0, 255, 1], np.uint8)[labels]).save(path)
    scores = []
    for labels, classes in (
        (small / "labels", "sky\n__ignore__\nroad\n"),
        (tmp_path / "labels", "sky\nroad\n"),
    ):
        file = written(tmp_path, f"{len(scores)}.txt", classes)
        artifacts = tmp_path / f"a{len(scores)}"
        given = flags(small, artifacts, classes=file, labels=labels)
        code, out, err = sclip("run", "--direct", *given)
        assert code == 0, err
        assert ("'__ignore__' is no class: pixels of label 1" in err) == ("__" in classes)
        asked = "select class_name, iou, acc from class_iou order by class_id"
        code, out, err = sclip("query", asked, "--artifacts", artifacts)
        assert code == 0, err
        scores.append(out)
    assert scores[0] == scores[1]
    assert "road" in scores[0]


def test_label_maps_keep_the_numbers_of_the_classes(small, tmp_path, sclip):
    """Also of predictions: they are those of a list without gaps, renumbered."""
    maps = []
    for classes in ("3: sky\n7: road\n", "sky\nroad\n"):
        out = tmp_path / f"vis{len(maps)}"
        file = written(tmp_path, f"{len(maps)}.txt", classes)
        given = flags(small, tmp_path / "artifacts", classes=file, save_vis=out)
        given = [one for one in given if not one.startswith("--labels=")]
        code, _, err = sclip("run", "--direct", *given)
        assert code == 0, err
        maps.append(np.asarray(Image.open(out / "labels" / "0.png")))
    assert np.array_equal(maps[0], np.array([3, 7])[maps[1]])


def test_a_threshold_without_a_background_is_said(plan, tmp_path):
    file = written(tmp_path, "c.txt", "sky\ngrass\nroad\n")
    _, err = plan(file, prob_thd="0,0.3", area_thd=0.1)
    (first, second) = [line for line in err.splitlines() if "no background" in line]
    assert first.startswith("note: prob_thd 0.3: less probable pixels become 'sky'")
    assert second.startswith("note: area_thd 0.1: small classes are dropped, though never 'sky'")
    for classes in ("background: sky\ngrass\nroad\n", "background\ngrass\nroad\n"):
        assert "no background" not in plan(written(tmp_path, "b.txt", classes), prob_thd=0.3)[1]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_classes_that_the_model_cannot_tell_apart_are_refused(command, small, tmp_path, sclip):
    file = written(tmp_path, "c.txt", "sky\ngrass\nSky\n")
    given = flags(small, tmp_path / "artifacts", classes=file)
    code, _, err = sclip(command, *(["--direct"] if command == "run" else []), *given)
    assert code == 2
    (line,) = err.splitlines()
    assert "classes 'sky' and 'Sky' have the same words" in line
