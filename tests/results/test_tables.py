"""Runs by the names that people give them, and the images that several have."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core import UserError, results

from .runs import SCENES, made_run

OLD = Path(__file__).parent / "version_1"
IMAGE = [(5, 6, 8), (0, 2, 0), (0, 0, 0)]


@pytest.fixture
def three(tmp_path):
    for age, run_id in enumerate(["own-aa11", "own-aa22", "voc21-bb33"]):
        made_run(tmp_path, run_id, {"one": IMAGE}, age=age)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("own-aa22", "own-aa22"),
        ("voc", "voc21-bb33"),
        ("bb", "voc21-bb33"),
        ("aa2", "own-aa22"),
        ("latest", "own-aa11"),
        ("latest~0", "own-aa11"),
        ("latest~2", "voc21-bb33"),
    ],
)
def test_a_run_by_name(three, name, found):
    assert results.find_run(name, three) == found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own", "2 runs match own: own-aa11, own-aa22"),
        ("aa", "2 runs match aa"),
        ("cc", "no run 'cc': expected latest"),
        ("", "no run ''"),
        ("latest~3", "there are 3 runs, the oldest is latest~2"),
        ("latest~-1", "no run 'latest~-1'"),
    ],
)
def test_no_such_run(three, name, says):
    with pytest.raises(UserError, match=says):
        results.find_run(name, three)


def test_no_runs_at_all(tmp_path):
    with pytest.raises(UserError, match="no runs under"):
        results.find_run("latest", tmp_path)
    assert results.runs(tmp_path).num_rows == 0


def test_a_run_whose_id_begins_another(tmp_path):
    for run_id in ("own", "own-aa11"):
        made_run(tmp_path, run_id, {"one": IMAGE})
    assert results.find_run("own", tmp_path) == "own"


def test_tables_in_one_call(scenes_runs):
    runs = results.runs(scenes_runs)
    assert runs["mode"].to_pylist() == ["baseline", "hybrid", "dense", "dense"]  # newest first
    newest = results.class_iou("latest", scenes_runs)
    assert newest.num_rows == 15
    assert set(newest["run_id"].to_pylist()) == {runs["run_id"][0].as_py()}
    both = results.image_areas(["latest", "latest~1"], scenes_runs)
    assert len(set(both["run_id"].to_pylist())) == 2
    assert len(set(both["image_id"].to_pylist())) == SCENES
    assert results.query("select count(*) as n from runs", scenes_runs)["n"].to_pylist() == [4]


def test_confusions_are_the_areas(scenes_runs):
    """Row and column sums, and the diagonal, of what every pixel was called."""
    for run_id in results.runs(scenes_runs)["run_id"].to_pylist():
        pairs = results.confusion(run_id, scenes_runs).to_pylist()
        for row in results.class_iou(run_id, scenes_runs).to_pylist():
            i = row["class_id"]
            mine = [pair for pair in pairs if pair["label_id"] == i]
            assert sum(pair["pixels"] for pair in mine) == row["label"]
            said = [pair for pair in pairs if pair["prediction_id"] == i]
            assert sum(pair["pixels"] for pair in said) == row["prediction"]
            right = [pair["pixels"] for pair in mine if pair["prediction_id"] == i]
            assert sum(right) == row["intersect"]
            assert {pair["label_name"] for pair in mine} <= {row["class_name"]}


def test_pixels_without_a_label_are_pairs_too(scenes_runs):
    pairs = results.confusion("latest", scenes_runs).to_pylist()  # the baseline
    unsaid = [pair for pair in pairs if pair["prediction_id"] is None]
    total = sum(pair["pixels"] for pair in pairs)
    scored = results.image_areas("latest", scenes_runs)
    assert total == sum(scored["label"].to_pylist())
    missing = total - sum(scored["prediction"].to_pylist())
    assert sum(pair["pixels"] for pair in unsaid) == missing
    assert all(pair["prediction_name"] is None for pair in unsaid)


def test_images_that_all_runs_have(tmp_path):
    other = [(4, 6, 8), (1, 2, 1), (0, 0, 0)]  # of another truth: a pixel of class 1
    made_run(tmp_path, "a", {"one": IMAGE, "two": IMAGE, "three": IMAGE})
    made_run(tmp_path, "b", {"three": IMAGE, "two": other, "one": IMAGE, "four": IMAGE})
    pairs = results.paired(["a", "b"], tmp_path)
    assert pairs.images == ("one", "three")
    assert (pairs.left_out, pairs.other_truth) == (1, 1)
    np.testing.assert_array_equal(pairs.areas[1].prediction, [[6, 2, 0]] * 2)
    np.testing.assert_array_equal(pairs.areas[0].label, [[8, 0, 0]] * 2)


def test_images_are_paired_in_the_order_of_their_ids(tmp_path):
    """In whichever order runs have them: the draws of a comparison go by their places."""
    names = ["ü", "b", "B", "a/b", "a", "10", "9"]
    images = {name: [(k, 8, 8), (0, 0, 1), (0, 0, 0)] for k, name in enumerate(names)}
    made_run(tmp_path, "a", images)
    made_run(tmp_path, "b", dict(sorted(images.items(), reverse=True)))
    pairs = results.paired(["a", "b"], tmp_path)
    assert pairs.images == tuple(sorted(names))
    for areas in pairs.areas:
        assert areas.intersect[:, 0].tolist() == [names.index(name) for name in sorted(names)]


@pytest.mark.parametrize(
    ("images", "names", "says"),
    [
        ({"one": IMAGE[:2]}, ("sky", "grass"), "have different classes"),
        ({"one": IMAGE}, ("sky", "grass", "dog"), "have different classes"),
        ({"two": IMAGE}, ("sky", "grass", "cat"), "no image in common"),
        ({"one": [(0, 0, 1)] * 3}, ("sky", "grass", "cat"), "a different ground truth for every"),
    ],
)
def test_runs_that_cannot_be_compared(tmp_path, images, names, says):
    made_run(tmp_path, "a", {"one": IMAGE})
    made_run(tmp_path, "b", images, names)
    with pytest.raises(UserError, match=says):
        results.paired(["a", "b"], tmp_path)


def test_a_run_of_version_1_beside_a_new_one(tmp_path, scenes_runs):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    shutil.copytree(scenes_runs / "results", tmp_path / "results", dirs_exist_ok=True)
    old = results.find_run("scenes-471f", tmp_path)
    csa = results.query("select run_id from runs order by created_at offset 1 limit 1", tmp_path)
    pairs = results.paired([old, csa["run_id"][0].as_py()], tmp_path)
    assert len(pairs.images) == 4  # the old one had four of the eight
    assert results.confusion(old, tmp_path).num_rows == 0


def test_every_file_has_the_same_types(scenes_runs):
    kinds: dict[str, set[str]] = {}
    for path in (scenes_runs / "results" / "runs").glob("*.parquet"):
        for field in pq.read_schema(path):
            kinds.setdefault(field.name, set()).add(str(field.type))
    assert len(kinds) > 40
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_a_column_of_nothing_has_the_type_of_the_others(tmp_path):
    made_run(tmp_path, "a", {"one": IMAGE})
    made_run(tmp_path, "b", {"one": IMAGE}, age=1)
    path = tmp_path / "results" / "runs" / "b.parquet"
    table = pq.read_table(path)  # as version 1 wrote a baseline's
    place = table.schema.get_field_index("pamr_dilations")
    pq.write_table(table.set_column(place, "pamr_dilations", pa.nulls(1, pa.int64())), path)
    assert results.runs(tmp_path)["pamr_dilations"].to_pylist() == ["8,16", None]
    asked = "select pamr_dilations from runs order by run_id"
    assert results.query(asked, tmp_path)["pamr_dilations"].to_pylist() == ["8,16", None]


def test_the_iou_of_a_class_in_an_image_can_be_asked(scenes_runs):
    asked = results.query("from image_areas", scenes_runs).to_pylist()
    stored = results.image_areas(artifacts=scenes_runs).to_pylist()
    assert len(asked) == len(stored) > 100
    for row in asked:
        union = row["prediction"] + row["label"] - row["intersect"]
        assert row["iou"] == pytest.approx(100 * row["intersect"] / union)
