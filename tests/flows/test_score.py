"""``sclip score``: a run's label maps, exported in every format, score as the run did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from flows import cli
from sclip_core import results
from sclip_core.results.files import read_run
from sclip_core.results.past_run import LabelMaps, Source

from .conftest import flags

Maps = dict[str, np.ndarray]
COLOURS = [(10, 20, 30), (0, 0, 0), (7, 7, 7)]  # two of them are greys: no indices
NAMES = ["sky", "grass", "road"]
TABLES = ("class_iou", "confusion", "image_areas")


@pytest.fixture(scope="module")
def run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Maps]:
    """Artifacts with a run over the small folder, its id, and its label maps by image."""
    root = tmp_path_factory.mktemp("run") / "artifacts"
    assert cli.main(["run", "--direct", *flags(small, root)]) == 0
    run_id = results.find_run("latest", root)
    row = read_run(root, run_id)[0]
    source, maps = Source(root, row), LabelMaps(root, row)
    ids = [sample.image_id for sample in source.dataset.samples]
    return root, run_id, {i: maps.read(source.digest(i)) for i in ids}


def data(small: Path, artifacts: Path) -> list[str]:
    """The data options of the run, without its model."""
    return [f for f in flags(small, artifacts) if not f.startswith(("--model", "--pretrained"))]


def png(maps: Maps, folder: Path, dtype: Any = np.uint8, name: str = "{id}.png") -> list[str]:
    for image_id, labels in maps.items():
        Image.fromarray(labels.astype(dtype)).save(folder / name.format(id=image_id))
    return []


def palette_png(maps: Maps, folder: Path) -> list[str]:
    for image_id, labels in maps.items():
        image = Image.fromarray(labels.astype(np.uint8), "P")
        image.putpalette([c for colour in reversed(COLOURS) for c in colour])
        image.save(folder / f"{image_id}.png")
    return []


def rgb_png(maps: Maps, folder: Path) -> list[str]:
    for image_id, labels in maps.items():
        Image.fromarray(np.uint8(COLOURS)[labels]).save(folder / f"{image_id}.png")
    lines = (f"{name}:{','.join(map(str, c))}" for name, c in zip(NAMES, COLOURS, strict=True))
    (folder.parent / "colours.txt").write_text("\n".join(lines))
    return [f"--prediction-palette={folder.parent / 'colours.txt'}"]


def npy(maps: Maps, folder: Path, dtype: Any = np.int64) -> list[str]:
    for image_id, labels in maps.items():
        np.save(folder / f"{image_id}.npy", labels.astype(dtype))
    return []


def other_numbers(maps: Maps, folder: Path) -> list[str]:
    png({i: np.array([7, 300, 8])[labels] for i, labels in maps.items()}, folder, np.uint16)
    return ["--prediction-values=7,300,8"]


def named_otherwise(maps: Maps, folder: Path) -> list[str]:
    png(maps, folder, name="{id}_pred.png")
    png(maps, folder, name="{id}_soft.png")
    return ["--prediction-pattern={id}_pred"]


def rle(labels: np.ndarray, k: int) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(labels == k, np.uint8))
    return {"size": [int(n) for n in found["size"]], "counts": found["counts"].decode()}


def coco_results(maps: Maps, folder: Path) -> list[str]:
    found = [
        {"image_id": int(i), "category_id": k, "segmentation": rle(labels, k), "score": 0.5}
        for i, labels in maps.items()
        for k in np.unique(labels).tolist()
    ]
    (folder / "results.json").write_text(json.dumps(found))
    return []


def detectron(maps: Maps, folder: Path) -> list[str]:
    found = [
        {"file_name": f"/data/else/{i}.png", "category_id": k, "segmentation": rle(labels, k)}
        for i, labels in maps.items()
        for k in np.unique(labels).tolist()
    ]
    (folder / "sem_seg_predictions.json").write_text(json.dumps(found))
    return []


def by_name(maps: Maps, folder: Path) -> list[str]:
    """An instances file with numbers of its own; its categories have the names of the classes."""
    content = {
        "images": [{"id": 100 + n, "file_name": f"{i}.jpg"} for n, i in enumerate(maps)],
        "categories": [{"id": 9 - k, "name": name.upper()} for k, name in enumerate(NAMES)],
        "annotations": [
            {"image_id": 100 + n, "category_id": 9 - k, "segmentation": rle(labels, k)}
            for n, labels in enumerate(maps.values())
            for k in np.unique(labels).tolist()
        ],
    }
    (folder / "found.json").write_text(json.dumps(content))
    return []


def panoptic(maps: Maps, folder: Path) -> list[str]:
    """Every class in two segments, whose numbers need all three channels."""
    entries = []
    (folder / "pan").mkdir()
    for i, labels in maps.items():
        numbers = 70_000 + 2 * labels
        numbers[::2] += 1
        colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(folder / "pan" / f"{i}.png")
        segments = [
            {"id": number, "category_id": (number - 70_000) // 2}
            for number in np.unique(numbers).tolist()
        ]
        entries.append({"image_id": i, "file_name": f"{i}.png", "segments_info": segments})
    (folder / "pan.json").write_text(json.dumps({"annotations": entries}))
    return []


FORMATS: dict[str, Callable[[Maps, Path], list[str]]] = {
    "8 bits": png,
    "16 bits": lambda maps, folder: png(maps, folder, np.uint16),
    "palette": palette_png,
    "colours": rgb_png,
    "npy": npy,
    "npy of floats": lambda maps, folder: npy(maps, folder, np.float32),
    "other numbers": other_numbers,
    "named otherwise": named_otherwise,
    "an addition to all names": lambda maps, folder: png(maps, folder, name="{id}_out.png"),
    "coco results": coco_results,
    "detectron2": detectron,
    "coco by name": by_name,
    "coco panoptic": panoptic,
}


@pytest.mark.parametrize("form", FORMATS)
def test_exported_label_maps_score_as_the_run_did(form, run, small, tmp_path, sclip):
    root, run_id, maps = run
    (tmp_path / "out").mkdir()
    more = FORMATS[form](maps, tmp_path / "out")
    artifacts = tmp_path / "artifacts"
    code, said, err = sclip(
        "score", "--predictions", tmp_path / "out", *data(small, artifacts), *more
    )
    assert code == 0, err
    scored = results.find_run("latest", artifacts)
    assert f"run {scored}:" in said
    for table in TABLES:
        theirs = [{**row, "run_id": ""} for row in read_run(artifacts, scored, table)]
        ours = [{**row, "run_id": ""} for row in read_run(root, run_id, table)]
        assert theirs == ours
    row, other = read_run(artifacts, scored)[0], read_run(root, run_id)[0]
    assert {row[k] for k in ("miou", "macc", "aacc")} == {
        other[k] for k in ("miou", "macc", "aacc")
    }
    assert (row["name"], row["mode"], row["model"], row["pretrained"]) == (
        "out",
        "predictions",
        None,
        None,
    )


@pytest.fixture
def out(run, tmp_path: Path) -> Path:
    """A folder with the run's label maps as PNG."""
    folder = tmp_path / "out"
    folder.mkdir()
    png(run[2], folder)
    return folder


def test_the_same_files_are_one_row_and_changed_ones_another(out, small, tmp_path, sclip, run):
    words = ("score", "--predictions", out, *data(small, tmp_path / "a"), "--name")
    for name in ("one", "one", "other"):
        assert sclip(*words, name)[0] == 0
    shutil.move(out / "0.png", tmp_path / "0.png")
    png({"0": 2 - run[2]["0"]}, out)
    code, _, err = sclip(*words, "one")
    assert code == 0
    assert "metrics         computed  2 cached, 1 computed" in err or "1 image" in err
    names = results.runs(tmp_path / "a")["name"].to_pylist()
    assert sorted(names) == ["one", "one", "other"]


def test_it_stands_beside_runs_in_every_command(out, run, small, tmp_path, sclip):
    root = Path(shutil.copytree(run[0], tmp_path / "artifacts"))
    assert sclip("score", "--predictions", out, *data(small, root), "--name", "My Tool")[0] == 0
    _, listed, _ = sclip("results", "--artifacts", root)
    assert "My Tool" in listed
    assert "predictions" in listed
    code, compared, _ = sclip("compare", run[1], "latest", "--artifacts", root)
    assert code == 0
    assert "method My Tool" in compared
    assert sclip("results", "--against", "published", "--artifacts", root)[0] == 0
    code, _, err = sclip("report", "latest", run[1], "--artifacts", root)
    assert (code, err) == (0, "")
    page = (root / "report" / "index.html").read_text("utf-8")
    assert page.count("B prediction") == page.count("A prediction") > 0
    kept = sorted((root / "results").rglob("*.parquet"))
    assert sclip("gc", "--delete", "--artifacts", root, "--older-than", "0")[0] == 0
    assert sorted((root / "results").rglob("*.parquet")) == kept
    code, _, err = sclip("score", "--predictions", out, *data(small, root), "--name", "My Tool")
    assert "metrics         cached    3 images" in err
    assert sclip("plan", *flags(small, root))[0] == 0


def test_pictures_are_left_out_where_predictions_changed_or_are_gone(out, small, tmp_path, sclip):
    root = tmp_path / "artifacts"
    assert sclip("score", "--predictions", out, *data(small, root))[0] == 0
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(out / "1.png")
    _, _, err = sclip("report", "--artifacts", root)
    assert "1 has changed since it was segmented" in err
    shutil.rmtree(out)
    code, _, err = sclip("report", "--artifacts", root)
    assert code == 0
    assert "no pictures: --predictions" in err


def test_missing_predictions(out, small, tmp_path, sclip):
    (out / "1.png").unlink()
    words = ("score", "--predictions", out, *data(small, tmp_path / "a"))
    code, _, err = sclip(*words)
    assert code == 2
    assert "1 of 3 images has no prediction: 1; pass --missing-predictions skip" in err
    code, said, err = sclip(*words, "--missing-predictions", "skip")
    assert code == 0
    assert "2 of 3 images" in said
    assert "1 of 3 images has no prediction, left out, as --missing-predictions skip" in err
    code, said, _ = sclip(*words, "--missing-predictions", "empty", "--json")
    found = json.loads(said)
    assert (found["num_images"], found["without_prediction"]) == (3, ["1"])
    confusion = results.confusion(found["run_id"], tmp_path / "a").to_pylist()
    nothing = sum(row["pixels"] for row in confusion if row["prediction_id"] is None)
    assert nothing == 64 * 48


def test_void_pixels_are_wrong_and_count_for_no_class(out, run, small, tmp_path, sclip):
    maps = {i: labels.astype(np.uint8) for i, labels in run[2].items()}
    maps["0"][:10] = 255
    png(maps, out)
    npy({"2": np.where(np.arange(48)[:, None] < 5, -1, maps["2"].astype(int))}, out, np.int16)
    (out / "2.png").unlink()
    assert sclip("score", "--predictions", out, *data(small, tmp_path / "a"))[0] == 0
    confusion = results.confusion("latest", tmp_path / "a").to_pylist()
    nothing = sum(row["pixels"] for row in confusion if row["prediction_id"] is None)
    assert nothing == 15 * 64
    assert sum(row["pixels"] for row in confusion) == 3 * 48 * 64


def test_polygons_are_drawn_and_the_rest_is_background(small, tmp_path, sclip):
    (tmp_path / "classes.txt").write_text("background\ngrass\nroad")
    boxes = {"0": (1, 8, 4, 40, 30), "1": (2, 0, 0, 64, 48), "2": (2, 5, 5, 6, 9)}
    entries, maps = [], {}
    for image_id, (k, left, top, right, bottom) in boxes.items():
        maps[image_id] = np.zeros((48, 64), np.uint8)
        maps[image_id][top:bottom, left:right] = k
        ring = [left, top, right, top, right, bottom, left, bottom]
        entries.append({"image_id": int(image_id), "category_id": k, "segmentation": [ring]})
    (tmp_path / "results.json").write_text(json.dumps(entries))
    (tmp_path / "png").mkdir()
    png(maps, tmp_path / "png")
    given = [f for f in data(small, tmp_path / "a") if not f.startswith("--classes")]
    given.append(f"--classes={tmp_path / 'classes.txt'}")
    found = []
    for predictions in (tmp_path / "results.json", tmp_path / "png"):
        code, said, err = sclip("score", "--predictions", predictions, *given, "--json")
        assert code == 0, err
        found.append(json.loads(said)["classes"])
    assert found[0] == found[1]


def test_the_higher_score_is_on_top(small, tmp_path, sclip):
    full, half = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8)
    half[:, :32] = 1
    found = [
        {"image_id": i, "category_id": k, "segmentation": rle(mask, v), "score": score}
        for i in range(3)
        for k, mask, v, score in ((0, half, 1, 0.2), (1, full, 0, 0.9))
    ]
    (tmp_path / "r.json").write_text(json.dumps(found))
    words = ("score", "--predictions", tmp_path / "r.json", *data(small, tmp_path / "a"))
    assert predicted_by(sclip, words, tmp_path / "a") == {1}
    for entry in found:
        entry["score"] = 1 - entry["score"]
    (tmp_path / "r.json").write_text(json.dumps(found))  # the same segments in another order
    assert predicted_by(sclip, words, tmp_path / "a") == {0, 1}


def predicted_by(sclip, words, artifacts) -> set[int | None]:
    """The classes that the newest row says were predicted."""
    assert sclip(*words)[0] == 0
    rows = results.confusion("latest", artifacts).to_pylist()
    return {row["prediction_id"] for row in rows}


def test_other_classes_of_the_same_pngs_are_scored_again(small, tmp_path, sclip):
    folder = tmp_path / "out"
    folder.mkdir()
    panoptic({str(n): np.full((48, 64), n % 2) for n in range(3)}, folder)
    words = ("score", "--predictions", folder, *data(small, tmp_path / "a"))
    assert predicted_by(sclip, words, tmp_path / "a") == {0, 1}
    content = json.loads((folder / "pan.json").read_text())
    for segment in (each for entry in content["annotations"] for each in entry["segments_info"]):
        segment["category_id"] = 2
    (folder / "pan.json").write_text(json.dumps(content))
    assert predicted_by(sclip, words, tmp_path / "a") == {2}
    with Image.open(folder / "pan" / "0.png") as image:
        colours = np.array(image)
    colours[:10] = 0  # of no segment
    Image.fromarray(colours).save(folder / "pan" / "0.png")
    assert predicted_by(sclip, words, tmp_path / "a") == {2, None}


def test_segments_of_other_images_are_noted(small, tmp_path, sclip):
    one = {"category_id": 1, "segmentation": rle(np.ones((48, 64), np.uint8), 1)}
    found = [{"image_id": i, **one} for i in (0, 1, 2, 77, 77, 78)]
    (tmp_path / "r.json").write_text(json.dumps(found))
    words = ("score", "--predictions", tmp_path / "r.json", *data(small, tmp_path / "a"))
    code, _, err = sclip(*words)
    assert code == 0
    assert "r.json: 3 segments of 2 images that the data does not have left out: 77, 78" in err
    (tmp_path / "r.json").write_text(json.dumps(found[:3]))
    assert "left out" not in sclip(*words)[2]


def test_results_have_the_numbers_of_the_annotations_that_are_the_truth(small, tmp_path, sclip):
    """As pycocotools' ``loadRes``: neither images nor categories are named in the results."""
    listed = {
        "images": [{"id": 50 + n, "file_name": f"{2 - n}.png"} for n in range(3)],
        "categories": [{"id": 30 + k, "name": name} for k, name in enumerate(NAMES)],
    }
    maps = {str(n): np.full((48, 64), n) for n in range(3)}
    found = [
        {"image_id": 52 - n, "category_id": 30 + n, "segmentation": rle(maps[str(n)], n)}
        for n in range(3)
    ]
    (tmp_path / "truth.json").write_text(json.dumps({**listed, "annotations": found}))
    (tmp_path / "results.json").write_text(json.dumps(found))
    given = [f for f in data(small, tmp_path / "a") if not f.startswith("--labels")]
    given.append(f"--labels={tmp_path / 'truth.json'}")
    code, said, err = sclip("score", "--predictions", tmp_path / "results.json", *given, "--json")
    assert code == 0, err
    assert "categories by name: 30 is 'sky', 31 is 'grass', 32 is 'road'" in err
    assert json.loads(said)["miou"] == 100
