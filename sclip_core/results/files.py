"""Results as Parquet: one folder a table, one file a run, to be queried together.

A run's tables are written one after the other, ``runs`` last: a run that is listed is whole. No two
runs share a file, and a file is there whole or not at all: runs that end at the same moment lose
nothing, and who reads meanwhile sees one of them more or less.

Every byte of a file is covered by a digest. Who asks for a run whose file is damaged gets an error;
who asks for all runs gets the others, and a ``ResultsWarning`` that names the file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from sclip_core.results.parquet import (
    EMPTY,
    SCHEMA_VERSION,
    SINCE,
    TABLES,
    VERSION_KEY,
    ResultsError,
    ResultsWarning,
    open_file,
    path_of,
    read_file,
)
from sclip_core.results.sealed import seal
from sclip_core.store.files import write_whole, written_to

__all__ = [
    "EMPTY",
    "SCHEMA_VERSION",
    "SINCE",
    "TABLES",
    "VERSION_KEY",
    "ResultsError",
    "ResultsWarning",
    "check_run",
    "files_of",
    "has_run",
    "read_run",
    "read_runs",
    "read_table",
    "run_ids",
    "write_run",
]


def write_run(root: Path, run_id: str, tables: Mapping[str, pa.Table]) -> None:
    """Write the tables of a run.

    Args:
        root: the folder of all artifacts.
        run_id: names the files.
        tables: the tables of ``TABLES``, by name.

    Raises:
        DiskError: one could not be written; the run is not listed then.
    """
    for name in TABLES:
        folder = root / "results" / name
        with written_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        table = tables[name].replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)})
        write = partial(Path.write_bytes, data=seal(table))
        write_whole(folder / f"{run_id}.parquet", write)


def has_run(root: Path, run_id: str) -> bool:
    """Whether a run is listed."""
    return path_of(root, "runs", run_id).is_file()


def run_ids(root: Path) -> list[str]:
    """The runs that are listed, by name."""
    found = (path.stem for path in (root / "results" / "runs").glob("*.parquet"))
    return sorted(name for name in found if not name.startswith("."))


def check_run(root: Path, run_id: str) -> None:
    """See that all tables of a run are there and as they were written.

    Raises:
        ResultsError: one is not.
    """
    for table in reversed(TABLES):
        read_table(root, table, [run_id])


def files_of(root: Path, table: str, runs: Iterable[str]) -> list[Path]:
    """The files of a table; those of an older version may lack some.

    Raises:
        ResultsError: one is not there, and the run's version cannot be told.
    """
    found = (_file_of(root, table, run_id) for run_id in runs)
    return [path for path in found if path is not None]


def _file_of(root: Path, table: str, run_id: str) -> Path | None:
    """The file of a table; None: the version that wrote the run had no such table."""
    path = path_of(root, table, run_id)
    if table not in SINCE or path.is_file():
        return path
    version, _ = open_file(path_of(root, "runs", run_id))
    return path if version >= SINCE[table] else None


def read_table(root: Path, table: str, runs: Sequence[str] | None = None) -> pa.Table:
    """One table of some runs, one below the other; what an older version lacks is null.

    Args:
        root: the folder of all artifacts.
        table: of ``TABLES``.
        runs: their ids; None: all that are listed. Of these a file that cannot be read is left
            out, with a ``ResultsWarning``, as long as another can.

    Raises:
        ResultsError: a file that is not there, damaged, not ours, or of a later version.
    """
    if runs is None:
        read = _readable(root, table)
    else:
        read = [read_file(path, table) for path in files_of(root, table, runs)]
    if not read:
        return EMPTY[table].empty_table() if table in EMPTY else pa.table({})
    try:
        return pa.concat_tables(_of_one_kind(read), promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(
            f"the files in {root / 'results' / table} do not go together ({reason})",
            "one of them was edited or damaged, move it away",
        ) from None


def _readable(root: Path, table: str) -> list[pa.Table]:
    """A table of each run that is listed; says what cannot be read.

    Raises:
        ResultsError: no run can be read.
    """
    ids, read, refused = run_ids(root), [], []
    for run_id in ids:
        try:
            read += [read_file(path, table) for path in files_of(root, table, [run_id])]
        except ResultsError as error:
            refused.append(error)
    if refused and len(refused) == len(ids):
        raise refused[0]
    for each in refused:
        warnings.warn(each.warning, stacklevel=4)
    return read


def read_run(root: Path, run_id: str, table: str = "runs") -> list[dict[str, Any]]:
    """The rows of one table of one run.

    Raises:
        UserError: see ``read_table``.
    """
    return _rows(read_table(root, table, [run_id]))


def read_runs(root: Path) -> list[dict[str, Any]]:
    """All runs, newest first.

    Raises:
        UserError: see ``read_table``.
    """
    rows = _rows(read_table(root, "runs"))
    return sorted(rows, key=lambda run: str(run["created_at"]), reverse=True)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows; scores that are null are NaN, as they are where a run has none."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row |= {name: math.nan for name in ("miou", "macc", "aacc") if row.get(name, 0) is None}
    return rows


def _of_one_kind(read: Sequence[pa.Table]) -> list[pa.Table]:
    """The same tables; a column without any value has the type that it has elsewhere.

    Of a setting that a run does not read, version 1 guessed the type.
    """
    known = {f.name: f.type for t in read for f in t.schema if t[f.name].null_count < len(t)}
    fields = [[f.with_type(known.get(f.name, f.type)) for f in table.schema] for table in read]
    return [
        table if table.schema.equals(pa.schema(kinds)) else _cast(table, pa.schema(kinds))
        for table, kinds in zip(read, fields, strict=True)
    ]


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With other types for the columns that hold nothing."""
    for i, field in enumerate(schema):
        if table[i].null_count == len(table):
            table = table.set_column(i, field, pa.nulls(len(table), field.type))
    return table
