"""Questions to the results in SQL."""

from __future__ import annotations

import pytest

from sclip_core import UserError
from sclip_core.store.query import query_results
from sclip_core.store.results import write_run

from .test_results import tables, with_an_old_one


def test_the_tables_are_views(tmp_path):
    for name, day in (("one", 1), ("two", 2)):
        write_run(tmp_path, name, tables(name, day))
    answer = query_results(tmp_path, "select run_id, miou from runs order by created_at desc")
    assert answer.to_pylist() == [
        {"run_id": "two", "miou": 12.5},
        {"run_id": "one", "miou": 12.5},
    ]
    joined = "select count(*) n from runs join class_iou using (run_id)"
    assert query_results(tmp_path, joined).to_pylist() == [{"n": 4}]
    assert query_results(tmp_path, "select * from image_areas").num_rows == 0


def test_a_folder_with_a_quote(tmp_path):
    root = tmp_path / "it's here"
    write_run(root, "one", tables("one"))
    assert query_results(root, "select run_id from runs").num_rows == 1


def test_a_folder_whose_name_is_a_pattern(tmp_path):
    root = tmp_path / "run[1]*?"
    write_run(root, "one", tables("one"))
    assert query_results(root, "select run_id from runs").num_rows == 1


def test_a_damaged_file(tmp_path):
    write_run(tmp_path, "one", tables("one"))
    (tmp_path / "results" / "runs" / "one.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read") as refused:
        query_results(tmp_path, "select * from runs")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selct 1", "syntax error"),
        ("select x from runs", '"x" not found'),
        ("select * from nowhere", "nowhere does not exist"),
        ("", "that is no question"),
        ("select intersect from class_iou", "intersect is a word of SQL: .* double quotes"),
        ("select 1 / intersect from class_iou", "intersect is a word of SQL: .* double quotes"),
        ('select "union" + union from class_iou', "union is a word of SQL: .* double quotes"),
    ],
)
def test_a_question_that_is_not_understood(tmp_path, sql, says):
    write_run(tmp_path, "one", tables("one"))
    with pytest.raises(UserError, match=says) as refused:
        query_results(tmp_path, sql)
    assert "\n" not in str(refused.value)


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="no runs under"):
        query_results(tmp_path, "select 1")


def test_without_duckdb(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(UserError, match=r"pip install 'sclip-benchmark\[query\]'"):
        query_results(tmp_path, "select 1")


def test_old_and_new_files_together(tmp_path):
    old = with_an_old_one(tmp_path)
    assert query_results(tmp_path, "select * from confusion").num_rows == 0  # of no file at all
    write_run(tmp_path, "new", tables("new"))
    answer = query_results(tmp_path, "select run_id, attention from runs order by run_id")
    assert answer.to_pylist() == [
        {"run_id": "new", "attention": None},
        {"run_id": old, "attention": "csa"},
    ]
    asked = "select prediction_name, sum(pixels) from confusion group by 1"
    assert query_results(tmp_path, asked).num_rows == 0


def test_a_run_that_is_not_whole_is_in_no_answer(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path, name, tables(name))
    (tmp_path / "results" / "runs" / "two.parquet").unlink()
    assert query_results(tmp_path, "select distinct run_id from class_iou").to_pylist() == [
        {"run_id": "one"}
    ]
