"""Queries over the results in SQL, by DuckDB."""

from __future__ import annotations

import difflib
import re
from typing import Any

import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.config.optional import optional
from sclip_core.config.places import Place
from sclip_core.datasets.grouping import benchmark_groups
from sclip_core.results.audits import AUDIT, audits
from sclip_core.results.files import (
    ARTIFACTS,
    ON_DEMAND,
    TABLES,
    read_table,
    root_of,
    some_run_ids,
)
from sclip_core.results.on_demand import tables_there
from sclip_core.results.tables import with_scores
from sclip_core.results.tuning import TUNE, tunings

CLASS_GROUPS = "class_groups"  # a table of lists, which is not stored

IMAGE_IOU = '100 * "intersect" / nullif(prediction + label - "intersect", 0)'
READING_KINDS = {"SELECT", "EXPLAIN", "MULTI"}  # MULTI: any statement with a pivot in it
READING_WORDS = {
    "select", "from", "with", "pivot", "unpivot", "values", "table", "describe", "summarize", "show"
}  # fmt: skip
COMMENT = re.compile(r"\s+|--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)
EXPLAIN = re.compile(r"explain\s+(analyze\s+|\([^)]*\)\s*)?", re.IGNORECASE)
OFFLINE = dict.fromkeys(("autoinstall_known_extensions", "autoload_known_extensions"), "false")
BY_COMMAND = {AUDIT: lambda root: audits(artifacts=root), TUNE: tunings}
ABSENT = re.compile(r"Table with name (\S+) does not exist")
RESERVED = re.compile(r'(?<!")\b(intersect|union)\b(?!")', re.IGNORECASE)


def query(sql: str, artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The answer of DuckDB to a query over the tables.

    Runs whose files cannot be read are left out with a ``ResultsWarning``.

    Args:
        sql: one statement over ``runs``, ``class_iou``, ``confusion``, ``class_groups``,
            ``audit``, ``tune`` and ``image_areas``, which has a column ``iou`` in percent here; of
            runs that have them also ``boundary_areas`` and ``size_areas``. It may read other files
            too.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: there are no results, none can be read, DuckDB is not installed or rejects the
            query, or the statement would change something.
    """
    duckdb = optional("duckdb", "query")
    root = root_of(artifacts)
    some_run_ids(root)
    connection = duckdb.connect(config=OFFLINE)
    try:
        _check(connection, sql)
        for table in (*TABLES, *ON_DEMAND, CLASS_GROUPS, *BY_COMMAND):
            if re.search(rf"\b{table}\b", sql, re.IGNORECASE):
                _register(connection, table, _rows_of(root, table))
        answer: pa.Table = connection.sql(sql).to_arrow_table()
        return answer
    except duckdb.Error as error:
        raise UserError(f"DuckDB rejects the query: {_line(error)}{_hint(error, sql)}") from None


def described_tables(root: Place) -> pa.Table:
    """The tables that can be queried and their columns, a row for each table.

    Raises:
        UserError: there are no results, or none can be read.
    """
    some_run_ids(root)
    rows = []
    for table in sorted((*TABLES, *tables_there(root), CLASS_GROUPS, *BY_COMMAND)):
        columns = [f"{field.name} {field.type}" for field in _rows_of(root, table).schema]
        columns += ["iou double"] if table == "image_areas" else []
        rows.append({"table": table, "columns": ", ".join(columns)})
    return pa.Table.from_pylist(rows)


def _rows_of(root: Place, table: str) -> pa.Table:
    """The rows of a table of all runs that can be read."""
    if table in BY_COMMAND:
        return BY_COMMAND[table](root)
    if table == CLASS_GROUPS:
        return class_groups(root)
    found = read_table(root, table)
    return with_scores(root, found) if table == "runs" else found


def class_groups(root: Place) -> pa.Table:
    """The group of each class of each run on a benchmark that has groups (docs/metrics.md)."""
    columns = {"run_id": pa.string(), "class_id": pa.int32(), "class_group": pa.string()}
    classes = read_table(root, "class_iou").sort_by("class_id")
    names: dict[str, list[str]] = {}
    for row in classes.select(["run_id", "class_name"]).to_pylist():
        names.setdefault(row["run_id"], []).append(row["class_name"])
    rows: list[dict[str, object]] = []
    for run in read_table(root, "runs").select(["run_id", "dataset"]).to_pylist():
        found = benchmark_groups(run["dataset"], names.get(run["run_id"], []))
        for group, numbers in found.groups.items() if found else ():
            about = {"run_id": run["run_id"], "class_group": group}
            rows += [{**about, "class_id": number} for number in numbers]
    return pa.Table.from_pylist(rows, pa.schema(columns))


def _check(connection: Any, sql: str) -> None:
    """Accept a single statement that only reads.

    Raises:
        UserError: several statements, none, or one that would change something.
    """
    kinds = [str(each.type).rpartition(".")[2] for each in connection.extract_statements(sql)]
    expected = "expected one statement that begins with select or from, found"
    if len(kinds) != 1:
        raise UserError(f"{expected} {len(kinds) or 'none'}")
    first = _first_word(sql)
    if kinds[0] not in READING_KINDS or first not in READING_WORDS:
        raise UserError(f"{expected} {first if kinds[0] in READING_KINDS else kinds[0].lower()}")


def _first_word(sql: str) -> str:
    """The first keyword of a statement; of ``explain``, that of the statement to be explained."""
    rest = sql
    while True:
        found = COMMENT.match(rest) or EXPLAIN.match(rest) or re.match(r"\(", rest)
        if not found or not found.end():
            break
        rest = rest[found.end() :]
    word = re.match(r"\w+", rest)
    return word[0].lower() if word else rest[:1]


def _register(connection: Any, table: str, rows: pa.Table) -> None:
    """Make a table known by its name; ``image_areas`` gets its IoU in percent."""
    if table == "image_areas":
        connection.register("stored_image_areas", rows)
        select = f"select *, {IMAGE_IOU} as iou from stored_image_areas"
        connection.execute(f"create view image_areas as {select}")
    else:
        connection.register(table, rows)


def _hint(error: Exception, sql: str) -> str:
    """A hint for a table that there is not, and for the two columns that are also SQL keywords."""
    absent = ABSENT.search(str(error))
    if absent:
        known = (*TABLES, *ON_DEMAND, CLASS_GROUPS, *BY_COMMAND)
        close = difflib.get_close_matches(absent[1].lower(), known, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]}? The" if close else "the"
        return f"; {meant} tables are {', '.join(sorted(known))}"
    bare = RESERVED.search(sql)
    if not bare or "Parser Error" not in str(error):
        return ""
    return f"; {bare[1].lower()} is an SQL keyword: write the column in double quotes"


def _line(error: Exception) -> str:
    """DuckDB's message on one line, without its excerpt of the query."""
    message = str(error).strip().partition("\n\nLINE ")[0]
    if ABSENT.search(message):  # its own guesses are tables of its own
        message = message.partition("Did you mean")[0].strip().rstrip("!")
    return " ".join(message.split())[:400]
