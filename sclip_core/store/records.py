"""Rows of any number of records in Parquet: a file for each batch, readable by other tools."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from sclip_core.store.artifact import Artifact
from sclip_core.store.ledger import Row
from sclip_core.store.parts import PartFiles, UnreadablePart
from sclip_core.store.table import NewRow

REMEMBERED_PARTS = 4  # few: rows are read in about the order in which they were written


class RecordTable(PartFiles):
    """The rows of an artifact that are lists of records."""

    def __init__(self, artifact: Artifact, schema: pa.Schema, id_column: str) -> None:
        """Name the layout.

        Args:
            artifact: the folder.
            schema: of a record; no value may be null.
            id_column: the files' first column, with the id of the row that a record belongs to.
        """
        super().__init__(artifact)
        self._schema = schema
        self._id_column = id_column
        self._part = lru_cache(maxsize=REMEMBERED_PARTS)(self._read_part)

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch: data first, then the ledger line.

        Args:
            rows: what was computed; values are Arrow tables of the schema.
            seconds: how long that took.

        Raises:
            DiskError: the batch could not be written; none of its rows exists then.
        """
        if not rows:
            return
        records = pa.concat_tables([row.values for row in rows])
        if not records.schema.equals(self._schema):
            raise TypeError(f"records of {records.schema}, expected {self._schema}")
        ids = pa.array([row.id for row in rows for _ in range(len(row.values))], pa.string())
        table = records.add_column(0, self._id_column, ids)
        self._store(table, rows, [crc_of_records(row.values) for row in rows], seconds)

    def read(self, row: Row) -> pa.Table:
        """The records of a row.

        Raises:
            DamagedRow: the file is missing, or the records are not those that were written.
        """
        try:
            part = self._part(row.segment)
        except UnreadablePart:
            raise self._all_damaged(row) from None
        records = part.slice(row.start, row.stop - row.start)
        if crc_of_records(records) != row.crc:
            raise self.damaged(row)
        return records

    def _read_part(self, part: str) -> pa.Table:
        found = self._load(part, self._schema.names)
        if not found.schema.equals(self._schema) or any(c.null_count for c in found.columns):
            raise UnreadablePart(part)
        return found


def crc_of_records(records: pa.Table) -> int:
    """CRC-32 of the records' values, which does not depend on their memory layout."""
    crc = 0
    for column in records.columns:
        crc = zlib.crc32(_bytes(column), crc)
    return crc


def _bytes(column: Any) -> bytes:
    """The values of a column."""
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        values = column.cast(pa.binary()).to_pylist()
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    found: bytes = column.to_numpy().tobytes()
    return found
