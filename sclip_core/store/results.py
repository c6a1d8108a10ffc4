"""Results as Parquet: one folder a table, one file a run, to be queried together.

A run's tables are written one after the other, ``runs`` last: a run that is listed is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sclip_core.config import UserError
from sclip_core.store.files import write_whole, written_to

SCHEMA_VERSION = 1
VERSION_KEY = b"sclip_schema_version"  # in the metadata of every file
TABLES = ("image_areas", "class_iou", "runs")  # in the order of writing


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
    return (root / "results" / "runs" / f"{run_id}.parquet").is_file()


def read_run(root: Path, run_id: str, table: str = "runs") -> list[dict[str, Any]]:
    """The rows of one table of one run.

    Raises:
        UserError: its file is not there, damaged, or not ours.
    """
    return _read(root / "results" / table / f"{run_id}.parquet")


def read_runs(root: Path) -> list[dict[str, Any]]:
    """All runs, newest first.

    Raises:
        UserError: a file that is damaged, or not ours.
    """
    paths = (root / "results" / "runs").glob("*.parquet")
    runs = [run for path in sorted(paths) for run in _read(path)]
    return sorted(runs, key=lambda run: str(run["created_at"]), reverse=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_run`` wrote."""
    advice = "move it away; the run itself writes it again: --force results"
    try:
        table = pq.ParquetFile(path).read()
        rows: list[dict[str, Any]] = table.to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}): {advice}") from None
    if VERSION_KEY not in (table.schema.metadata or {}):
        raise UserError(f"{path} is Parquet, but not a table of results: {advice}")
    return rows
