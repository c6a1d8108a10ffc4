"""Rows of small tables in Parquet: a file for each batch, which the ledger names as its segment."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sclip_core.store.artifact import Artifact
from sclip_core.store.files import make_folder, refuse_to_guess, write_whole, written_to
from sclip_core.store.ledger import Row
from sclip_core.store.ledger_rows import within
from sclip_core.store.table import DamagedRow, NewRow, RowTable, crc32

ROW_COLUMN = "row"  # first column of a PartTable's files: the id of the row


class UnreadablePart(Exception):
    """A file of rows that is missing or damaged as a whole."""


class PartFiles(RowTable):
    """Rows that are slices of Parquet files, a file for each batch."""

    @contextmanager
    def writer(self) -> Iterator[Self]:
        """The table itself: every batch is a file of its own, so nothing is locked."""
        yield self
        self.artifact.ledger.save_snapshot()

    def _store(
        self, table: pa.Table, rows: Sequence[NewRow], crcs: Iterable[int], seconds: float
    ) -> None:
        """Write a batch, its rows concatenated: data first, then the ledger line.

        Raises:
            DiskError: the batch could not be written; none of its rows exists then.
        """
        part = f"{uuid.uuid4().hex[:12]}.parquet"
        stops = np.cumsum([len(row.values) for row in rows]).tolist()
        entries = [
            Row(row.id, stop - len(row.values), stop, crc, row.meta)
            for row, stop, crc in zip(rows, stops, crcs, strict=True)
        ]
        with written_to(self.artifact.path):
            make_folder(self.artifact.path / "parts")
            before = self.artifact.ledger.rows()
            options: Any = {"compression": "zstd", "write_page_checksum": True}
            write_whole(self._path(part), partial(pq.write_table, table, **options))
            self.artifact.ledger.append(part, entries, seconds)
        self.free([before[row.id] for row in rows if row.id in before])

    def free(self, rows: Iterable[Row]) -> None:
        """Remove the files of rows that left the ledger, unless they hold other rows."""
        old = {row.segment for row in rows}
        stored = self.artifact.ledger.rows() if old else {}
        for part in old:
            if within(stored, part):
                continue
            with suppress(OSError):  # a file that stays only takes space
                self._path(part).unlink(missing_ok=True)

    def _load(self, part: str, columns: Sequence[str]) -> pa.Table:
        """Columns of a file.

        Raises:
            UnreadablePart: the file is missing, or not Parquet.
        """
        try:
            # From memory: pyarrow takes a path such as exp:1/a.parquet for a URI.
            source = pa.BufferReader(self._path(part).read_bytes())
            return pq.read_table(source, columns=list(columns), page_checksum_verification=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            refuse_to_guess(self._path(part), error)
            raise UnreadablePart(part) from None

    def damaged(self, *rows: Row) -> DamagedRow:
        """The error for rows that cannot be used."""
        return DamagedRow(
            f"{self._path(rows[0].segment)} is missing or damaged; "
            f"compute it again: --force {self.artifact.identity.stage}",
            self,
            rows,
        )

    def _all_damaged(self, row: Row) -> DamagedRow:
        """The error for all rows of a file that cannot be read, `row` first."""
        rows = within(self.artifact.ledger.rows(), row.segment)
        others = (other for other in rows if other.place != row.place)
        return self.damaged(row, *others)

    def _path(self, part: str) -> Path:
        return self.artifact.path / "parts" / part


class PartTable(PartFiles):
    """The rows of an artifact whose data are a few integers each."""

    def __init__(self, artifact: Artifact, columns: Sequence[str]) -> None:
        """Name the layout.

        Args:
            artifact: the folder.
            columns: of the values, int64.
        """
        super().__init__(artifact)
        self._columns = tuple(columns)

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch: data first, then the ledger line.

        Args:
            rows: what was computed; values (n, columns) int64.
            seconds: how long that took.

        Raises:
            DiskError: the batch could not be written; none of its rows exists then.
        """
        if not rows:
            return
        values = np.concatenate([row.values for row in rows])
        ids = np.repeat([row.id for row in rows], [len(row.values) for row in rows])
        table = pa.table(
            {ROW_COLUMN: ids, **{name: values[:, i] for i, name in enumerate(self._columns)}}
        )
        self._store(table, rows, [crc32(row.values) for row in rows], seconds)

    def read_many(self, rows: Iterable[Row]) -> list[NDArray[np.int64]]:
        """The values (n, columns) of several rows; each file is read once.

        Raises:
            DamagedRow: names all rows that are damaged or whose file is missing.
        """
        parts: dict[str, NDArray[np.int64] | None] = {}
        found, damaged = [], []
        for row in rows:
            if row.segment not in parts:
                with suppress(UnreadablePart):
                    parts[row.segment] = None
                    parts[row.segment] = self._read_part(row.segment)
            part = parts[row.segment]
            values = None if part is None else part[row.start : row.stop]
            if values is None or crc32(values) != row.crc:
                damaged.append(row)
            else:
                found.append(values)
        if damaged:
            raise self.damaged(*damaged)
        return found

    def _read_part(self, part: str) -> NDArray[np.int64]:
        table: Any = self._load(part, self._columns)
        return np.stack([table[name].to_numpy() for name in self._columns], axis=1)
