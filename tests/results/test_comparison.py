"""Differences between runs: those of the tables, and intervals where they can be had."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core import UserError, results

from .runs import made_run


@pytest.fixture
def table(scenes_runs):
    return results.compare("latest~3", "latest~2", "latest~1", artifacts=scenes_runs)


def test_values_are_those_of_the_runs(table, scenes_runs):
    runs = {row["run_id"]: row for row in results.runs(scenes_runs).to_pylist()}
    base = results.find_run("latest~3", scenes_runs)
    rows = table.to_pylist()
    assert [row["score"] for row in rows[:3]] == ["miou", "macc", "aacc"]
    for row in rows:
        if row["score"] == "iou":
            continue
        assert row["base"] == pytest.approx(runs[base][row["score"]])
        assert row["value"] == pytest.approx(runs[row["run_id"]][row["score"]])
        assert row["difference"] == pytest.approx(row["value"] - row["base"])
        assert row["low"] <= row["high"]
    for run_id in dict.fromkeys(row["run_id"] for row in rows):
        ious = {
            row["class_name"]: row["iou"]
            for row in results.class_iou(run_id, scenes_runs).to_pylist()
        }
        ours = {r["class_name"]: r["value"] for r in rows if r["run_id"] == run_id}
        assert {name: ours[name] for name in ious} == pytest.approx(ious)


def test_classes_that_moved_most_come_first(table):
    for run_id in dict.fromkeys(table["run_id"].to_pylist()):
        rows = [r for r in table.to_pylist() if (r["run_id"], r["score"]) == (run_id, "iou")]
        moved = [-1 if row["difference"] is None else abs(row["difference"]) for row in rows]
        assert moved == sorted(moved, reverse=True)
        assert sorted(row["class_id"] for row in rows) == list(range(15))


def test_the_same_seed_the_same_intervals(table, scenes_runs):
    names = ("latest~3", "latest~2", "latest~1")
    assert results.compare(*names, artifacts=scenes_runs).equals(table)
    assert not results.compare(*names, artifacts=scenes_runs, seed=1).equals(table)


def test_few_images_have_no_interval_of_a_class(tmp_path):
    rng = np.random.default_rng(0)

    def run(gain: int) -> dict[str, list[tuple[int, int, int]]]:
        images = {}
        for n in range(8):
            right = int(rng.integers(20, 60)) + gain
            rare = (n + gain, 20, 30) if n < 4 else (0, 0, 0)  # in four images of eight
            images[str(n)] = [(right, 100, 100), rare, (0, 0, 0)]
        return images

    made_run(tmp_path, "a", run(0))
    made_run(tmp_path, "b", run(3))
    rows = {r["class_name"]: r for r in results.compare("a", "b", artifacts=tmp_path).to_pylist()}
    assert rows["sky"]["images"] == 8
    assert rows["sky"]["low"] < rows["sky"]["difference"] < rows["sky"]["high"]
    assert rows["grass"]["images"] == 4
    assert rows["grass"]["difference"] is not None
    assert rows["grass"]["low"] is None
    assert [rows["cat"][name] for name in ("base", "value", "difference", "low")] == [None] * 4


@pytest.mark.parametrize(("names", "says"), [(["a"], "a alone"), (["a", "b", "a"], "a twice")])
def test_a_run_and_itself(tmp_path, names, says):
    for run_id in ("a", "b"):
        made_run(tmp_path, run_id, {"one": [(1, 1, 1)] * 3})
    with pytest.raises(UserError, match=f"{says}: a comparison needs two"):
        results.compare(*names, artifacts=tmp_path)
