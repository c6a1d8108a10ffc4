"""Tables that a run has only where it was asked for them: beside those of ``files.py``."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from sclip_core.config.places import Place
from sclip_core.results.files import (
    ON_DEMAND,
    SCHEMA_VERSION,
    VERSION_KEY,
    ResultsError,
    opened_file,
    path_of,
    root_of,
    run_ids,
)
from sclip_core.results.sealed import seal
from sclip_core.store import places


def write_table(root: Place, run_id: str, table: str, rows: Iterable[pa.Table]) -> None:
    """Write one of the tables ``ON_DEMAND`` of a run that is listed, in parts.

    Raises:
        DiskError: the file could not be written.
    """
    version = {VERSION_KEY: str(SCHEMA_VERSION)}
    data = seal(part.replace_schema_metadata(version) for part in rows)
    places.write(path_of(root, table, run_id), data)


def has_table(root: Place | str, table: str, run_id: str) -> bool:
    """Whether a run has one of the tables ``ON_DEMAND``."""
    return places.exists(path_of(root_of(root), table, run_id))


def fault_of(root: Place, table: str, run_id: str) -> ResultsError | None:
    """Why a table that is there cannot be used; None: it can."""
    try:
        opened_file(path_of(root, table, run_id), table)
    except ResultsError as error:
        return error
    return None


def tables_there(root: Place) -> list[str]:
    """Those of the tables ``ON_DEMAND`` that some listed run has."""
    ids = run_ids(root)
    return [table for table in ON_DEMAND if any(has_table(root, table, i) for i in ids)]


def shared_tables(artifacts: Place | str, ids: Iterable[str]) -> list[str]:
    """Those of the tables ``ON_DEMAND`` that all of some runs have."""
    ids = list(ids)
    return [table for table in ON_DEMAND if all(has_table(artifacts, table, i) for i in ids)]
