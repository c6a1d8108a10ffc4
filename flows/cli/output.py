"""A table for people on the console, or for programs as CSV, JSON or Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cyclopts import Parameter
from pyarrow import csv

from flows.cli.targets import check_target
from sclip_core.config import STAGES, UserError, printable
from sclip_core.config.optional import optional
from sclip_core.config.places import Place, local_folder
from sclip_core.store.files import write_whole

Format = Annotated[
    Literal["table", "csv", "json", "parquet"] | None,
    Parameter(help="Output format. [by the ending of --output, else table]"),
]
Output = Annotated[
    Path | None,
    Parameter(name=("--output", "-o"), help="File to write: .csv, .json or .parquet."),
]
ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
STORED = ("results", "ground_truth", "unpacked", *STAGES)  # folders of the artifacts


def chosen_format(format: Format, output: Path | None, artifacts: Place) -> str:
    """The format that was asked for; checks where it is written to.

    Args:
        format: None: by the ending of the file's name; without a file, a table.
        output: the file; None: standard output.
        artifacts: the folder of all artifacts, none of which may be replaced.

    Raises:
        UserError: the file cannot be written, its ending is of another format, or Parquet would
            go to a terminal.
    """
    if output is None:
        if format == "parquet" and sys.stdout.isatty():
            raise UserError("Parquet output is binary: pass -o FILE.parquet")
        return format or "table"
    by_name = ENDINGS.get(output.suffix.lower())
    if by_name is None or format not in (None, by_name):
        wanted = f".{format}" if format not in (None, "table") else ", ".join(ENDINGS)
        raise UserError(f"{output}: tables are written as {wanted}; change the ending")
    check_target(
        output, tuple(ENDINGS), [local_folder(artifacts) / name for name in STORED], "a table"
    )
    return by_name


def write(table: pa.Table, format: str, output: Path | None) -> None:
    """Write a table to a file, whole or not at all, or to standard output.

    Args:
        table: any; columns that share a name are numbered: ``n, n`` become ``n, n_1``.
        format: csv, json or parquet.
        output: the file; None: standard output.
    """
    if len(set(table.column_names)) < table.num_columns:
        table = optional("duckdb", "query").from_arrow(table).to_arrow_table()
    content = _json(table) if format == "json" else _written(table, WRITERS[format])
    if output is not None:
        write_whole(output, partial(Path.write_bytes, data=content))
        print(printable(str(output)))
    else:  # UTF-8 whatever the terminal's encoding: another program reads it
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; DuckDB's text for those that Python has no type for.

    Such are infinite times, years after 9999, nanoseconds, and integers of any length.
    """
    kind = column.type
    try:
        if not isinstance(kind, pa.OpaqueType):
            return list(column.to_pylist())
    except (ValueError, OverflowError, KeyError):
        pass
    value = "x"
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit))  # of UTC, as Arrow counts
        value = f"strftime(x, '%Y-%m-%dT%H:%M:%S.{'%n' if kind.unit == 'ns' else '%f'}')"
        value += " || if(isfinite(x), '+00:00', '')" if kind.tz else ""
    rows = optional("duckdb", "query").from_arrow(pa.table({"x": column}))
    texts = rows.project(f"to_json({value})::varchar").fetchall()
    return [None if text is None else json.loads(text) for (text,) in texts]


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities are null, times ISO 8601, bytes hex digits."""
    if isinstance(value, pa.MonthDayNano):
        return _interval(*value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Decimal):
        value = int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """``2 months 3 days 0:00:05``."""
    named = ((months, "month"), (days, "day"))
    parts = [f"{n} {unit}{'' if abs(n) == 1 else 's'}" for n, unit in named if n]
    if nanoseconds or not parts:
        hours, rest = divmod(abs(nanoseconds) // 1000, 3_600_000_000)
        clock = str(timedelta(microseconds=rest)).partition(":")[2]
        parts.append(f"{'-' if nanoseconds < 0 else ''}{hours}:{clock}")
    return " ".join(parts)


def _json(table: pa.Table) -> bytes:
    """A list of objects, a line each."""
    columns = [values_of(column) for column in table.columns]
    named = (dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True))
    rows = (json.dumps(plain(row), ensure_ascii=False) for row in named)
    return ("[" + ",\n ".join(rows) + "]\n").encode()


WRITERS: dict[str, Callable[[pa.Table, BytesIO], None]] = {
    "csv": csv.write_csv,
    "parquet": partial(pq.write_table, compression="zstd"),
}


def _written(table: pa.Table, write: Callable[[pa.Table, BytesIO], None]) -> bytes:
    """What a writer of pyarrow makes of a table; a column that it cannot write becomes text."""
    for i, name in enumerate(table.column_names):
        if not _can_write(write, table[i]):
            texts = pa.array(map(_text, values_of(table[i])), pa.string())
            table = table.set_column(i, name, texts)
    into = BytesIO()
    write(table, into)
    return into.getvalue()


def _can_write(write: Callable[[pa.Table, BytesIO], None], column: pa.ChunkedArray) -> bool:
    """Whether a writer has the type of a column and, where it is CSV, writes its values rightly."""
    is_csv = write is csv.write_csv
    if isinstance(column.type, pa.OpaqueType) or (is_csv and pa.types.is_binary(column.type)):
        return False
    try:
        write(pa.table({"": column[:0]}), BytesIO())
        if is_csv and pa.types.is_temporal(column.type):
            pc.min_max(column).as_py()
    except (pa.ArrowException, OverflowError):  # a year that Python lacks is written wrongly
        return False
    except ValueError:  # nanoseconds, which Python lacks and CSV has
        pass
    return True


def _text(value: Any) -> str | None:
    """A value in a line or several; lists and structures as JSON."""
    if value is None or isinstance(value, str):
        return value
    value = plain(value)
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
