"""Rows of arrays in Zarr: ragged along the first axis, in segments, one writer each.

A batch is written chunk-aligned at the end of the writer's segment, fsynced, and only then named in
the ledger. Several processes fill one artifact at the same time, each its own segment; a segment
whose writer died is taken over, and what it left without a ledger line is overwritten.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from sclip_core.config import ImageError
from sclip_core.store.artifact import Artifact
from sclip_core.store.files import fsync, written_to
from sclip_core.store.ledger import Row

CHUNK_BYTES = 2**20


class DamagedRow(ImageError):
    """A row whose bytes are not those that were written."""


@dataclass(frozen=True)
class NewRow:
    """A computed row, not yet stored."""

    id: str
    values: Any  # array (n, ...), the first axis ragged; of a RecordTable, n records in Arrow
    meta: dict[str, Any] = field(default_factory=dict)


class ArrayTable:
    """The rows of an artifact whose data are arrays."""

    def __init__(self, artifact: Artifact, dtype: str, width: int | None, compress: bool) -> None:
        """Name the layout.

        Args:
            artifact: the folder.
            dtype: of the values, e.g. ``float16``.
            width: of the second axis; None: the rows are one-dimensional.
            compress: with zstd; features barely compress, label maps a hundredfold.
        """
        self.artifact = artifact
        self._dtype = np.dtype(dtype)
        self._tail = () if width is None else (width,)
        self._codecs = [ZstdCodec(level=1)] if compress else []
        self._chunk = max(1, CHUNK_BYTES // (self._dtype.itemsize * (width or 1)))
        self._open: dict[str, Any] = {}

    def read(self, row: Row) -> NDArray[Any]:
        """The values of a row.

        Raises:
            DamagedRow: a chunk is missing or its checksum is wrong.
        """
        path = self._segment_path(row.segment)
        try:
            if row.segment not in self._open:
                self._open[row.segment] = zarr.open_array(path, mode="r")
            array = self._open[row.segment]
            if array.shape[0] < row.stop:  # grown since it was opened
                array = self._open[row.segment] = zarr.open_array(path, mode="r")
            values = np.asarray(array[row.start : row.stop])
            intact = crc32(values) == row.crc
        except Exception:  # whatever a codec makes of broken bytes
            intact = False
        if not intact:
            raise DamagedRow(
                f"stored data of {row.id} in {path} are damaged; "
                f"compute them again: --force {self.artifact.identity.stage}"
            )
        return values

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """A segment of one's own, until the block ends or the process dies."""
        with written_to(self.artifact.path):
            segment, lock = self._free_segment()
        try:
            with written_to(self.artifact.path):
                writer = Writer(self, segment)
            yield writer
        finally:
            lock.release()

    def _free_segment(self) -> tuple[str, FileLock]:
        """The first segment that nobody writes to, locked."""
        folder = self.artifact.path / "segments"
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            lock = FileLock(folder / f"{number:04d}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if self._can_be_opened(f"{number:04d}"):
                return f"{number:04d}", lock
            lock.release()
        raise AssertionError("there is always another number")

    def _can_be_opened(self, segment: str) -> bool:
        """Whether a segment is new, or its description is whole."""
        path = self._segment_path(segment)
        try:
            if (path / "zarr.json").exists():
                zarr.open_array(path, mode="r")
        except Exception:  # whatever zarr makes of it; its rows are damaged, reading them says so
            return False
        return True

    def _segment_path(self, segment: str) -> Path:
        return self.artifact.path / "segments" / f"{segment}.zarr"

    def _open_for_writing(self, segment: str) -> Any:
        path = self._segment_path(segment)
        if (path / "zarr.json").exists():
            for leftover in path.rglob("*.partial"):  # of a write that was cut off
                leftover.unlink(missing_ok=True)
            return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
        return zarr.create_array(
            path,
            shape=(0, *self._tail),
            chunks=(self._chunk, *self._tail),
            dtype=self._dtype,
            compressors=[*self._codecs, Crc32cCodec()],
            fill_value=np.nan if self._dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )


class Writer:
    """Appends batches to one segment."""

    def __init__(self, table: ArrayTable, segment: str) -> None:
        """Open the segment; ``ArrayTable.writer`` holds its lock."""
        self._table = table
        self._segment = segment
        self._array = table._open_for_writing(segment)
        self._end = table.artifact.ledger.segment_end(segment)

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch: data first, then the ledger line.

        Args:
            rows: what was computed.
            seconds: how long that took.

        Raises:
            DiskError: it could not be written; no row of it exists then.
        """
        if not rows:
            return
        with written_to(self._table.artifact.path):
            self._commit(rows, seconds)

    def _commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        chunk = self._array.chunks[0]
        start = -(-self._end // chunk) * chunk
        arrays = [np.ascontiguousarray(row.values, self._table._dtype) for row in rows]
        stops = (start + np.cumsum([len(values) for values in arrays])).tolist()
        if stops[-1] > start:  # else these rows are all empty
            self._array.resize((stops[-1], *self._table._tail))
            self._array[start : stops[-1]] = np.concatenate(arrays)
            self._sync(start // chunk, -(-stops[-1] // chunk))
        entries = [
            Row(id=row.id, start=stop - len(values), stop=stop, crc=crc32(values), meta=row.meta)
            for row, values, stop in zip(rows, arrays, stops, strict=True)
        ]
        self._table.artifact.ledger.append(self._segment, entries, seconds)
        self._end = stops[-1]

    def _sync(self, first: int, last: int) -> None:
        """Fsync the chunks first..last-1, the array's size, and the folders that name them."""
        path = self._table._segment_path(self._segment)
        tail = "/0" * len(self._table._tail)
        chunks = [path / f"c/{number}{tail}" for number in range(first, last)]
        folders = {chunk.parent for chunk in chunks} | {path / "c", path}
        for written in (*chunks, path / "zarr.json", *folders):
            fsync(written)


def crc32(values: NDArray[Any]) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)
