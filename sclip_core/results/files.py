"""Results as Parquet files: one folder for each table, one file in it for each run.

The tables of a run are written one after the other and ``runs`` last, so a run that is listed is
complete. No two runs share a file and files are replaced as a whole: runs that end at the same
moment lose nothing, and whoever reads meanwhile sees complete runs only.

Every byte of a file is covered by a digest (``sealed.py``). Reading one run whose file is damaged
raises an error; reading all runs leaves that one out with a ``ResultsWarning``.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sclip_core.config import UserError, printable
from sclip_core.config.places import ObjectPath, Place, place_of
from sclip_core.results.derived import with_class_scores
from sclip_core.results.schemas import EMPTY, NEEDED
from sclip_core.results.sealed import DamagedError, opened, readable, seal, unseal
from sclip_core.store import places

SCHEMA_VERSION = 2  # version 1 had no table confusion
VERSION_KEY = b"sclip_schema_version"  # in the metadata of every file
TABLES = ("image_areas", "confusion", "class_iou", "runs")  # in the order of writing
ON_DEMAND = ("boundary_areas", "size_areas")  # of runs that were asked for them
SINCE = {"confusion": 2}  # the schema version that introduced a table
TEXTS = {"run_id", "dataset", "versions"}  # columns of runs that must hold text
ARTIFACTS = Path("artifacts")  # where the command and the library look for results by default
AGAIN = "the same `sclip run` writes it again"
ADVICE = f"move it away; {AGAIN}"


class ResultsWarning(UserWarning):
    """Results were left out; one line says which, why and what to do."""


class ResultsError(UserError):
    """A file of results that cannot be read."""

    def __init__(self, what: str, advice: str = "", later: bool = False) -> None:
        """Take what was found, what to do, and whether a later version wrote the file."""
        super().__init__(f"{what}: {advice}" if advice else what)
        self.what, self.advice, self.later = printable(what), printable(advice), later

    @property
    def warning(self) -> ResultsWarning:
        """The warning where the other runs are read without this file."""
        return ResultsWarning(f"{self.what}; left out: {self.advice}")


def root_of(artifacts: Place | str) -> Place:
    """Where all artifacts are, of what a caller gave: a folder, or a URL of object storage.

    Raises:
        UserError: a URL that cannot be used.
    """
    try:
        return place_of(artifacts)
    except ValueError as error:
        raise UserError(f"artifacts: {error}") from None


def path_of(root: Place, table: str, run_id: str) -> Place:
    """The file of a run in a table."""
    return root / "results" / table / f"{run_id}.parquet"


def write_run(
    root: Place, run_id: str, tables: Mapping[str, pa.Table | Iterable[pa.Table]]
) -> None:
    """Write the tables of a run.

    Args:
        root: the folder of all artifacts.
        run_id: names the files.
        tables: one for each name in ``TABLES``, as a whole or in parts.

    Raises:
        DiskError: a file could not be written; the run is not listed then.
    """
    for name in TABLES:
        table = tables[name]
        parts = [table] if isinstance(table, pa.Table) else table
        version = {VERSION_KEY: str(SCHEMA_VERSION)}
        data = seal(part.replace_schema_metadata(version) for part in parts)
        places.write(path_of(root, name, run_id), data)


def has_run(root: Place, run_id: str) -> bool:
    """Whether a run is listed."""
    return places.exists(path_of(root, "runs", run_id))


def run_ids(root: Place) -> list[str]:
    """The ids of all listed runs, sorted."""
    found = (path.stem for path in places.children(root / "results" / "runs", "*.parquet"))
    return sorted(name for name in found if not name.startswith("."))


def some_run_ids(root: Place) -> list[str]:
    """The same, of a store that has results.

    Raises:
        UserError: no run is listed.
    """
    if found := run_ids(root):
        return found
    raise UserError(f"no runs under {root / 'results'}: `sclip run` makes them")


def check_run(root: Place, run_id: str) -> None:
    """Check that all tables of a run are there and undamaged.

    Raises:
        ResultsError: one is not.
    """
    for table in reversed(TABLES):
        for path in files_of(root, table, [run_id]):
            if table == "runs":
                read_file(path, table)
            else:
                opened_file(path, table)


def files_of(root: Place, table: str, runs: Iterable[str]) -> list[Place]:
    """The files of a table for some runs; a run of an older version may have none.

    Raises:
        ResultsError: a file is missing and so is the one that says the run's version.
    """
    found = (_file_of(root, table, run_id) for run_id in runs)
    return [path for path in found if path is not None]


def _file_of(root: Place, table: str, run_id: str) -> Place | None:
    """The file of a table; None if the run, or the version that wrote it, has no such table."""
    path = path_of(root, table, run_id)
    if table not in (*SINCE, *ON_DEMAND) or places.exists(path):
        return path
    if table in ON_DEMAND:
        return None
    version, _ = open_file(path_of(root, "runs", run_id))
    return path if version >= SINCE[table] else None


def read_table(root: Place, table: str, runs: Sequence[str] | None = None) -> pa.Table:
    """One table of several runs, concatenated; columns that an older version lacks are null.

    Args:
        root: the folder of all artifacts.
        table: a name in ``TABLES``.
        runs: their ids; None: all listed runs, without those whose file cannot be read (a
            ``ResultsWarning`` each).

    Raises:
        ResultsError: a file of ``runs``, or every file, is missing, damaged, no table of results,
            or of a later version.
    """
    if runs is None:
        read = _readable(root, table)
    else:
        read = [read_file(path, table) for path in files_of(root, table, runs)]
    if not read:
        return EMPTY[table].empty_table() if table in EMPTY else pa.table({})
    try:
        found = pa.concat_tables(_of_one_kind(read), promote_options="permissive")
        return with_class_scores(found) if table == "class_iou" else found
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(
            f"the files in {root / 'results' / table} have columns that do not fit ({reason})",
            "one of them was edited or damaged: move it away",
        ) from None


def _readable(root: Place, table: str) -> list[pa.Table]:
    """A table of each listed run; warns of those that cannot be read.

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


def read_run(root: Place, run_id: str, table: str = "runs") -> list[dict[str, Any]]:
    """The rows of one table of one run.

    Raises:
        ResultsError: the file cannot be read.
    """
    return _rows(read_table(root, table, [run_id]))


def read_runs(root: Place) -> list[dict[str, Any]]:
    """The rows of the table ``runs``, newest first.

    Raises:
        ResultsError: no run can be read.
    """
    rows = _rows(read_table(root, "runs"))
    return sorted(rows, key=lambda run: str(run["created_at"]), reverse=True)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, with NaN for scores that are null."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row |= {name: math.nan for name in ("miou", "macc", "aacc") if row.get(name, 0) is None}
    return rows


def _of_one_kind(read: Sequence[pa.Table]) -> list[pa.Table]:
    """The same tables; a column without any value gets the type that it has elsewhere.

    Version 1 guessed the type of settings that a run does not read.
    """
    known = {f.name: f.type for t in read for f in t.schema if t[f.name].null_count < len(t)}
    return [_with_types(table, known) for table in read]


def _with_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table, with the given types for its columns without any value."""
    for i, field in enumerate(table.schema):
        kind = types.get(field.name, field.type)
        if kind != field.type and table[i].null_count == len(table):
            table = table.set_column(i, field.with_type(kind), pa.nulls(len(table), kind))
    return table


def read_file(path: Place, name: str) -> pa.Table:
    """The table in one file, written by this version or an older one.

    Args:
        path: the file.
        name: the table's name in ``TABLES``.

    Raises:
        ResultsError: it is missing, damaged, no table of results, or of a later version.
    """
    _, table = open_file(path)
    _refuse_lacking(path, name, table.column_names)
    if name == "runs":
        _check_values(path, table)
    others = set(table["run_id"].unique().to_pylist()) - {path.stem}
    if others or (name == "runs" and len(table) != 1):
        raise ResultsError(f"{path} does not hold the run that its name says", ADVICE)
    return table


def _check_values(path: Place, table: pa.Table) -> None:
    """Check that the values of a run can be used: version 0.1.0 wrote no digest.

    Raises:
        ResultsError: impossible dates, versions that are not JSON, or names that are not text.
    """
    try:
        for row in table.to_pylist():
            texts = [value for name, value in row.items() if name in TEXTS or name[:4] == "key_"]
            if not all(value is None or isinstance(value, str) for value in texts):
                raise ValueError("numbers where names belong")
            if not isinstance(json.loads(row.get("versions") or "{}"), dict):
                raise ValueError("its versions are not a JSON object")
    except RecursionError:
        raise ResultsError(f"{path} cannot be read (nested too deeply)", ADVICE) from None
    except (ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        raise ResultsError(f"{path} cannot be read ({error})", ADVICE) from None


def _unsealed(path: Place) -> pa.Table:
    """The table in a file; an object may be damaged on its way, and is then read once more."""
    try:
        return unseal(places.read(path))
    except DamagedError:
        if not isinstance(path, ObjectPath):
            raise
    return unseal(places.read(path))


def open_file(path: Place) -> tuple[int, pa.Table]:
    """The version of a file's schema and its table, without metadata.

    Raises:
        ResultsError: it is missing, damaged, no table of results, or of a later version.
    """
    # Read here, since pyarrow takes a path such as exp:1/results for a URL.
    with refuse_unreadable(path):
        table = _unsealed(path)
    return _version(path, table.schema), table.replace_schema_metadata()


def opened_file(path: Place, name: str, coded: Sequence[str] = ()) -> pq.ParquetFile:
    """A file that is undamaged, to be read in parts.

    A digest covers every byte; a file of version 0.1.0, which has none, is read here as a whole.

    Args:
        path: the file.
        name: the table's name in ``TABLES``.
        coded: columns of text that are read as dictionaries.

    Raises:
        ResultsError: it is missing, damaged, no table of results, or of a later version.
    """
    with refuse_unreadable(path):
        file, sealed = opened(places.read(path), coded)
    if not sealed:
        read_file(path, name)
        return file
    _version(path, file.schema_arrow)
    _refuse_lacking(path, name, file.schema_arrow.names)
    with refuse_unreadable(path):
        first = next(file.iter_batches(1, columns=["run_id"]), None)
    if first is not None and first["run_id"].to_pylist() not in ([], [path.stem]):
        raise ResultsError(f"{path} does not hold the run that its name says", ADVICE)
    return file


@contextmanager
def refuse_unreadable(path: Place) -> Iterator[None]:
    """Around reading a file.

    Raises:
        ResultsError: it is missing or damaged.
    """
    try:
        with readable():
            yield
    except DamagedError as error:
        found = error.__context__
        if isinstance(found, FileNotFoundError):
            raise ResultsError(f"{path} is missing", AGAIN) from None
        reason = getattr(found, "strerror", None) or str(error)
        raise ResultsError(f"{path} cannot be read ({reason})", ADVICE) from None


def _version(path: Place, schema: pa.Schema) -> int:
    """The version of a file's schema.

    Raises:
        ResultsError: it is no table of results, or of a later version.
    """
    metadata = schema.metadata or {}
    if VERSION_KEY not in metadata:
        raise ResultsError(f"{path} is Parquet, but not a table of results", ADVICE)
    version = metadata[VERSION_KEY].decode(errors="backslashreplace")
    if not re.fullmatch("[0-9]{1,9}", version) or int(version) > SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version}, this sclip reads up to {SCHEMA_VERSION}",
            "update it, or move the file away",
            later=True,
        )
    return int(version)


def _refuse_lacking(path: Place, name: str, columns: Iterable[str]) -> None:
    """Raise if a table lacks a column that is needed."""
    missing = sorted(NEEDED[name] - set(columns))
    if missing:
        raise ResultsError(f"{path} has no column {', '.join(missing)}", ADVICE)
