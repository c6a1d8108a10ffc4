"""The page as a file: whole, small, with odd names, and where something is not there any more."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core import UserError, results
from sclip_core.report import page as module
from sclip_core.report import pictures, write_report
from sclip_core.report.page import number
from sclip_core.results.files import read_table, write_run

from ..results.runs import made_run
from ..results.test_files import with_an_old_one


class Tags(HTMLParser):
    """The tags of a page, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.text += data


ODD = ("<b>bold</b> & co", "a$b$c_d", "汉字 'quoted' \"twice\"")


@pytest.fixture
def odd(tmp_path):
    """A run whose names are markup, formulas and quotes, and whose images are nowhere."""
    images = {f"<i>{n}": [(n + 5, n + 9, n + 7), (3, 4, 5), (1, 2, 2)] for n in range(6)}
    made_run(tmp_path, "odd-1", images, names=ODD, data_root="nowhere", pretrained="<script>")
    table = results.image_areas("odd-1", tmp_path)
    confused = {
        "run_id": ["odd-1"] * 3,
        "label_id": np.arange(3, dtype=np.int32),
        "label_name": list(ODD),
        "prediction_id": np.array([1, 1, 2], np.int32),
        "prediction_name": [ODD[1], ODD[1], ODD[2]],
        "pixels": [10, 20, 30],
    }
    every = {"runs": results.runs(tmp_path), "class_iou": results.class_iou("odd-1", tmp_path)}
    write_run(tmp_path, "odd-1", {**every, "image_areas": table, "confusion": pa.table(confused)})
    return tmp_path


def test_names_are_shown_as_they_are(odd, tmp_path):
    page, notes = write_report(["odd-1"], tmp_path / "out", odd)
    assert len(notes) == 1
    assert notes[0].startswith("no pictures: ")
    text = page.read_text("utf-8")
    tags = Tags(text)
    for name in ODD:
        assert name in tags.text
    assert "<script>" in tags.text  # the tag of the weights, as text
    assert [tag for tag, _ in tags.seen].count("script") == 1
    assert not [tag for tag, _ in tags.seen if tag in ("b", "i") and "odd" in str(tag)]
    assert "None can be shown" in tags.text


def test_nothing_on_the_page_is_elsewhere(page_of_three):
    tags = Tags(page_of_three.read_text("utf-8"))
    places = [
        value
        for _, attributes in tags.seen
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
    ]
    assert len(places) > 50
    assert {str(place).partition(",")[0].partition(":")[0][:1] for place in places} <= {"#", "d"}
    assert [p for p in places if not str(p).startswith(("#", "data:"))] == []
    policy = next(a["content"] for tag, a in tags.seen if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


@pytest.mark.slow
def test_five_thousand_images_and_171_classes_stay_below_5_mb(tmp_path, monkeypatch):
    names = [f"class number {k} of many" for k in range(171)]
    for seed, run_id in enumerate(("big-1", "big-2", "big-3")):
        made_run(tmp_path, run_id, {"0": [(1, 1, 1)] * 171}, names)
        listed = {name: getattr(results, name)(run_id, tmp_path) for name in ("class_iou",)}
        row = read_table(tmp_path, "runs", [run_id])
        areas, confusion = many_areas(run_id, 5000, 171, seed), every_pair(run_id, names)
        write_run(
            tmp_path, run_id, {**listed, "runs": row, "image_areas": areas, "confusion": confusion}
        )
    uri = "data:image/webp;base64," + "A" * 60_000
    monkeypatch.setattr(module, "Source", lambda *_: None)
    monkeypatch.setattr(module, "LabelMaps", lambda *_: None)
    monkeypatch.setattr(
        pictures.Painter,
        "panel",
        lambda self, image: pictures.Panel(image, self.scores[image], [("x", uri)] * 8),
    )
    page, notes = write_report(["big-1", "big-2", "big-3"], tmp_path / "out", tmp_path)
    assert notes == []
    assert 2_500_000 < page.stat().st_size < 5_000_000
    monkeypatch.setattr(module, "BUDGET", 10**9)  # pictures get what the rest leaves of it
    page, _ = write_report(["big-1", "big-2", "big-3"], tmp_path / "out", tmp_path)
    assert 4_000_000 < page.stat().st_size < 5_000_000
    assert "5,000 images, 171 classes, 3 runs" in page.read_text("utf-8")


def many_areas(run_id: str, images: int, classes: int, seed: int) -> pa.Table:
    """Six classes in each image, the truth the same whatever the seed."""
    rng = np.random.default_rng(0)
    chosen = np.argsort(rng.random((images, classes)), axis=1)[:, :6].astype(np.int32)
    label = rng.integers(1, 90_000, chosen.shape)
    right = (label * np.random.default_rng(seed).random(chosen.shape)).astype(np.int64)
    return pa.table(
        {
            "run_id": [run_id] * chosen.size,
            "image_id": np.repeat(np.arange(images), 6).astype(str).tolist(),
            "class_id": chosen.ravel(),
            "intersect": right.ravel(),
            "prediction": (right + 500).ravel(),
            "label": label.ravel(),
        }
    )


def every_pair(run_id, names):
    count = len(names)
    pairs = np.indices((count, count)).reshape(2, -1).astype(np.int32)
    return pa.table(
        {
            "run_id": [run_id] * count**2,
            "label_id": pairs[0],
            "label_name": [names[i] for i in pairs[0]],
            "prediction_id": pairs[1],
            "prediction_name": [names[i] for i in pairs[1]],
            "pixels": np.random.default_rng(0).integers(1, 1000, count**2),
        }
    )


@pytest.fixture
def moved(scenes_runs, tmp_path):
    """A copy of the artifacts, to be spoilt."""
    return shutil.copytree(scenes_runs, tmp_path / "artifacts")


def test_label_maps_that_are_gone(moved, tmp_path):
    shutil.rmtree(moved / "refine")
    page, notes = write_report(["latest~3"], tmp_path / "out", moved)
    assert re.fullmatch(
        r"no pictures: the label maps of \S+ are not in .*: run it again .*", notes[0]
    )
    assert "Scores" in page.read_text("utf-8")


def test_a_dataset_that_lies_elsewhere_now(moved, scenes_runs, tmp_path):
    root = shutil.copytree(scenes_runs.parent / "scenes", tmp_path / "elsewhere")
    for path in (moved / "results" / "runs").glob("*.parquet"):
        table = pq.read_table(path)
        place = table.schema.get_field_index("data_root")
        gone = table.set_column(place, "data_root", pa.array(["gone"]))
        pq.write_table(gone.replace_schema_metadata(table.schema.metadata), path)
    _, notes = write_report(["latest"], tmp_path / "one", moved)
    assert "gone" in notes[0]
    page, notes = write_report(["latest"], tmp_path / "two", moved, data_root=root)
    assert notes == []
    assert page.read_text("utf-8").count("<figure") == 8


def test_an_image_that_was_replaced_is_not_shown_as_if_it_were_the_old_one(moved, tmp_path):
    run = results.query("select data_root from runs limit 1", moved)["data_root"][0].as_py()
    root = shutil.copytree(run, tmp_path / "scenes")
    first, second, third = sorted((root / "images").iterdir())[:3]
    first.write_bytes(second.read_bytes() + b" ")
    third.unlink()
    page, notes = write_report(["latest~3"], tmp_path / "out", moved, data_root=root)
    assert len(notes) == 2
    assert f"not shown: {first.stem} has changed since it was segmented" in notes
    assert f"not shown: {third.stem} is no longer in the dataset" in notes
    assert page.read_text("utf-8").count("<figure") == 6


def test_runs_of_an_older_version_are_shown_without_confusions(tmp_path):
    old = with_an_old_one(tmp_path)
    page, notes = write_report([old], tmp_path / "out", tmp_path)
    text = Tags(page.read_text("utf-8")).text
    assert "Runs of an older version have no confusions" in text
    assert "kept no confusions" in text
    assert notes[0].startswith("no pictures")


def test_a_page_is_there_whole_or_not_at_all(scenes_runs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report(["latest~3"], out, scenes_runs)
    before = (out / "index.html").read_bytes()
    monkeypatch.setattr(module.Path, "write_text", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(["latest~2"], out, scenes_runs)
    assert (out / "index.html").read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["index.html"]


def test_a_folder_that_is_a_file(scenes_runs, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="out is a file: pass a folder"):
        write_report(["latest"], tmp_path / "out", scenes_runs)


def test_more_runs_than_a_page_can_show(scenes_runs, tmp_path):
    with pytest.raises(UserError, match="13 runs: a page shows up to 12"):
        write_report(["latest"] * 13, tmp_path / "out", scenes_runs)


def test_numbers():
    assert [number(v) for v in (1.0, -0.004, None, float("nan"))] == ["1.00", "-0.00", "–", "–"]
    assert number(2.5, 0, sign=True) == "+2"
    assert json.loads(number(12.345, 1)) == 12.3


def test_a_confusion_is_of_its_own_run(scenes_runs, tmp_path):
    """Beside a run of version 1, which has none."""
    old = with_an_old_one(tmp_path)
    shutil.copytree(scenes_runs / "results", tmp_path / "results", dirs_exist_ok=True)
    new = results.find_run("latest~3", scenes_runs)
    page, _ = write_report([old, new], tmp_path / "out", tmp_path)
    (summary,) = re.findall(r"<summary>(.*?)</summary>", page.read_text("utf-8"))
    assert summary.endswith(f" {new}")
    assert ">B</b>" in summary


def test_ground_truth_that_was_not_scored_is_not_shown(moved, tmp_path):
    run = results.query("select data_root from runs limit 1", moved)["data_root"][0].as_py()
    root = shutil.copytree(run, tmp_path / "scenes")
    first = min((root / "labels").iterdir())
    labels = cv2.imread(str(first), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(first), (labels + 1) % 15)
    page, notes = write_report(["latest~3"], tmp_path / "out", moved, data_root=root)
    assert notes == [f"not shown: {first.stem}: its label map has changed since it was scored"]
    assert page.read_text("utf-8").count("<figure") == 7


def test_a_page_of_someone_else_is_not_replaced(scenes_runs, tmp_path):
    (tmp_path / "index.html").write_text("<h1>my home page</h1>")
    with pytest.raises(UserError, match=r"index\.html is not a page of `sclip report`"):
        write_report(["latest"], tmp_path, scenes_runs)
    assert (tmp_path / "index.html").read_text() == "<h1>my home page</h1>"


def test_without_matplotlib(scenes_runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'sclip-benchmark\[report\]'"):
        write_report(["latest"], tmp_path / "out", scenes_runs)
    assert not (tmp_path / "out").exists()
