"""Boundaries and sizes of objects, where they are asked for: nothing else is computed for them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sclip_core import results
from sclip_core.evaluation import scores
from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.boundary import boundary_areas
from sclip_core.evaluation.sizes import size_areas
from sclip_core.maintenance.check import check_store
from sclip_core.maintenance.collect import find_garbage, referred_to
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.scoring import score
from sclip_core.results.files import check_run, path_of, read_file, read_runs
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.store.leases import Lease

from .conftest import computed, run
from .test_results import opened, torn

BOTH = {"boundary": True, "object_sizes": True}


def maps(artifacts):
    """Label map and ground truth of each image, as the report reads them."""
    row = read_runs(artifacts)[0]
    source, labels = Source(artifacts, row), LabelMaps(artifacts, row)
    ids = sorted({r["image_id"] for r in results.image_areas(None, artifacts).to_pylist()})
    for image_id in ids:
        yield image_id, labels.read(source.digest(image_id)), source.truth(image_id)


def test_a_run_that_is_there_gets_them_and_keeps_its_name(artifacts, voc, finished_once):
    before = path_of(artifacts, "runs", finished_once[1].run_id).read_bytes()
    again = run(artifacts, voc, **BOTH)
    assert computed(again) == {"boundary": 4, "object_sizes": 4, "results": 1}
    assert again.run_id == finished_once[1].run_id
    assert path_of(artifacts, "runs", again.run_id).read_bytes() == before
    keys = {o.stage: o.key for o in finished_once[1].outcomes.values()}
    assert {o.stage: o.key for o in again.outcomes.values() if o.stage in keys} == keys
    assert computed(run(artifacts, voc, **BOTH)) == {}
    assert computed(run(artifacts, voc)) == {}
    check_run(artifacts, again.run_id)


def test_tables_are_what_the_maps_say(artifacts, voc):
    row = run(artifacts, voc, **BOTH).row
    boundary = read_file(path_of(artifacts, "boundary_areas", row["run_id"]), "boundary_areas")
    sizes = read_file(path_of(artifacts, "size_areas", row["run_id"]), "size_areas")
    ours = {(r["image_id"], r["class_id"]): r for r in boundary.to_pylist()}
    of_sizes = {(r["image_id"], r["class_id"], r["size"]): r for r in sizes.to_pylist()}
    total, count = np.zeros((3, 21), np.int64), 0
    for image_id, guess, truth in maps(artifacts):
        areas = boundary_areas(guess.astype(np.uint8), truth, 21)
        total += np.stack(areas)
        for k in np.flatnonzero(areas.prediction + areas.label).tolist():
            found = ours.pop((image_id, k))
            assert [found[name] for name in Areas._fields] == [area[k] for area in areas]
        found = size_areas(guess.astype(np.uint8), truth, 21)
        for k, size, *numbers in np.stack(found, axis=1).tolist():
            stored = of_sizes.pop((image_id, k, ("small", "medium", "large")[size]))
            assert [stored[name] for name in ("objects", "intersect", "label")] == numbers
        count += 1
    assert (count, ours, of_sizes) == (4, {}, {})
    asked = results.scores("latest", ["biou", "acc_small", "acc_large"], artifacts=artifacts)
    value = {r["score"]: r["value"] for r in asked.to_pylist()}
    assert value["biou"] == pytest.approx(scores(Areas(*total)).miou)
    small = [r for r in sizes.to_pylist() if r["size"] == "small"]
    recall = {
        k: 100 * sum(r["intersect"] for r in small if r["class_id"] == k)
        / sum(r["label"] for r in small if r["class_id"] == k)
        for k in {r["class_id"] for r in small}
    }  # fmt: skip
    assert value["acc_small"] == pytest.approx(np.mean(list(recall.values())))


@pytest.mark.parametrize("mode", ["hybrid", "baseline"])
def test_masks_that_leave_gaps(tmp_path, voc, mode):
    finished = run(tmp_path, voc, mode=mode, proposals="slic", slic_segments=6, **BOTH)
    rows = results.query("select count(*) as n from boundary_areas", tmp_path).to_pylist()
    assert rows[0]["n"] > 4
    assert finished.outcomes["boundary"].computed == 4
    assert finished.row["key_boundary"] == finished.outcomes["boundary"].key


def test_a_damaged_table_is_written_again(artifacts, voc):
    first = run(artifacts, voc, boundary=True)
    path = path_of(artifacts, "boundary_areas", first.run_id)
    whole = path.read_bytes()
    for damage in (torn, type(path).unlink):
        damage(path)
        plan = {s.name: s.status() for s in Pipeline.of(opened(artifacts, voc, boundary=True))}
        assert plan["results"].reason == "no boundary_areas yet"
        assert computed(run(artifacts, voc, boundary=True)) == {"results": 1}
        assert path.read_bytes() == whole


def test_damaged_rows_are_computed_again(artifacts, voc):
    first = run(artifacts, voc, boundary=True)
    whole = path_of(artifacts, "boundary_areas", first.run_id).read_bytes()
    for part in artifacts.glob("boundary/*/parts/*.parquet"):
        torn(part)
    path_of(artifacts, "boundary_areas", first.run_id).unlink()
    run(artifacts, voc, boundary=True)
    assert path_of(artifacts, "boundary_areas", first.run_id).read_bytes() == whole


def test_forcing_computes_them_again_and_nothing_else(artifacts, voc):
    run(artifacts, voc, boundary=True)
    again = run(artifacts, voc, boundary=True, force=("boundary",))
    assert computed(again) == {"boundary": 4, "results": 1}


def test_they_are_kept_and_checked(artifacts, voc):
    finished = run(artifacts, voc, **BOTH)
    assert list(find_garbage(artifacts, Lease(artifacts), 0)) == []
    kept = {f"{n}/{finished.outcomes[n].key}" for n in ("boundary", "object_sizes")}
    assert kept <= referred_to(artifacts)
    assert list(check_store(artifacts)) == []
    torn(path_of(artifacts, "size_areas", finished.run_id))
    assert [fault.path.parent.name for fault in check_store(artifacts)] == ["size_areas"]


def test_settings_of_the_artifact_say_how(artifacts, voc):
    finished = run(artifacts, voc, **BOTH)
    for name, setting, value in (
        ("boundary", "dilation_ratio", 0.02), ("object_sizes", "ranges", [1024, 9216])
    ):  # fmt: skip
        manifest = artifacts / name / finished.outcomes[name].key / "manifest.json"
        assert json.loads(manifest.read_text())["settings"][setting] == value


def test_predictions_of_another_tool_have_them_too(artifacts, voc, tmp_path):
    """The run's own label maps, saved and scored, have the numbers of the run."""
    ours = run(artifacts, voc, **BOTH)
    for image_id, guess, _ in maps(artifacts):
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), guess.astype(np.uint8))
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts}
    assert score(tmp_path, **given, boundary=True).row["key_boundary"]
    found = score(tmp_path, **given, **BOTH)  # the sizes only
    for table in ("boundary_areas", "size_areas"):
        one, another = (
            read_file(path_of(artifacts, table, i), table).drop_columns(["run_id"])
            for i in (ours.run_id, found.run_id)
        )
        assert one.equals(another)
