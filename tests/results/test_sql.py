"""Questions to the results in SQL."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from sclip_core import UserError
from sclip_core.results import files as results
from sclip_core.results.audits import AUDIT
from sclip_core.results.derived import OF_IMAGES, OF_RUNS
from sclip_core.results.files import TABLES, ResultsWarning, write_run
from sclip_core.results.sql import described_tables, query
from sclip_core.results.tuning import TUNE

from .test_files import tables, with_an_old_one


def test_the_tables_can_be_asked(tmp_path):
    for name, day in (("one", 1), ("two", 2)):
        write_run(tmp_path, name, tables(name, day))
    answer = query("select run_id, miou from runs order by created_at desc", tmp_path)
    assert answer.to_pylist() == [
        {"run_id": "two", "miou": 12.5},
        {"run_id": "one", "miou": 12.5},
    ]
    joined = "select count(*) n from runs join class_iou using (run_id)"
    assert query(joined, tmp_path).to_pylist() == [{"n": 4}]
    assert query("select * from image_areas", tmp_path).num_rows == 0


def test_a_folder_with_a_quote(tmp_path):
    root = tmp_path / "it's here"
    write_run(root, "one", tables("one"))
    assert query("select run_id from runs", root).num_rows == 1


def test_a_folder_whose_name_is_a_pattern(tmp_path):
    root = tmp_path / "run[1]*?"
    write_run(root, "one", tables("one"))
    assert query("select run_id from runs", root).num_rows == 1


def test_a_damaged_file(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    (tmp_path / "results" / "runs" / "one.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read") as refused:
        query("select * from runs", tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selct 1", "syntax error"),
        ("select x from runs", '"x" not found'),
        (
            "select * from nowhere",
            "nowhere does not exist; the tables are .*, confusion, image_areas",
        ),
        ("select * from run", "run does not exist; did you mean runs\\? The tables are"),
        ("from image_area", "does not exist; did you mean image_areas"),
        ("", "expected one statement .*, found none"),
        ("select intersect from class_iou", "intersect is an SQL keyword: .* double quotes"),
        ("select 1 / intersect from class_iou", "intersect is an SQL keyword: .* double quotes"),
        ('select "union" + union from class_iou', "union is an SQL keyword: .* double quotes"),
    ],
)
def test_a_question_that_is_not_understood(tmp_path, sql, says):
    write_run(tmp_path, "one", tables("one"))
    with pytest.raises(UserError, match=says) as refused:
        query(sql, tmp_path)
    assert "\n" not in str(refused.value)


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="no runs under"):
        query("select 1", tmp_path)


def test_without_duckdb(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(UserError, match=r"pip install 'sclip-benchmark\[query\]'"):
        query("select 1", tmp_path)


def test_old_and_new_files_together(tmp_path):
    old = with_an_old_one(tmp_path)
    assert query("select * from confusion", tmp_path).num_rows == 0  # of no file at all
    write_run(tmp_path, "new", tables("new"))
    answer = query("select run_id, attention from runs order by run_id", tmp_path)
    assert answer.to_pylist() == [
        {"run_id": "new", "attention": None},
        {"run_id": old, "attention": "csa"},
    ]
    asked = "select prediction_name, sum(pixels) from confusion group by 1"
    assert query(asked, tmp_path).num_rows == 0


def test_a_run_that_is_not_whole_is_in_no_answer(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    (tmp_path / "results" / "runs" / "two.parquet").unlink()
    assert query("select distinct run_id from class_iou", tmp_path).to_pylist() == [
        {"run_id": "one"}
    ]


@pytest.mark.parametrize("part", ["a[1]", "a*", "run_id=7", "dataset=voc21", "it's {b}"])
def test_a_folder_is_only_a_folder(tmp_path, part):
    """Neither a pattern, which would find other folders, nor a column."""
    for name, run_id in ((part, "one"), ("a1", "two"), ("ab", "three")):
        write_run(tmp_path / name, run_id, tables(run_id))
    answer = query("from runs", tmp_path / part)
    assert answer["run_id"].to_pylist() == ["one"]
    assert answer["dataset"].to_pylist() == ["own"]
    derived = [*OF_RUNS, *OF_IMAGES]
    assert answer.column_names == [*tables("one")["runs"].column_names, *derived]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select 1; select 2", "expected one statement .*, found 2"),
        ("copy (select 1) to '{file}'", "found copy"),
        ("create table t as select 1", "found create"),
        ("drop view runs", "found drop"),
        ("attach '{file}'", "found attach"),
        ("export database '{file}'", "found export"),
        ("install httpfs", "found load"),
        ("explain analyze copy (select 1) to '{file}'", "found copy"),
        ("/* x */ explain (analyze) -- y\n copy runs to '{file}'", "found copy"),
        ("copy (pivot runs on mode using max(miou)) to '{file}'", "found copy"),
        ("create table t as pivot runs on mode using max(miou)", "found create"),
        ("set threads = 1", "found set"),
        ("  -- nothing", "found none"),
        ("from 'https://127.0.0.1/x.parquet'", "httpfs"),
    ],
)
def test_what_is_more_than_a_question(tmp_path, sql, says):
    write_run(tmp_path, "one", tables("one"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    file = tmp_path / "results" / "runs" / "one.parquet"
    with pytest.raises(UserError, match=says) as refused:
        query(sql.format(file=file), tmp_path)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "from runs",
        "describe runs",
        "summarize class_iou",
        "with t as (from runs) select count(*) from t",
        "pivot class_iou on class_name using max(iou)",
        "explain from runs",
        "explain analyze select 1",
        "-- which?\n(select 1) union all (select 2)",
        "values (1)",
    ],
)
def test_every_kind_of_question(tmp_path, sql):
    write_run(tmp_path, "one", tables("one"))
    assert query(sql, tmp_path).num_rows > 0


def test_one_damaged_file_is_in_the_way_of_those_who_ask_for_it(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    (tmp_path / "results" / "confusion" / "one.parquet").write_bytes(b"torn")
    assert query("from runs", tmp_path).num_rows == 1
    with pytest.raises(UserError, match=r"confusion/one.parquet cannot be read .* writes it again"):
        query("from confusion", tmp_path)


def test_one_damaged_file_costs_only_its_run(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    (tmp_path / "results" / "class_iou" / "one.parquet").write_bytes(b"torn")
    with pytest.warns(ResultsWarning, match=r"class_iou/one\.parquet cannot be read .*; left out"):
        answer = query("select distinct run_id from class_iou", tmp_path)
    assert answer["run_id"].to_pylist() == ["two"]
    with pytest.warns(ResultsWarning, match="one"):
        assert described_tables(tmp_path).num_rows == 7


def test_a_file_of_a_later_version_is_in_no_answer(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    path = tmp_path / "results" / "runs" / "one.parquet"
    later = {results.VERSION_KEY: b"3"}
    pq.write_table(tables("one")["runs"].replace_schema_metadata(later), path)
    with pytest.raises(UserError, match="schema version 3"):
        query("from runs", tmp_path)


def test_what_can_be_asked(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    found = {row["table"]: row["columns"] for row in described_tables(tmp_path).to_pylist()}
    assert sorted(found) == sorted((*TABLES, AUDIT, TUNE, "class_groups"))
    assert "miou double" in found["runs"]
    assert found["image_areas"].endswith("iou double")
