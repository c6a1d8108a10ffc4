"""Questions to the results in SQL, by DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.store.results import TABLES


def query_results(root: Path, sql: str) -> pa.Table:
    """Answer a question.

    Args:
        root: the folder of all artifacts.
        sql: one statement over ``runs``, ``class_iou`` and ``image_areas``.

    Raises:
        UserError: no results, DuckDB is not installed, or it does not understand the question.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError("DuckDB is not installed: pip install 'sclip-benchmark[query]'") from None
    folder = root / "results"
    if not any((folder / "runs").glob("*.parquet")):
        raise UserError(f"no runs under {folder}: `sclip run` makes them")
    connection = duckdb.connect()
    try:
        for table in TABLES:
            files = ", ".join(_quoted(path) for path in sorted((folder / table).glob("*.parquet")))
            # union_by_name: files of an older version may lack a column
            source = f"read_parquet([{files}], union_by_name => true)"
            connection.execute(f"create view {table} as select * from {source}")
    except duckdb.Error as error:
        raise UserError(f"the results under {folder} cannot be read: {_line(error)}") from None
    try:
        found: Any = connection.sql(sql)
        if found is None:
            raise UserError("that is no question: expected a statement that begins with select")
        answer: pa.Table = found.to_arrow_table()
        return answer
    except duckdb.Error as error:
        raise UserError(f"the query was not understood: {_line(error)}") from None


def _quoted(path: Path) -> str:
    """A path as SQL text."""
    text = str(path).replace("'", "''")
    return f"'{text}'"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
