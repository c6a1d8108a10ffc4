"""A table for people on the console, or for programs as CSV, JSON or Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cyclopts import Parameter
from pyarrow import csv

from flows.cli.pictures import check_target
from flows.cli.values import as_text, is_bignum, plain, values_of
from sclip_core.config import STAGES, UserError, printable
from sclip_core.store.files import write_whole

Format = Annotated[
    Literal["table", "csv", "json", "parquet"] | None,
    Parameter(help="Of the output: table, csv, json or parquet. [by the name of --output; table]"),
]
Output = Annotated[
    Path | None,
    Parameter(name=("--output", "-o"), help="File to write: .csv, .json or .parquet."),
]
ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
STORED = ("results", "ground_truth", *STAGES)  # folders of the artifacts


def chosen_format(format: Format, output: Path | None, artifacts: Path) -> str:
    """The format that was asked for; checks where it is written to.

    Args:
        format: None: by the name of the file; a table without one.
        output: the file; None: standard output.
        artifacts: the folder of all artifacts, of which none is replaced.

    Raises:
        UserError: a file that cannot be written or of another format than its name says, or Parquet
            on a terminal.
    """
    if output is None:
        if format == "parquet" and sys.stdout.isatty():
            raise UserError("Parquet is nothing to read on a terminal: add -o FILE.parquet")
        return format or "table"
    by_name = ENDINGS.get(output.suffix.lower())
    if by_name is None or format not in (None, by_name):
        wanted = f".{format}" if format not in (None, "table") else ", ".join(ENDINGS)
        raise UserError(f"{output}: tables are written as {wanted}: name it so")
    check_target(output, taken=[artifacts / name for name in STORED], endings=tuple(ENDINGS))
    return by_name


def write(table: pa.Table, format: str, output: Path | None) -> None:
    """Write a table to a file, whole or not at all, or to standard output.

    Args:
        table: any; of columns of one name the later ones get a number.
        format: csv, json or parquet.
        output: the file; None: standard output.
    """
    content = {"csv": _csv, "json": _json, "parquet": _parquet}[format](_named_apart(table))
    if output is not None:
        write_whole(output, partial(Path.write_bytes, data=content))
        print(printable(str(output)))
    else:  # UTF-8 whatever the terminal has: another program reads it
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _csv(table: pa.Table) -> bytes:
    into = BytesIO()
    csv.write_csv(_said(table, _csv_says), into)
    return into.getvalue()


def _json(table: pa.Table) -> bytes:
    """A list of objects, a line each."""
    columns = [values_of(column) for column in table.columns]
    named = (dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True))
    rows = (json.dumps(plain(row), ensure_ascii=False) for row in named)
    return ("[" + ",\n ".join(rows) + "]\n").encode()


def _parquet(table: pa.Table) -> bytes:
    into = BytesIO()
    pq.write_table(_said(table, _parquet_says), into, compression="zstd")
    return into.getvalue()


def _named_apart(table: pa.Table) -> pa.Table:
    """No two columns of one name: ``n, n`` are ``n, n_1``."""
    names: list[str] = []
    for name in table.column_names:
        tries = (name, *(f"{name}_{k}" for k in range(1, len(table.column_names) + 1)))
        names.append(next(each for each in tries if each not in names))
    return table.rename_columns(names)


def _said(table: pa.Table, says: Callable[[pa.ChunkedArray], bool]) -> pa.Table:
    """A table with text for the columns that a format cannot say."""
    for i, name in enumerate(table.column_names):
        if not says(table[i]):
            table = table.set_column(i, name, as_text(values_of(table[i])))
    return table


def _csv_says(column: pa.ChunkedArray) -> bool:
    """Whether a column is numbers, text or times of the years from 1 to 9999."""
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        with suppress(ValueError):  # Python has no nanoseconds; CSV has
            try:
                pc.min_max(column).as_py()
            except OverflowError:
                return False
        return not pa.types.is_duration(kind)
    kinds = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return pa.types.is_null(kind) or any(is_one(kind) for is_one in (*kinds, *texts))


def _parquet_says(column: pa.ChunkedArray) -> bool:
    """Whether Parquet has a column's type."""
    if is_bignum(column.type):
        return False
    try:
        pq.write_table(pa.table({"": column.slice(0, 0)}), BytesIO())
    except pa.ArrowException:
        return False
    return True
