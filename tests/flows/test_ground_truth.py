"""What ``sclip run`` does with ground truth before it computes: draw it, look at it, know it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sclip_core.acquire import prepare as prepare_module
from sclip_core.acquire.prepare import prepare
from sclip_core.datasets import read_label

from ..acquire import trees
from ..acquire.trees import SETS, grey, place
from ..conftest import TINY
from .conftest import flags

CATEGORIES = {7: "sky", 1: "grass", 30: "road"}  # ids in an order of their own


def rows(artifacts: Path, table: str) -> list[dict[str, Any]]:
    found = pq.read_table(artifacts / "results" / table).to_pylist()
    return [{k: v for k, v in row.items() if k != "run_id"} for row in found]


# --- annotations


def class_maps(own: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_label(path) for path in sorted((own / "labels").iterdir())}


def coco(maps: dict[str, np.ndarray], target: Path) -> Path:
    """An instance file with a mask for each class of each image."""
    from pycocotools import mask as masks

    images, annotations = [], []
    for number, (name, classes) in enumerate(maps.items()):
        height, width = classes.shape
        images.append({"id": number, "file_name": f"{name}.png", "height": height, "width": width})
        for value, category in enumerate(CATEGORIES):
            rle = masks.encode(np.asfortranarray(classes == value))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": {**rle, "counts": rle["counts"].decode()},
                    "area": int((classes == value).sum()),
                    "iscrowd": 0,
                }
            )
    return written(target, images, annotations)


def panoptic(maps: dict[str, np.ndarray], target: Path) -> Path:
    """The file, and the PNGs with 24 bits of segment id in a folder of its name."""
    images, annotations = [], []
    for number, (name, classes) in enumerate(maps.items()):
        height, width = classes.shape
        images.append({"id": number, "file_name": f"{name}.png", "height": height, "width": width})
        ids = np.zeros((height, width), np.int64)
        segments = []
        for value, category in enumerate(CATEGORIES):
            if (classes == value).any():
                ids[classes == value] = 1000 * (value + 1)
                segments.append({"id": 1000 * (value + 1), "category_id": category, "iscrowd": 0})
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        target.with_suffix("").mkdir(exist_ok=True)
        Image.fromarray(colours).save(target.with_suffix("") / f"{name}.png")
        annotations.append(
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        )
    return written(target, images, annotations)


def written(target: Path, images: list[Any], annotations: list[Any]) -> Path:
    categories = [{"id": i, "name": name, "isthing": 1} for i, name in CATEGORIES.items()]
    data = {"images": images, "annotations": annotations, "categories": categories}
    target.write_text(json.dumps(data))
    return target


@pytest.mark.parametrize("form", [coco, panoptic])
@pytest.mark.parametrize("left_out", [(), (1,)], ids=["all", "one class not annotated"])
def test_annotations_score_as_their_label_maps_do(form, left_out, small, sclip, tmp_path):
    """Pixels without annotation are not evaluated."""
    maps = class_maps(small)
    for value in left_out:
        maps = {name: np.where(classes == value, 255, classes) for name, classes in maps.items()}
    (tmp_path / "labels").mkdir()
    for name, classes in maps.items():
        grey(tmp_path / "labels" / f"{name}.png", classes)
    annotations = form(maps, tmp_path / "annotations.json")
    found = []
    for labels in (tmp_path / "labels", annotations):
        artifacts = tmp_path / labels.name.replace(".", "_")
        code, _, err = sclip("run", "--direct", *flags(small, artifacts, labels=labels))
        assert code == 0, err
        found.append((rows(artifacts, "class_iou"), rows(artifacts, "image_areas")))
    assert found[0] == found[1]
    scored = {row["class_id"] for row in found[0][0] if row["label"]}
    assert scored == {0, 1, 2} - set(left_out)


def test_an_unannotated_pixel_is_background_where_there_is_one(small, sclip, tmp_path):
    maps = class_maps(small)
    annotations = coco(maps, tmp_path / "annotations.json")
    data = json.loads(annotations.read_text())
    data["annotations"] = [one for one in data["annotations"] if one["category_id"] != 1]
    annotations.write_text(json.dumps(data))
    classes = tmp_path / "classes.txt"
    classes.write_text("background, grass\nsky\nroad\n")
    artifacts = tmp_path / "artifacts"
    given = flags(small, artifacts, labels=annotations, classes=classes)
    assert sclip("run", "--direct", *given)[0] == 0
    found = [row["label"] for row in rows(artifacts, "class_iou")]
    expected = [sum(int((m == value).sum()) for m in maps.values()) for value in (1, 0, 2)]
    assert found == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reduce_zero_label": True}, ["names its categories", "leave --reduce-zero-label out"]),
        ({"classes": None}, ["--classes is missing", "one a line"]),
        (
            {"classes": "sky\ngrass"},
            ["unknown category", "'road'", "Known: grass, sky", "Add each name"],
        ),
    ],
)
def test_annotations_that_do_not_fit(change, words, small, sclip, tmp_path):
    given = {"labels": coco(class_maps(small), tmp_path / "a.json"), **change}
    if isinstance(given.get("classes"), str):
        path = tmp_path / "classes.txt"
        path.write_text(given["classes"])
        given["classes"] = path
    said = flags(small, tmp_path / "artifacts", **given)
    code, _, err = sclip("run", "--direct", *(flag for flag in said if not flag.endswith("=None")))
    assert code == 2
    (line,) = err.splitlines()
    for word in words:
        assert word in line
    assert not (tmp_path / "artifacts" / "dense_features").exists()


def test_a_set_without_a_pixel_to_evaluate_has_no_score(small, sclip, tmp_path):
    """It is told before anything is computed, and what was computed is kept."""
    (tmp_path / "labels").mkdir()
    for name, classes in class_maps(small).items():
        grey(tmp_path / "labels" / f"{name}.png", np.full_like(classes, 255))
    artifacts = tmp_path / "artifacts"
    given = flags(small, artifacts, labels=tmp_path / "labels")
    code, _, err = sclip("run", "--direct", *given)
    first, *_, last = err.splitlines()
    assert code == 2
    assert first.startswith("note: ")
    assert first.endswith("have no pixel to evaluate, only the ignored 255")
    assert "none of the 3 label maps has a pixel to evaluate" in last
    assert "ignored values (255)" in last
    assert not (artifacts / "results").exists()
    code, _, err = sclip("run", "--direct", *flags(small, artifacts))  # the right ones
    assert code == 0
    assert "refine          cached    3 images" in err


def test_one_blank_map_among_others_is_nothing_to_tell(small, sclip, tmp_path):
    (tmp_path / "labels").mkdir()
    for name, classes in class_maps(small).items():
        blank = np.full_like(classes, 255)
        grey(tmp_path / "labels" / f"{name}.png", blank if name == "0" else classes)
    given = flags(small, tmp_path / "artifacts", labels=tmp_path / "labels")
    code, _, err = sclip("run", "--direct", *given)
    assert code == 0
    assert "note" not in err


def test_images_that_annotations_do_not_list(small, sclip, tmp_path):
    maps = class_maps(small)
    annotations = coco({name: maps[name] for name in list(maps)[:2]}, tmp_path / "some.json")
    command = ["plan", *flags(small, tmp_path / "a", labels=annotations)]
    code, _, err = sclip(*command)
    assert code == 2
    assert "1 image is not in" in err
    assert "pass --missing-labels skip or empty" in err
    code, _, err = sclip(*command, "--missing-labels=skip")
    assert code == 0, err
    assert "note: 1 of 3 images has no label map, left out as" in err
    code, _, err = sclip(*command, "--missing-labels=empty")
    assert code == 0, err
    assert "no label map, not evaluated, since the first class is not the background" in err
    code, _, err = sclip(*command, "--palette=voc")
    assert code == 2
    assert f"--palette is for label maps, and {annotations} holds annotations" in err


# --- benchmarks


@pytest.fixture
def benchmark(sclip, tmp_path):
    """A run over a benchmark's tree: (exit code, output, lines on standard error)."""

    def command(name: str, *arguments: str) -> tuple[int, str, list[str]]:
        given = {
            "dataset": name,
            "data_root": tmp_path,
            "artifacts": tmp_path / "artifacts",
            **TINY,
        }
        said = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
        code, out, err = sclip("run", "--direct", *said, *arguments)
        return code, out, err.splitlines()

    return command


def notes(result: tuple[int, str, list[str]]) -> list[str]:
    code, _, err = result
    assert code == 0, err
    return [line for line in err if "note" in line]


def test_a_part_of_a_benchmark_is_told(benchmark, tmp_path, of_size):
    SETS["voc20"][0](tmp_path)
    (line,) = notes(benchmark("voc20"))
    assert "3 images, the validation split has 1,449" in line
    assert "figures cannot be compared (sclip data check voc20 --root " in line
    assert notes(benchmark("voc20", "--num-samples=2")) == []  # as it was asked for
    of_size("voc20", 3)
    assert notes(benchmark("voc20")) == []


def test_a_zero_label_that_was_reduced_already_is_told(benchmark, tmp_path, of_size):
    for name, values in SETS["ade20k"][0](tmp_path).items():
        grey(place("ade20k", tmp_path, name), np.where(values == 0, 255, values - 1))
    of_size("ade20k", 2)
    (line,) = notes(benchmark("ade20k"))
    assert "ade20k: value 255 occurs" in line
    assert "every class would be off by one" in line


def test_maps_of_another_kind_cost_no_computing(benchmark, tmp_path):
    """Raw stuff maps under the names of prepared ones: the cause, in a line."""
    for name, raw in trees.raw_stuff().items():
        trees.coco_stuff_raw(tmp_path)
        grey(place("coco_stuff", tmp_path, name), raw)
    code, _, err = benchmark("coco_stuff")
    assert code == 2
    assert "run `sclip data prepare coco_stuff`" in err[-1]
    assert not (tmp_path / "artifacts" / "dense_features").exists()


def test_one_map_of_another_kind_is_enough(benchmark, tmp_path):
    """Not every picture has a class by which the ids give themselves away."""
    for name, classes in trees.coco_stuff(tmp_path).items():
        grey(place("coco_stuff", tmp_path, name), classes)
    raw = trees.raw_stuff()[trees.COCO_IDS[1]]
    grey(place("coco_stuff", tmp_path, trees.COCO_IDS[1]), np.where(raw == 255, 255, 181))
    code, _, err = benchmark("coco_stuff")
    assert code == 2
    assert "1 of the 3 label maps that were looked at have values without a class" in err[-1]
    assert "these are raw stuff maps, run `sclip data prepare coco_stuff`" in err[-1]
    assert not (tmp_path / "artifacts" / "dense_features").exists()


def test_one_torn_map_is_left_out(benchmark, tmp_path, of_size):
    """It says nothing of the others."""
    names = list(SETS["voc20"][0](tmp_path))
    of_size("voc20", 3)
    place("voc20", tmp_path, names[0]).write_bytes(b"")
    code, _, err = benchmark("voc20")
    assert code == 1
    assert (tmp_path / "artifacts" / "results").exists()
    assert any("left out" in line for line in err)


def test_one_map_of_ones_own_with_a_stray_value_is_told_and_left_out(small, sclip, tmp_path):
    (tmp_path / "labels").mkdir()
    for name, classes in class_maps(small).items():
        grey(tmp_path / "labels" / f"{name}.png", np.where(classes == 1, 9, classes))
        if name != "0":
            grey(tmp_path / "labels" / f"{name}.png", classes)
    given = flags(small, tmp_path / "artifacts", labels=tmp_path / "labels")
    code, _, err = sclip("run", "--direct", *given)
    assert code == 1
    first = err.splitlines()[0]
    assert first.startswith("note: 1 of the 3 label maps that were looked at will be left out")
    assert "give each value up to 9 a line in the classes" in first


@pytest.mark.parametrize("interrupted", [True, False])
def test_maps_of_two_sources_are_refused(interrupted, benchmark, sclip, tmp_path, monkeypatch):
    """An interrupted conversion, or maps that were changed after it."""
    expected = trees.coco_object(tmp_path)
    trees.coco_instances(tmp_path)
    prepare("coco_object", tmp_path)
    if interrupted:
        write = prepare_module.write_whole

        def stop(path, *others):
            if path == place("coco_object", tmp_path, trees.COCO_IDS[1]):
                raise KeyboardInterrupt
            write(path, *others)

        with monkeypatch.context() as patched:
            patched.setattr(prepare_module, "write_whole", stop)
            with pytest.raises(KeyboardInterrupt):
                prepare("coco_object", tmp_path, "instances", force=True, workers=1)
        says = "were not all made, some may be of another source"
    else:
        grey(place("coco_object", tmp_path, trees.COCO_IDS[0]), expected[trees.COCO_IDS[1]])
        prepare("coco_object", tmp_path)
        says = "1 label maps are not those that are made from stuff"
    code, _, err = benchmark("coco_object")
    assert code == 2
    assert says in err[-1]
    assert not (tmp_path / "artifacts" / "dense_features").exists()


@pytest.mark.parametrize(
    ("note", "code"),
    [
        ('{"complete": "no"}', 2),
        ('{"complete": false, "differing": "x", "made_from": ["stuff"]}', 2),
        ('{"complete": false, "differing": 3}', 2),
        ('{"complete": null}', 2),
        ('{"complete": false, "differing": [1], "made_from": "stuff"}', 2),
        ('{"complete": true, "made_from": 7}', 2),
        ("[]", 2),
        ("{", 2),
        ("", 2),
        ('{"made_from": "stuff"}', 0),
    ],
)
def test_a_note_of_another_form(note, code, benchmark, tmp_path, of_size):
    trees.coco_stuff(tmp_path)
    prepare("coco_stuff", tmp_path)
    of_size("coco_stuff", 3)
    place("coco_stuff", tmp_path, "x").with_name("prepared-coco_stuff.json").write_text(note)
    found, _, err = benchmark("coco_stuff", "--force=results")
    assert found == code, err
    assert (code == 0) or ("sclip data prepare coco_stuff" in err[-1])


def test_values_that_are_ignored_are_added_to_pixels_without_annotation(small, sclip, tmp_path):
    annotations = coco(class_maps(small), tmp_path / "annotations.json")
    labelled = {}
    for ignored in ("255", "255,1"):
        artifacts = tmp_path / ignored
        given = flags(small, artifacts, labels=annotations, ignore_label=ignored)
        assert sclip("run", "--direct", *given)[0] == 0
        labelled[ignored] = [row["label"] for row in rows(artifacts, "class_iou")]
    assert all(labelled["255"])
    assert labelled["255,1"] == [labelled["255"][0], 0, labelled["255"][2]]


def test_annotations_without_any_cost_no_computing(small, sclip, tmp_path):
    annotations = coco(class_maps(small), tmp_path / "a.json")
    data = {**json.loads(annotations.read_text()), "annotations": []}
    annotations.write_text(json.dumps(data))
    code, _, err = sclip("run", "--direct", *flags(small, tmp_path / "a", labels=annotations))
    assert code == 2
    assert "holds no annotation" in err


def test_a_readme_among_yolo_files_is_named(small, sclip, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "README.txt").write_text("made by hand")
    (tmp_path / "labels" / "classes.txt").write_text("sky\ngrass\nroad")
    for name in class_maps(small):
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0 0 1 0 1 1\n")
    given = flags(small, tmp_path / "a", labels=tmp_path / "labels")
    code, _, err = sclip("run", "--direct", *given)
    assert code == 0
    note = f"note: {tmp_path / 'labels'} (YOLO) has 1 image that --images lacks: README"
    assert note in err.splitlines()


def test_maps_that_were_never_made(benchmark, tmp_path):
    trees.coco_stuff_raw(tmp_path)
    code, _, err = benchmark("coco_stuff")
    assert code == 2
    assert "sclip data prepare coco_stuff" in err[-1]


def test_results_know_what_label_maps_were_made_from(benchmark, sclip, tmp_path, of_size):
    of_size("coco_object", 3)
    trees.coco_object(tmp_path)
    trees.coco_instances(tmp_path)
    runs = []
    for source in ("instances", "stuff"):
        arguments = [f"--root={tmp_path}", f"--source={source}", "--force"]
        code, _, err = sclip("data", "prepare", "coco_object", *arguments)
        assert code == 0, err
        lines = [line for line in notes(benchmark("coco_object")) if "coco_object: " in line]
        told = ["instances" in line for line in lines]
        assert told == ([True] if source == "instances" else [])
        runs = pq.read_table(tmp_path / "artifacts" / "results" / "runs").to_pylist()
    assert {row["ground_truth"] for row in runs} == {"instances", "stuff"}
    assert len({row["run_id"] for row in runs}) == 2
    scores = [row["miou"] for row in runs]
    assert scores[0] != scores[1]


def test_of_ones_own_maps_nothing_is_known(small, sclip, tmp_path):
    assert sclip("run", "--direct", *flags(small, tmp_path / "artifacts"))[0] == 0
    (row,) = pq.read_table(tmp_path / "artifacts" / "results" / "runs").to_pylist()
    assert row["ground_truth"] is None
