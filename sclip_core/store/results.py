"""Results as Parquet: one folder a table, one file a run, to be queried together.

A run's tables are written one after the other, ``runs`` last: a run that is listed is whole. No two
runs share a file, and a file is there whole or not at all: runs that end at the same moment lose
nothing, and who reads meanwhile sees one of them more or less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sclip_core.config import UserError
from sclip_core.store.files import write_whole, written_to

SCHEMA_VERSION = 2  # 2: the table confusion; in 1 there is none
VERSION_KEY = b"sclip_schema_version"  # in the metadata of every file
TABLES = ("image_areas", "confusion", "class_iou", "runs")  # in the order of writing
SINCE = {"confusion": 2}  # tables that files of an older version lack
NEEDED = {  # columns without which a file is none of ours
    "image_areas": {"run_id", "image_id", "class_id", "intersect", "prediction", "label"},
    "confusion": {"run_id", "label_id", "label_name", "prediction_id", "prediction_name", "pixels"},
    "class_iou": {"run_id", "class_id", "class_name", "label", "iou"},
    "runs": {"run_id", "created_at", "dataset", "mode", "num_images", "miou", "macc", "aacc"},
}
EMPTY = {  # a table without any file, as one that only later versions write
    "confusion": pa.schema(
        {
            "run_id": pa.string(),
            "label_id": pa.int32(),
            "label_name": pa.string(),
            "prediction_id": pa.int32(),
            "prediction_name": pa.string(),
            "pixels": pa.int64(),
        }
    )
}


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
        write = partial(pq.write_table, table, compression="zstd")
        write_whole(folder / f"{run_id}.parquet", write)


def has_run(root: Path, run_id: str) -> bool:
    """Whether a run is listed."""
    return _path(root, "runs", run_id).is_file()


def run_ids(root: Path) -> list[str]:
    """The runs that are listed, by name."""
    found = (path.stem for path in (root / "results" / "runs").glob("*.parquet"))
    return sorted(name for name in found if not name.startswith("."))


def files_of(root: Path, table: str, runs: Iterable[str]) -> list[Path]:
    """The files of a table; those of an older version may lack some."""
    paths = {run_id: _path(root, table, run_id) for run_id in runs}
    return [
        path
        for run_id, path in paths.items()
        if table not in SINCE or path.is_file() or _version(root, run_id) >= SINCE[table]
    ]


def _version(root: Path, run_id: str) -> int:
    """Of the schema by which a run was written; of a file that is not ours 0."""
    try:
        metadata = pq.read_schema(_path(root, "runs", run_id)).metadata or {}
        return int(metadata.get(VERSION_KEY, b"0"))
    except (OSError, pa.ArrowException, ValueError):
        return 0


def read_table(root: Path, table: str, runs: Sequence[str] | None = None) -> pa.Table:
    """One table of some runs, one below the other; what an older version lacks is null.

    Args:
        root: the folder of all artifacts.
        table: of ``TABLES``.
        runs: their ids; None: all that are listed.

    Raises:
        UserError: a file that is not there, damaged, not ours, or of a later version.
    """
    runs = run_ids(root) if runs is None else runs
    read = [_read(path, table) for path in files_of(root, table, runs)]
    if not read:
        return EMPTY[table].empty_table() if table in EMPTY else pa.table({})
    return pa.concat_tables(_of_one_kind(read), promote_options="permissive")


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


def _path(root: Path, table: str, run_id: str) -> Path:
    return root / "results" / table / f"{run_id}.parquet"


def _read(path: Path, name: str) -> pa.Table:
    """A file that ``write_run`` wrote, of whatever version up to ours."""
    again = "the run itself writes it again: --force results"
    advice = f"move it away; {again}"
    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {again}") from None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}): {advice}") from None
    metadata = table.schema.metadata or {}
    if VERSION_KEY not in metadata:
        raise UserError(f"{path} is Parquet, but not a table of results: {advice}")
    version = metadata[VERSION_KEY].decode()
    if not version.isdecimal() or int(version) > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this sclip reads up to {SCHEMA_VERSION}: "
            "update it, or move the file away"
        )
    missing = sorted(NEEDED[name] - set(table.column_names))
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: {advice}")
    others = set(table["run_id"].unique().to_pylist()) - {path.stem}
    if others or (name == "runs" and len(table) != 1):
        raise UserError(f"{path} does not hold the run that its name says: {advice}")
    return table.replace_schema_metadata()
