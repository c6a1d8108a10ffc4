"""Questions to the results in SQL, by DuckDB."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.results.files import TABLES, read_table, run_ids

IMAGE_IOU = '100 * "intersect" / nullif(prediction + label - "intersect", 0)'
ASKS = {"SELECT", "EXPLAIN", "MULTI"}  # kinds of statements; MULTI: anything with a pivot in it
ASKING = {
    "select", "from", "with", "pivot", "unpivot", "values", "table", "describe", "summarize", "show"
}  # fmt: skip
COMMENT = re.compile(r"\s+|--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)
EXPLAIN = re.compile(r"explain\s+(analyze\s+|\([^)]*\)\s*)?", re.IGNORECASE)
OFFLINE = dict.fromkeys(("autoinstall_known_extensions", "autoload_known_extensions"), "false")
RESERVED = re.compile(r'(?<!")\b(intersect|union)\b(?!")', re.IGNORECASE)


def query_results(root: Path, sql: str) -> pa.Table:
    """Answer a question.

    Args:
        root: the folder of all artifacts.
        sql: one statement over ``runs``, ``class_iou``, ``image_areas``, which has ``iou`` in
            percent here, and ``confusion``; it may read files of your own too.

    Raises:
        UserError: no results, or none that can be read (those of some runs are left out, with a
            ``ResultsWarning``); DuckDB is not installed, or does not understand the question; or
            it is none, but would change something.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError("DuckDB is not installed: pip install 'sclip-benchmark[query]'") from None
    if not run_ids(root):
        raise UserError(f"no runs under {root / 'results'}: `sclip run` makes them")
    connection = duckdb.connect(config=OFFLINE)
    try:
        _check(connection, sql)
        for table in TABLES:
            if re.search(rf"\b{table}\b", sql, re.IGNORECASE):
                _offer(connection, table, read_table(root, table))
        answer: pa.Table = connection.sql(sql).to_arrow_table()
        return answer
    except duckdb.Error as error:
        reason = f"{_line(error)}{_hint(error, sql)}"
        raise UserError(f"the query was not understood: {reason}") from None


def described_tables(root: Path) -> pa.Table:
    """What can be asked: the tables and their columns, a row a table.

    Raises:
        UserError: no results, or none that can be read.
    """
    if not run_ids(root):
        raise UserError(f"no runs under {root / 'results'}: `sclip run` makes them")
    rows = []
    for table in sorted(TABLES):
        columns = [f"{field.name} {field.type}" for field in read_table(root, table).schema]
        columns += ["iou double"] if table == "image_areas" else []
        rows.append({"table": table, "columns": ", ".join(columns)})
    return pa.Table.from_pylist(rows)


def _check(connection: Any, sql: str) -> None:
    """Refuse what is not one question.

    Raises:
        UserError: several statements, none, or one that would change something.
    """
    kinds = [str(each.type).rpartition(".")[2] for each in connection.extract_statements(sql)]
    expected = "expected one statement that begins with select or from"
    if not kinds:
        raise UserError(f"that is no question: {expected}")
    if len(kinds) > 1:
        raise UserError(f"{len(kinds)} statements: {expected}")
    first = _first_word(sql)
    if kinds[0] not in ASKS or first not in ASKING:
        found = first if kinds[0] in ASKS else kinds[0].lower()
        raise UserError(f"that is no question, but {found}: {expected}")


def _first_word(sql: str) -> str:
    """What a statement begins with; of one that is to be explained, which may run it, that one."""
    rest = sql
    while True:
        found = COMMENT.match(rest) or EXPLAIN.match(rest) or re.match(r"\(", rest)
        if not found or not found.end():
            break
        rest = rest[found.end() :]
    word = re.match(r"\w+", rest)
    return word[0].lower() if word else rest[:1]


def _offer(connection: Any, table: str, rows: pa.Table) -> None:
    """Let a table be asked by its name: as it is; of an image's areas the IoU too, in percent."""
    if table == "image_areas":
        connection.register("stored_image_areas", rows)
        select = f"select *, {IMAGE_IOU} as iou from stored_image_areas"
        connection.execute(f"create view image_areas as {select}")
    else:
        connection.register(table, rows)


def _hint(error: Exception, sql: str) -> str:
    """Two of our columns are words of SQL."""
    bare = RESERVED.search(sql)
    if not bare or "Parser Error" not in str(error):
        return ""
    return f"; {bare[1].lower()} is a word of SQL: write the column in double quotes"


def _line(error: Exception) -> str:
    """What DuckDB says, on one line, without the picture of where in the question."""
    said = str(error).strip().partition("\n\nLINE ")[0]
    return " ".join(said.split())[:400]
