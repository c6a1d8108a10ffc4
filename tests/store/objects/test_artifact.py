"""Manifests, and files of results, in a bucket."""

from __future__ import annotations

import pytest

from sclip_core.config import UserError
from sclip_core.store import places
from tests.results.runs import made_run
from tests.torture.proxy import Fault


def test_two_writers_of_a_manifest(of_another_process):
    first, second = of_another_process(), of_another_process()
    assert first.create({"device": "one"}) is False
    assert second.create({"device": "two"}) is False
    assert b"one" in places.read(first.path / "manifest.json")
    assert not places.exists(first.path / "ledger.jsonl")


def test_a_damaged_manifest_is_written_again(of_another_process):
    artifact = of_another_process()
    artifact.create({})
    manifest = artifact.path / "manifest.json"
    good = places.read(manifest)
    for bad in (b"", good[:-9], good.replace(b"refine", b"refind")):
        places.write(manifest, bad)
        assert of_another_process().rows() is not None
        assert of_another_process().create({}) is True
        assert places.read(manifest) == good


def test_a_manifest_of_other_settings_is_refused(of_another_process):
    one, other = of_another_process(), of_another_process(pamr_steps=5)
    other.create({})
    places.write(one.path / "manifest.json", places.read(other.path / "manifest.json"))
    for use in (lambda a: a.create({}), lambda a: a.rows()):
        with pytest.raises(UserError, match=r"does not match the name of its folder \(settings"):
            use(of_another_process())


def test_results(bucket, tmp_path):
    from sclip_core.results.files import TABLES, ResultsError, has_run, read_runs, read_table

    for number in range(2):
        areas = {"a": [[5, 9, 9]], "b": [[1, 2, 3]]}
        made_run(tmp_path, f"run{number}", areas, ("sky",), age=number)
    copied = 0
    for table in TABLES:
        for path in sorted((tmp_path / "results" / table).glob("*.parquet")):
            places.write(bucket / "results" / table / path.name, path.read_bytes())
            copied += 1
    assert copied == 2 * len(TABLES)
    for table in TABLES:
        assert read_table(bucket, table).equals(read_table(tmp_path, table))
    runs = read_runs(bucket)
    assert runs == read_runs(tmp_path)
    run_id = runs[0]["run_id"]
    assert has_run(bucket, run_id)
    assert not has_run(bucket, "nobody")
    place = bucket / "results" / "confusion" / f"{run_id}.parquet"
    places.write(place, places.read(place)[:-3])
    with pytest.raises(ResultsError, match=f"{place} cannot be read"):
        read_table(bucket, "confusion", [run_id])


def test_results_that_were_damaged_on_their_way_are_read_again(bucket, tmp_path, disturbed):
    from sclip_core.results.files import read_table

    made_run(bucket, "run", {"a": [[5, 9, 9]]}, ("sky",))
    proxy = disturbed(Fault("flipped", ("GET",), every=2))
    for _ in range(3):
        assert read_table(bucket, "runs", ["run"])["num_images"].to_pylist() == [1]
    assert proxy.faulty["flipped"] >= 1
