"""The tables of an artifact on object storage: the same rows as on disk, in batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sclip_core.store.arrays import ArrayTable
from sclip_core.store.ledger import Row
from sclip_core.store.objects.batch import DamagedBatchError, unpacked
from sclip_core.store.objects.blocks import BLOCKS
from sclip_core.store.objects.ledger import ObjectLedger
from sclip_core.store.parts import PartTable
from sclip_core.store.records import RecordTable, crc_of_records
from sclip_core.store.table import DamagedRow, NewRow, RowTable, crc32

BATCH_SECONDS = 30.0  # between two batches, if they are not full before


class InObjects(RowTable):
    """Rows in batches; a class beside it says how values become bytes."""

    batch_seconds = BATCH_SECONDS

    def worth_a_commit(self, rows: int) -> int:
        """As many rows as fill a batch: a put takes long, and each makes an object."""
        return 2**31

    @property
    def ledger(self) -> ObjectLedger:
        """The rows that are there."""
        ledger = self.artifact.ledger
        assert isinstance(ledger, ObjectLedger)
        return ledger

    @contextmanager
    def writer(self) -> Iterator[Any]:
        """The table itself: every batch is an object of its own, so nothing is locked."""
        try:
            yield self
        finally:
            self.ledger.settle()

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch, with one put.

        Args:
            rows: what was computed.
            seconds: how long that took.

        Raises:
            StorageError: the batch could not be written; none of its rows exists then.
        """
        if not rows:
            return
        packed = []
        for row in rows:
            data, crc = self.encoded(row.values)
            packed.append((Row(row.id, 0, 0, crc, row.meta), data))
        self.ledger.append(packed, seconds)

    def read(self, row: Row) -> Any:
        """The values of a row.

        Raises:
            DamagedRow: they are missing, or not those that were written.
            StorageError: the storage cannot be read.
        """
        try:
            return self._values(row)
        except DamagedRow:  # perhaps only on its way
            BLOCKS.forget(self.ledger.path_of(row.segment))
            return self._values(row)

    def _values(self, row: Row) -> Any:
        path = self.ledger.path_of(row.segment)
        try:
            size = self.ledger.size_of(row.segment)
            values, crc = self.decoded(unpacked(BLOCKS.range(path, row.start, row.stop, size)))
        except (FileNotFoundError, DamagedBatchError, ValueError):
            raise self.damaged(row) from None
        if crc != row.crc:
            raise self.damaged(row)
        return values

    def read_many(self, rows: Iterable[Row]) -> list[Any]:
        """The values of several rows.

        Raises:
            DamagedRow: names all rows that are damaged.
        """
        return self.read_each(self.read, rows)

    def damaged(self, *rows: Row) -> DamagedRow:
        """The error for rows that cannot be used."""
        path = self.ledger.path_of(rows[0].segment)
        which = rows[0].id if len(rows) == 1 else f"{len(rows)} rows, such as {rows[0].id},"
        return DamagedRow(
            f"stored data of {which} in {path} are missing or damaged; "
            f"compute them again: --force {self.artifact.identity.stage}",
            self,
            rows,
        )

    def strike(self, rows: Sequence[Row]) -> None:
        """Record that rows are damaged; their data stay, as objects never change."""
        self.ledger.strike(rows)

    def free(self, rows: Iterable[Row]) -> None:
        """Nothing: objects never change, and are removed as a whole."""

    def encoded(self, values: Any) -> tuple[bytes, int]:
        """Values as bytes, and their CRC-32."""
        raise NotImplementedError

    def decoded(self, data: bytes) -> tuple[Any, int]:
        """Values of bytes, and their CRC-32.

        Raises:
            ValueError: the bytes are of no such values.
        """
        raise NotImplementedError


class ObjectArrays(InObjects, ArrayTable):
    """Rows that are arrays (n,) or (n, width) of one dtype."""

    def encoded(self, values: NDArray[Any]) -> tuple[bytes, int]:
        """The array's bytes."""
        array = np.ascontiguousarray(values, self.segments.dtype)
        return array.tobytes(), crc32(array)

    def decoded(self, data: bytes) -> tuple[NDArray[Any], int]:
        """The array of these bytes."""
        values = np.frombuffer(data, self.segments.dtype).reshape(-1, *self.segments.tail)
        return values.copy(), zlib.crc32(data)  # as from a disk, it may be written to


class ObjectParts(InObjects, PartTable):
    """Rows of a few integers each."""

    def encoded(self, values: NDArray[np.int64]) -> tuple[bytes, int]:
        """The integers' bytes."""
        array = np.ascontiguousarray(values, np.int64)
        return array.tobytes(), crc32(array)

    def decoded(self, data: bytes) -> tuple[NDArray[np.int64], int]:
        """The integers (n, columns) of these bytes."""
        values = np.frombuffer(data, np.int64).reshape(-1, len(self._columns))
        return values.copy(), zlib.crc32(data)


class ObjectRecords(InObjects, RecordTable):
    """Rows that are lists of records."""

    def encoded(self, values: pa.Table) -> tuple[bytes, int]:
        """The records as a stream of Arrow's."""
        if not values.schema.equals(self._schema):
            raise TypeError(f"records of {values.schema}, expected {self._schema}")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_table(values)
        return sink.getvalue().to_pybytes(), crc_of_records(values)

    def decoded(self, data: bytes) -> tuple[pa.Table, int]:
        """The records of a stream."""
        try:
            found = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(str(error)) from None
        if not found.schema.equals(self._schema):
            raise ValueError("records of another kind")
        return found, crc_of_records(found)
