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
    for table in TABLES:
        files = str(folder / table / "*.parquet").replace("'", "''")
        # union_by_name: files of an older version may lack a column
        source = f"read_parquet('{files}', union_by_name => true)"
        connection.execute(f"create view {table} as select * from {source}")
    try:
        found: Any = connection.sql(sql)
        if found is None:
            raise UserError("that is no question: expected a statement that begins with select")
        answer: pa.Table = found.to_arrow_table()
        return answer
    except duckdb.Error as error:
        lines = str(error).strip().splitlines()
        raise UserError(f"the query was not understood: {lines[0]}") from None
