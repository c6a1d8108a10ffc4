"""Numbers beside mIoU of stored runs, old ones too, against the tables themselves."""

import numpy as np
import pyarrow as pa
import pytest

from sclip_core import UserError, results
from sclip_core.evaluation import bootstrap
from sclip_core.results import files
from sclip_core.results.derived import OF_CLASSES, OF_IMAGES, OF_RUNS

from .runs import made_run

AREAS = {  # (intersect, prediction, label) of sky, grass, cat
    "one": [(8, 10, 8), (4, 4, 6), (0, 0, 0)],
    "two": [(5, 9, 6), (0, 1, 0), (1, 2, 6)],
    "three": [(0, 0, 0), (3, 6, 3), (2, 2, 5)],
}
# What the tables above give, by hand: sums (13,19,14), (7,11,9), (3,4,11) of unions 20, 13, 12.
PRECISION, DICE = [100 * 13 / 19, 100 * 7 / 11, 75], [100 * 26 / 33, 70, 40]
FWIOU = 100 * (14 * 13 / 20 + 9 * 7 / 13 + 11 * 3 / 12) / 34
MIOU_I = 100 * np.mean([(8 / 10 + 4 / 6) / 2, (5 / 10 + 1 / 7) / 2, (3 / 6 + 2 / 5) / 2])
MIOU_C = 100 * np.mean([(8 / 10 + 5 / 10) / 2, (4 / 6 + 3 / 6) / 2, (1 / 7 + 2 / 5) / 2])


@pytest.fixture
def store(tmp_path):
    made_run(tmp_path, "one-aa", AREAS)
    return tmp_path


def stored_as_of_old(root, table, columns):
    path = files.path_of(root, table, "one-aa")
    found = files.open_file(path)[1]
    found = found.drop_columns([name for name in columns if name in found.column_names])
    tables = {
        name: files.open_file(files.path_of(root, name, "one-aa"))[1] for name in files.TABLES
    }
    files.write_run(root, "one-aa", {**tables, table: found})


def test_classes_have_precision_and_dice_also_where_they_were_not_stored(store):
    for _ in range(2):
        found = results.class_iou("one", store)
        assert found["precision"].to_pylist() == pytest.approx(PRECISION)
        assert found["dice"].to_pylist() == pytest.approx(DICE)
        asked = results.query("select precision, dice from class_iou order by class_id", store)
        assert asked.select(["precision", "dice"]).equals(found.select(["precision", "dice"]))
        stored_as_of_old(store, "class_iou", OF_CLASSES)


def test_runs_of_before_have_the_scores_on_reading(store):
    stored_as_of_old(store, "runs", (*OF_RUNS, *OF_IMAGES))
    for found in (results.runs(store), results.query("from runs", store)):
        row = found.to_pylist()[0]
        assert row["fwiou"] == pytest.approx(FWIOU)
        assert row["mprec"] == pytest.approx(np.mean(PRECISION))
        assert row["mdice"] == pytest.approx(np.mean(DICE))
        assert row["miou_i"] == pytest.approx(MIOU_I)
        assert row["miou_c"] == pytest.approx(MIOU_C)


def test_scores_with_intervals(store):
    names = ["miou", "fwiou", "mIoU-I", "miou_c", "miou_i5"]
    found = {row["score"]: row for row in results.scores("one", names, artifacts=store).to_pylist()}
    assert list(found) == ["miou", "fwiou", "miou_i", "miou_c", "miou_i5"]
    assert found["fwiou"]["value"] == pytest.approx(FWIOU)
    assert found["miou_i"]["value"] == pytest.approx(MIOU_I)
    assert found["miou_c"]["value"] == pytest.approx(MIOU_C)
    assert found["miou_i5"]["value"] == pytest.approx(100 * (5 / 10 + 1 / 7) / 2)  # the worst
    assert found["miou"]["low"] is None  # three images


@pytest.mark.parametrize("count", [4, 5])
def test_five_images_have_an_interval(tmp_path, count):
    made_run(tmp_path, "few", {f"{k}": [(3 + k, 9, 8), (1, 4, 5), (0, 0, 0)] for k in range(count)})
    (row,) = results.scores("few", "miou", artifacts=tmp_path).to_pylist()
    assert row["images"] == count
    assert (row["low"] is not None) == (count == 5)


def test_draws_are_those_of_the_bootstrap_with_the_same_seed(scenes_runs):
    names = [results.find_run(name, scenes_runs) for name in ("latest~3", "latest~2")]
    drawn = bootstrap(results.paired(names, scenes_runs).sparse, 100, seed=5)
    given = {"artifacts": scenes_runs, "resamples": 100, "seed": 5}
    for run, name in enumerate(names):
        (row,) = results.scores(name, "macc", **given).to_pylist()
        assert (row["value"], row["low"], row["high"]) == pytest.approx(drawn.of("macc", run))
    row = results.compare(*names, scores="macc", **given).to_pylist()[0]
    found = row["difference"], row["low"], row["high"]
    assert found == pytest.approx(drawn.difference("macc", 1))
    (gain,) = results.matrix(*names, score="macc", reference=names[0], **given).cells[1]
    assert gain.difference == pytest.approx(drawn.difference("macc", 1))
    (spread,) = results.matrix(*names, score="macc", spread="se", **given).cells[1]
    assert (spread.value, spread.low, spread.high) == pytest.approx(drawn.of("macc", 1))
    assert spread.error == pytest.approx(np.std(drawn.macc[1, 1:], ddof=1))


def test_groups_in_scores_comparisons_and_queries(scenes_runs):
    base, other = (results.find_run(name, scenes_runs) for name in ("latest~3", "latest~2"))
    iou = {
        row["class_name"]: row["iou"] for row in results.class_iou(base, scenes_runs).to_pylist()
    }
    stuff = [value for name, value in list(iou.items())[:8] if value is not None]
    table = results.scores(base, "miou", "scenes", scenes_runs).to_pylist()
    assert [row["name"] for row in table] == ["mIoU", "mIoU stuff", "mIoU things"]
    assert table[1]["value"] == pytest.approx(np.mean(stuff))
    assert all(row["low"] <= row["value"] <= row["high"] for row in table)
    asked = results.query(
        "select avg(iou) as stuff from class_iou join class_groups using (run_id, class_id) "
        f"where class_group = 'stuff' and run_id = '{base}'",
        scenes_runs,
    )
    assert asked["stuff"][0].as_py() == pytest.approx(np.mean(stuff))
    rows = results.compare(
        base, other, artifacts=scenes_runs, scores=["fwiou", "miou"], groups="scenes"
    ).to_pylist()
    assert [r["score"] for r in rows[:4]] == ["fwiou", "miou", "miou:stuff", "miou:things"]
    usual = results.compare(base, other, artifacts=scenes_runs).to_pylist()
    assert rows[1] == usual[0]
    assert rows[4:] == usual[3:]  # the classes


def test_new_runs_store_what_old_ones_get_on_reading(scenes_runs):
    stored = files.read_table(scenes_runs, "runs").sort_by("run_id")
    bare = stored.drop_columns([*OF_RUNS, *OF_IMAGES])
    from sclip_core.results.tables import with_scores

    computed = with_scores(scenes_runs, bare)
    for name in (*OF_RUNS, *OF_IMAGES):
        assert computed[name].to_pylist() == pytest.approx(stored[name].to_pylist())
    classes = files.open_file(next(files.path_of(scenes_runs, "class_iou", "x").parent.iterdir()))
    assert {"precision", "dice"} <= set(classes[1].column_names)


def test_what_cannot_be_computed(store):
    with pytest.raises(UserError, match=r"unknown score 'miuo'\. Did you mean 'miou'"):
        results.scores("one", ["miuo"], artifacts=store)
    with pytest.raises(UserError, match="one-aa has no boundary_areas: run it again with --bound"):
        results.scores("one", ["biou"], artifacts=store)
    path = files.path_of(store, "image_areas", "one-aa")
    path.write_bytes(b"torn")
    stored_runs = files.read_file(files.path_of(store, "runs", "one-aa"), "runs")
    assert "fwiou" not in stored_runs.column_names
    with pytest.warns(results.ResultsWarning, match="image_areas/one-aa"):
        found = results.runs(store)
    assert found["miou_i"].to_pylist() == [None]
    assert pa.types.is_floating(found["miou_i"].type)
