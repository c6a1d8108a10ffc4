"""A table for people on the console, or for programs as CSV, JSON or Parquet."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from cyclopts import Parameter
from pyarrow import csv

from flows.pictures import check_target
from sclip_core.config import UserError
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


def chosen_format(format: Format, output: Path | None) -> str:
    """The format that was asked for; checks where it is written to.

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
    check_target(output, endings=tuple(ENDINGS))
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
        print(output)
    elif format == "parquet":
        sys.stdout.buffer.write(content)
    else:
        sys.stdout.write(content.decode())


def _csv(table: pa.Table) -> bytes:
    into = BytesIO()
    csv.write_csv(_flat(table), into)
    return into.getvalue()


def _json(table: pa.Table) -> bytes:
    """A list of objects, a line each."""
    rows = (json.dumps(_plain(row), ensure_ascii=False) for row in table.to_pylist())
    return ("[" + ",\n ".join(rows) + "]\n").encode()


def _parquet(table: pa.Table) -> bytes:
    into = BytesIO()
    pq.write_table(table, into, compression="zstd")
    return into.getvalue()


def _named_apart(table: pa.Table) -> pa.Table:
    """No two columns of one name: ``n, n`` are ``n, n_1``."""
    names: list[str] = []
    for name in table.column_names:
        tries = (name, *(f"{name}_{k}" for k in range(1, len(table.column_names) + 1)))
        names.append(next(each for each in tries if each not in names))
    return table.rename_columns(names)


def _flat(table: pa.Table) -> pa.Table:
    """Lists and structures as JSON text: CSV has neither."""
    for i, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if v is None else json.dumps(_plain(v)) for v in table[i].to_pylist()]
            table = table.set_column(i, field.name, pa.array(texts, pa.string()))
    return table


def _plain(value: Any) -> Any:
    """What JSON can say: NaN and infinities are null, times ISO 8601."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
