"""Results: four Parquet tables, a file a run; a run that is listed is whole."""

from __future__ import annotations

import os
import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core import UserError
from sclip_core.results import files as results
from sclip_core.results.files import (
    EMPTY,
    TABLES,
    ResultsWarning,
    check_run,
    has_run,
    read_run,
    read_runs,
    read_table,
    write_run,
)
from sclip_core.store.files import DiskError

AREAS = dict.fromkeys(("class_id", "intersect", "prediction", "label"), pa.int64())


def tables(run_id: str, day: int = 1) -> dict[str, pa.Table]:
    created = datetime(2026, 1, day, tzinfo=UTC)
    run = {
        "run_id": run_id, "created_at": created, "dataset": "own", "mode": "dense",
        "num_images": 1, "miou": 12.5, "macc": 25.0, "aacc": 50.0,
    }  # fmt: skip
    classes = {
        "run_id": [run_id] * 2,
        "class_id": [0, 1],
        "class_name": ["a|b", "[bold] 🐈"],
        "label": [3, 4],
        "iou": [10.0, 15.0],
    }
    images = pa.schema({"run_id": pa.string(), "image_id": pa.string(), **AREAS})
    return {
        "runs": pa.Table.from_pylist([run]),
        "class_iou": pa.table(classes),
        "image_areas": images.empty_table(),
        "confusion": EMPTY["confusion"].empty_table(),
    }


def test_round_trip(tmp_path):
    assert not has_run(tmp_path, "one")
    assert read_runs(tmp_path) == []
    write_run(tmp_path, "one", tables("one"))
    assert has_run(tmp_path, "one")
    assert read_run(tmp_path, "one")[0]["miou"] == 12.5
    assert [row["class_name"] for row in read_run(tmp_path, "one", "class_iou")] == [
        "a|b",
        "[bold] 🐈",
    ]
    assert read_run(tmp_path, "one", "image_areas") == []


def test_newest_first(tmp_path):
    for name, day in (("b", 2), ("c", 3), ("a", 1)):
        write_run(tmp_path, name, tables(name, day))
    assert [row["run_id"] for row in read_runs(tmp_path)] == ["c", "b", "a"]


def test_any_reader_of_parquet_reads_them_together(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    assert pq.read_table(tmp_path / "results" / "runs").num_rows == 2
    schema = pq.read_schema(tmp_path / "results" / "runs" / "one.parquet")
    assert schema.metadata[b"sclip_schema_version"] == b"2"


def test_written_again(tmp_path):
    write_run(tmp_path, "one", tables("one", 1))
    write_run(tmp_path, "one", tables("one", 2))
    assert len(read_runs(tmp_path)) == 1


@pytest.mark.parametrize("stops_at", TABLES)
def test_a_run_that_is_listed_is_whole(tmp_path, monkeypatch, stops_at):
    write = results.places.write

    def stopping(path: Path, data: bytes) -> None:
        if path.parent.name == stops_at:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(results.places, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path, "one", tables("one"))
    assert not has_run(tmp_path, "one")
    assert read_runs(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"junk", b"PAR1" * 9, None])
def test_a_file_that_is_not_ours(tmp_path, content):
    write_run(tmp_path, "one", tables("one"))
    path = tmp_path / "results" / "runs" / "other.parquet"
    if content is None:
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(content)
    with pytest.warns(ResultsWarning, match=r"other\.parquet .*left out: move it away"):
        assert [row["run_id"] for row in read_runs(tmp_path)] == ["one"]
    with pytest.raises(UserError, match=r"other\.parquet .*move it away"):
        read_run(tmp_path, "other")


def test_gone(tmp_path):
    with pytest.raises(UserError, match=r"one\.parquet is missing: .* writes it again"):
        read_run(tmp_path, "one")


@pytest.mark.parametrize("table", TABLES)
def test_a_file_that_lacks_a_column(tmp_path, table):
    write_run(tmp_path, "one", tables("one"))
    path = tmp_path / "results" / table / "one.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns([whole.column_names[-1]]), path)
    with pytest.raises(UserError, match=f"has no column {whole.column_names[-1]}: move"):
        read_table(tmp_path, table)


def test_a_file_of_another_name(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    (tmp_path / "results/runs/one.parquet").rename(tmp_path / "results/runs/two.parquet")
    with pytest.raises(UserError, match=r"two\.parquet does not hold the run that its name says"):
        read_runs(tmp_path)


def test_hidden_files_are_no_runs(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    (tmp_path / "results/runs/._one.parquet").write_bytes(b"of another system")
    assert [row["run_id"] for row in read_runs(tmp_path)] == ["one"]


def test_nowhere_to_write(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(DiskError, match="results"):
        write_run(tmp_path, "one", tables("one"))
    assert os.path.isfile(tmp_path / "results")


OLD = Path(__file__).parent / "version_1"  # as the first version wrote them


def with_an_old_one(root: Path) -> str:
    shutil.copytree(OLD, root, dirs_exist_ok=True)
    return "scenes-471fd67c11ee"


def test_files_of_version_1_are_still_read(tmp_path):
    old = with_an_old_one(tmp_path)
    write_run(tmp_path, "new", tables("new"))
    rows = {row["run_id"]: row for row in read_runs(tmp_path)}
    assert rows[old]["attention"] == "csa"
    assert rows["new"]["attention"] is None  # a column that the other file lacks
    assert (rows[old]["miou"], rows["new"]["miou"]) == (pytest.approx(67.92, abs=0.01), 12.5)
    assert read_run(tmp_path, old, "confusion") == []
    assert read_table(tmp_path, "confusion").schema.names == EMPTY["confusion"].names
    assert read_table(tmp_path, "class_iou", [old]).num_rows == 15


@pytest.mark.parametrize("version", [b"3", b"4000", b"new"])
def test_a_file_of_a_later_version_is_not_guessed_at(tmp_path, version):
    write_run(tmp_path, "one", tables("one"))
    later = tables("one")["runs"].replace_schema_metadata({results.VERSION_KEY: version})
    pq.write_table(later, tmp_path / "results" / "runs" / "one.parquet")
    with pytest.raises(UserError, match=f"schema version {version.decode()}, .* up to 2: update"):
        read_runs(tmp_path)


def _written(root: Path, names: list[str]) -> None:
    for name in names:
        write_run(root, name, tables(name))


def test_runs_that_end_at_the_same_moment_lose_nothing(tmp_path):
    each = [[f"run-{writer}-{n}" for n in range(8)] + ["shared"] for writer in range(4)]
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        pending = [pool.submit(partial(_written, tmp_path), names) for names in each]
        while not all(future.done() for future in pending):  # who reads meanwhile sees whole runs
            for row in read_runs(tmp_path):
                assert len(read_run(tmp_path, row["run_id"], "class_iou")) == 2
        for future in pending:
            future.result()
    assert {row["run_id"] for row in read_runs(tmp_path)} == {n for names in each for n in names}
    assert not list(tmp_path.rglob(".writing*"))


def test_a_missing_confusion_is_no_older_version(tmp_path):
    with_an_old_one(tmp_path)
    write_run(tmp_path, "new", tables("new"))
    assert read_table(tmp_path, "confusion").num_rows == 0
    (tmp_path / "results" / "confusion" / "new.parquet").unlink()
    with pytest.raises(UserError, match=r"confusion/new\.parquet is missing: .* writes it again"):
        read_table(tmp_path, "confusion", ["new"])
    with pytest.warns(ResultsWarning, match=r"confusion/new\.parquet is missing; left out"):
        assert read_table(tmp_path, "confusion").num_rows == 0


def test_a_damaged_run_without_confusion_is_no_older_version(tmp_path):
    """How old a run is cannot be told where its row is damaged."""
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    (tmp_path / "results" / "confusion" / "one.parquet").unlink()
    (tmp_path / "results" / "runs" / "one.parquet").write_bytes(b"torn")
    with pytest.warns(ResultsWarning, match=r"runs/one\.parquet cannot be read"):
        read_table(tmp_path, "confusion")


def test_a_folder_that_looks_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path("exp:1"), "one", tables("one"))
    assert read_runs(Path("exp:1"))[0]["miou"] == 12.5
    assert (tmp_path / "exp:1" / "results" / "runs" / "one.parquet").is_file()


def test_none_can_be_read(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
        (tmp_path / "results" / "runs" / f"{name}.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"one\.parquet cannot be read"):
        read_runs(tmp_path)


@pytest.mark.parametrize("table", TABLES)
def test_a_run_whose_tables_are_all_as_they_were_written(tmp_path, table):
    write_run(tmp_path, "one", tables("one"))
    check_run(tmp_path, "one")
    path = tmp_path / "results" / table / "one.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{table}/one\.parquet cannot be read"):
        check_run(tmp_path, "one")
    path.unlink()
    with pytest.raises(UserError, match=rf"{table}/one\.parquet is missing"):
        check_run(tmp_path, "one")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_at", pa.array([2**62], pa.timestamp("us", "UTC"))),
        ("created_at", pa.array([2**50], pa.timestamp("us", "UTD"))),
        ("versions", pa.array(['{"numpy": "2.0"'])),
    ],
)
def test_values_that_cannot_be_used(tmp_path, name, value):
    """In a file without a digest, whose values are damaged."""
    write_run(tmp_path, "one", tables("one"))
    table = tables("one")["runs"]
    table = table.drop_columns(name) if name in table.column_names else table
    damaged = table.append_column(name, value)
    path = tmp_path / "results" / "runs" / "one.parquet"
    pq.write_table(damaged.replace_schema_metadata({results.VERSION_KEY: "2"}), path)
    with pytest.raises(UserError, match=r"one\.parquet cannot be read \(.*move it away"):
        read_runs(tmp_path)


def test_files_that_do_not_go_together(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    other = tables("two")["runs"].set_column(3, "mode", pa.array([7]))
    write_run(tmp_path, "two", {**tables("two"), "runs": other})
    with pytest.raises(UserError, match=r"results/runs have columns that do not fit .*mode"):
        read_runs(tmp_path)


def without_digests(root: Path, run_id: str) -> None:
    """Write a run as version 0.1.0 did."""
    for name, table in tables(run_id).items():
        (root / "results" / name).mkdir(parents=True, exist_ok=True)
        path = root / "results" / name / f"{run_id}.parquet"
        versioned = table.replace_schema_metadata({results.VERSION_KEY: "2"})
        pq.write_table(versioned, path, compression="zstd")


def test_files_without_a_digest_are_read_as_before(tmp_path):
    without_digests(tmp_path, "old")
    write_run(tmp_path, "new", tables("new"))
    check_run(tmp_path, "old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for table in TABLES:
            read = [read_table(tmp_path, table, [name]) for name in ("old", "new")]
            old, new = (each.drop_columns("run_id") for each in read)
            assert old.equals(new)
            assert read_table(tmp_path, table).num_rows == 2 * new.num_rows


@pytest.mark.parametrize("table", ["runs", "class_iou", "image_areas"])
def test_damage_to_a_file_of_version_1_is_no_traceback(tmp_path, table):
    """What has no digest may be damaged unseen, but every error is one that a user can read."""
    old = with_an_old_one(tmp_path)
    write_run(tmp_path, "new", tables("new"))
    path = tmp_path / "results" / table / f"{old}.parquet"
    whole, random = path.read_bytes(), Random(7)
    refused = 0
    for place in random.sample(range(len(whole)), 300):
        path.write_bytes(flipped(whole, place, random))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                read_table(tmp_path, table).to_pylist()
            except UserError:
                refused += 1
        refused += len(caught)
    assert refused > 30


def flipped(data: bytes, place: int, random: Random) -> bytes:
    """With one bit of one byte changed."""
    other = bytearray(data)
    other[place] ^= 1 << random.randrange(8)
    return bytes(other)
