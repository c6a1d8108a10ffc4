"""Tables with a file for each command that made one, not for each run: audits and tunings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import pyarrow as pa

from sclip_core.config.places import Place
from sclip_core.results.files import (
    ADVICE,
    SCHEMA_VERSION,
    VERSION_KEY,
    ResultsError,
    open_file,
    path_of,
)
from sclip_core.results.sealed import seal
from sclip_core.store import places


def write_table(root: Place, name: str, file_id: str, table: pa.Table) -> Place:
    """Write a file of a table, in place of an older one of the same id.

    Args:
        root: the folder of all artifacts.
        name: of the table.
        file_id: of what the command made.
        table: its rows.

    Returns:
        The file.

    Raises:
        DiskError: it could not be written.
    """
    path = path_of(root, name, file_id)
    versioned = table.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)})
    places.write(path, seal(versioned))
    return path


def files_of(root: Place, name: str) -> list[Place]:
    """The files of a table, by name."""
    found = sorted(places.children(root / "results" / name, "*.parquet"), key=str)
    return [path for path in found if not path.name.startswith(".")]


def read_files(files: Iterable[Place], schema: pa.Schema, needed: Sequence[str]) -> pa.Table:
    """The rows of some files; those that cannot be read are left out (a ``ResultsWarning`` each).

    Args:
        files: of one table.
        schema: of the answer where there are none.
        needed: columns without which a file is none of the table.
    """
    read = []
    for path in files:
        try:
            read.append(read_one(path, needed))
        except ResultsError as error:
            warnings.warn(error.warning, stacklevel=3)
    return pa.concat_tables(read, promote_options="permissive") if read else schema.empty_table()


def read_one(path: Place, needed: Sequence[str]) -> pa.Table:
    """The rows of a file; arguments as of ``read_files``.

    Raises:
        ResultsError: it cannot be read, or lacks a column.
    """
    _, table = open_file(path)
    missing = set(needed) - set(table.column_names)
    if missing:
        raise ResultsError(f"{path} has no column {', '.join(sorted(missing))}", ADVICE)
    return table
