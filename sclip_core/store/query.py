"""Questions to the results in SQL, by DuckDB."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.store.results import EMPTY, TABLES, files_of, run_ids

IMAGE_IOU = '100 * "intersect" / nullif(prediction + label - "intersect", 0)'


def query_results(root: Path, sql: str) -> pa.Table:
    """Answer a question.

    Args:
        root: the folder of all artifacts.
        sql: one statement over ``runs``, ``class_iou``, ``image_areas``, which has ``iou`` in
            percent here, and ``confusion``.

    Raises:
        UserError: no results, DuckDB is not installed, or it does not understand the question.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError("DuckDB is not installed: pip install 'sclip-benchmark[query]'") from None
    folder, runs = root / "results", run_ids(root)
    if not runs:
        raise UserError(f"no runs under {folder}: `sclip run` makes them")
    connection = duckdb.connect()
    try:
        for table in TABLES:  # of runs that are listed: those are whole
            connection.execute(f"create view {table} as {_source(root, table, runs)}")
    except duckdb.Error as error:
        raise UserError(f"the results under {folder} cannot be read: {_line(error)}") from None
    try:
        found: Any = connection.sql(sql)
        if found is None:
            raise UserError("that is no question: expected a statement that begins with select")
        answer: pa.Table = found.to_arrow_table()
        return answer
    except duckdb.Error as error:
        raise UserError(
            f"the query was not understood: {_line(error)}{_hint(error, sql)}"
        ) from None


def _source(root: Path, table: str, runs: list[str]) -> str:
    """What a view selects: the table as it is; of an image's areas the IoU too, in percent."""
    more = f", {IMAGE_IOU} as iou" if table == "image_areas" else ""
    files = ", ".join(_quoted(path) for path in files_of(root, table, runs))
    if files:
        # union_by_name: files of an older version may lack a column
        return f"select *{more} from read_parquet([{files}], union_by_name => true)"
    kinds = {pa.string(): "varchar", pa.int32(): "integer", pa.int64(): "bigint"}
    columns = (f"null::{kinds[field.type]} as {field.name}" for field in EMPTY[table])
    return f"select {', '.join(columns)} where false"


def _quoted(path: Path) -> str:
    """A path as SQL text."""
    text = str(path).replace("'", "''")
    return f"'{text}'"


def _hint(error: Exception, sql: str) -> str:
    """Two of our columns are words of SQL."""
    bare = re.search(r'(?<!")\b(intersect|union)\b(?!")', sql, re.IGNORECASE)
    if not bare or "Parser Error" not in str(error):
        return ""
    return f"; {bare[1].lower()} is a word of SQL: write the column in double quotes"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
