"""Rows of arrays in Zarr: ragged along the first axis, in segments, one writer each.

A batch is written chunk-aligned at the end of the writer's segment, fsynced, and only then named in
the ledger. Several processes fill one artifact at the same time, each its own segment; a segment
whose writer died is taken over, and what it left without a ledger line is overwritten.

The ledger and the table's layout say all that reading needs. ``zarr.json`` is written for other
tools that read Zarr; where it is damaged, nothing is lost.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore, StorePath

from sclip_core.store.artifact import Artifact
from sclip_core.store.files import fsync, make_folder, refuse_to_guess, write_whole, written_to
from sclip_core.store.ledger import Row
from sclip_core.store.table import DamagedRow, NewRow, RowGone, RowTable, crc32

__all__ = ["ArrayTable", "DamagedRow", "NewRow", "RowGone", "Writer", "crc32"]

CHUNK_BYTES = 2**20  # at most
SMALLEST_CHUNK = 2**16  # bytes; smaller ones would make many files of a large dataset
ENDLESS = 2**48  # longer than any segment: which rows there are, the ledger says


class ArrayTable(RowTable):
    """The rows of an artifact whose data are arrays."""

    def __init__(self, artifact: Artifact, dtype: str, width: int | None, compress: bool) -> None:
        """Name the layout.

        Args:
            artifact: the folder.
            dtype: of the values, e.g. ``float16``.
            width: of the second axis; None: the rows are one-dimensional.
            compress: whether version 0.1.0 compressed them; since then all are, as the end of a
                chunk that a batch does not fill then takes no room.
        """
        super().__init__(artifact)
        self._dtype = np.dtype(dtype)
        self._tail = () if width is None else (width,)
        self._compressed_before = compress
        self._row_bytes = self._dtype.itemsize * (width or 1)
        self._chunk = max(1, CHUNK_BYTES // self._row_bytes)  # at most; always in version 0.1.0
        self._fill = np.nan if self._dtype.kind == "f" else 0
        self._open: dict[tuple[str, int | None], Any] = {}

    @classmethod
    def of_unknown_layout(cls, artifact: Artifact) -> ArrayTable | None:
        """The table of an artifact by what ``zarr.json`` says of it; None: no segment has one."""
        for path in sorted(artifact.path.glob("segments/*.zarr")):
            with suppress(Exception):  # whatever zarr makes of it
                array: Any = zarr.open_array(LocalStore(path), mode="r")
                width = array.shape[1] if array.ndim == 2 else None
                # Version 0.1.0 compressed label maps and nothing else.
                return cls(artifact, array.dtype.name, width, array.dtype.kind != "f")
        return None

    def files_of(self, row: Row) -> list[Path]:
        """The chunks that a row has a part of."""
        return [self._chunk_path(row.segment, number) for number in self._chunks_of(row)]

    def read(self, row: Row) -> NDArray[Any]:
        """The values of a row.

        Raises:
            DamagedRow: a chunk is missing or its checksum is wrong.
        """
        try:
            values = np.asarray(self._array(row)[row.start : row.stop])
            intact = len(values) == row.stop - row.start and crc32(values) == row.crc
        except Exception as error:  # whatever a codec makes of broken bytes
            refuse_to_guess(self._segment_path(row.segment), error)
            intact = False
        if not intact:
            raise self.damaged(row)
        return values

    def read_many(self, rows: Iterable[Row]) -> list[NDArray[Any]]:
        """The values of several rows.

        Raises:
            DamagedRow: of all that are damaged.
        """
        found, damaged = [], []
        for row in rows:
            try:
                found.append(self.read(row))
            except DamagedRow:
                damaged.append(row)
        if damaged:
            raise self.damaged(*damaged)
        return found

    def read_map(self, row: Row) -> NDArray[Any]:
        """The values of a row as the map (H, W) of its image.

        Raises:
            DamagedRow: the values are damaged, or not as many as the image has pixels.
        """
        size, values = self.size_of(row), self.read(row)
        if size[0] * size[1] != values.size:
            raise self.damaged(row)
        return values.reshape(size)

    def damaged(self, *rows: Row) -> DamagedRow:
        """The error for rows that cannot be used."""
        path = self._segment_path(rows[0].segment)
        which = rows[0].id if len(rows) == 1 else f"{len(rows)} rows, such as {rows[0].id},"
        return DamagedRow(
            f"stored data of {which} in {path} are damaged; "
            f"compute them again: --force {self.artifact.identity.stage}",
            self,
            rows,
        )

    def free(self, rows: Iterable[Row]) -> None:
        """Remove the chunks of rows that are in the ledger no more, where no other row has a part.

        Whoever still reads such a row finds it missing, and its new place in the ledger.
        """
        old: dict[str, set[int]] = {}
        for row in rows:
            old.setdefault(row.segment, set()).update(self._chunks_of(row))
        if not any(old.values()):
            return
        for row in self.artifact.ledger.rows().values():
            if row.segment in old:
                old[row.segment] -= set(self._chunks_of(row))
        for segment, numbers in old.items():
            for number in numbers:
                with suppress(OSError):  # it only takes room
                    self._chunk_path(segment, number).unlink(missing_ok=True)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Segments of one's own, until the block ends or the process dies."""
        with written_to(self.artifact.path):
            make_folder(self.artifact.path / "segments")
        writer = Writer(self)
        try:
            yield writer
        finally:
            writer.close()

    def _array(self, row: Row) -> Any:
        """The array of a row's segment, opened once."""
        key = (row.segment, row.chunk)
        if key not in self._open:
            self._open[key] = self._opened(row.segment, row.chunk)
        return self._open[key]

    def _opened(self, segment: str, chunk: int | None) -> Any:
        """The array of a segment, described by the ledger; one of version 0.1.0 by itself."""
        path = self._segment_path(segment)
        description = None
        if chunk is None:
            with suppress(Exception):  # whatever zarr makes of it; how it was written is known
                description = zarr.open_array(LocalStore(path), mode="r").metadata.to_dict()
        if description is None:
            description = self._description(chunk)
        description = {**description, "shape": [ENDLESS, *self._tail]}
        # Not zarr.open_array: it reads zarr.json, and ignores the config where that is there.
        config: Any = {"order": "C", "write_empty_chunks": True}
        metadata = ArrayV3Metadata.from_dict(description)
        return zarr.Array(zarr.AsyncArray(metadata, StorePath(LocalStore(path)), config))

    def _description(self, chunk: int | None) -> dict[str, Any]:
        """What ``zarr.json`` says of a segment with these chunks; None: as version 0.1.0 wrote."""
        compressed = self._compressed_before or chunk is not None
        codecs = [ZstdCodec(level=1)] if compressed else []
        array = zarr.create_array(
            {},
            shape=(0, *self._tail),
            chunks=(chunk or self._chunk, *self._tail),
            dtype=self._dtype,
            compressors=[*codecs, Crc32cCodec()],
            fill_value=self._fill,
        )
        return dict(array.metadata.to_dict())

    def _chunks_of(self, row: Row) -> range:
        """The numbers of the chunks that a row has a part of."""
        if row.start == row.stop:
            return range(0)
        chunk = row.chunk
        if chunk is None:
            try:
                chunk = int(self._array(row).chunks[0])
            except Exception:  # as in reading
                chunk = self._chunk
        return range(row.start // chunk, -(-row.stop // chunk))

    def _segment_path(self, segment: str) -> Path:
        return self.artifact.path / "segments" / f"{segment}.zarr"

    def _chunk_path(self, segment: str, number: int) -> Path:
        return self._segment_path(segment) / f"c/{number}{'/0' * len(self._tail)}"


class Writer:
    """Appends batches to a segment, which is chosen when the first batch is known."""

    def __init__(self, table: ArrayTable) -> None:
        """Nothing is locked yet."""
        self._table = table
        self._lock: FileLock | None = None
        self._segment = ""
        self._chunk = 0
        self._end = 0
        self._array: Any = None
        self._description: dict[str, Any] = {}

    def close(self) -> None:
        """Let others write to the segment."""
        if self._lock:
            self._lock.release()

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch: data first, then the ledger line.

        The data of the same rows from before, if there are any, are removed.

        Args:
            rows: what was computed.
            seconds: how long that took.

        Raises:
            DiskError: it could not be written; no row of it exists then.
        """
        if not rows:
            return
        table, ledger = self._table, self._table.artifact.ledger
        with written_to(table.artifact.path):
            arrays = [np.ascontiguousarray(row.values, table._dtype) for row in rows]
            if self._lock is None:
                self._open_segment(sum(map(len, arrays)))
            before = ledger.rows()
            self._commit(rows, arrays, seconds)
        table.free([before[row.id] for row in rows if row.id in before])

    def _commit(
        self, rows: Sequence[NewRow], arrays: Sequence[NDArray[Any]], seconds: float
    ) -> None:
        chunk, table = self._chunk, self._table
        start = -(-self._end // chunk) * chunk
        stops = (start + np.cumsum([len(values) for values in arrays])).tolist()
        if stops[-1] > start:  # else these rows are all empty
            whole = -(-stops[-1] // chunk) * chunk
            shape = (whole - start, *table._tail)
            values = np.full(shape, table._fill, table._dtype)
            values[: stops[-1] - start] = np.concatenate(arrays)
            self._array[start:whole] = values  # whole chunks: what is there is not read
            self._sync(start // chunk, whole // chunk)
            self._describe(stops[-1])
        entries = [
            Row(id=row.id, start=stop - len(values), stop=stop, crc=crc32(values), meta=row.meta)
            for row, values, stop in zip(rows, arrays, stops, strict=True)
        ]
        table.artifact.ledger.append(self._segment, entries, seconds, chunk)
        self._end = stops[-1]

    def _open_segment(self, count: int) -> None:
        """Take the first segment that nobody writes to and whose chunks suit a batch.

        Args:
            count: values of the batch along the first axis.
        """
        self._segment, self._chunk, lock = self._free_segment(count)
        table = self._table
        path = table._segment_path(self._segment)
        try:
            for leftover in path.rglob("*.partial"):  # of a write that was cut off
                leftover.unlink(missing_ok=True)
            make_folder(path / "c")
            self._end = table.artifact.ledger.segment_end(self._segment)
            self._array = table._opened(self._segment, self._chunk)
            self._description = table._description(self._chunk)
            self._describe(self._end)
        except BaseException:
            lock.release()
            raise
        self._lock = lock

    def _free_segment(self, count: int) -> tuple[str, int, FileLock]:
        """A segment's name, the length of its chunks, and its lock, which is held."""
        table = self._table
        ledger, folder = table.artifact.ledger, table.artifact.path / "segments"
        smallest = max(1, SMALLEST_CHUNK // table._row_bytes)
        best = min(table._chunk, max(count, smallest))
        for number in itertools.count():
            segment = f"{number:04d}"
            chunk = ledger.chunk_of(segment)
            if chunk is not None and not _suits(chunk, best, smallest):
                continue
            # Released by another thread than the one that acquires it.
            lock = FileLock(folder / f"{segment}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            # Looked at again: somebody may have been faster, and be done.
            if segment not in ledger.foreign() and ledger.chunk_of(segment) == chunk:
                return segment, chunk or best, lock
            lock.release()
        raise AssertionError("there is always another number")

    def _describe(self, end: int) -> None:
        """Write ``zarr.json``: durable before its name is, unlike zarr's own."""
        shape = {"shape": [end, *self._table._tail]}
        text = json.dumps({**self._description, **shape}, indent=2)
        path = self._table._segment_path(self._segment) / "zarr.json"
        write_whole(path, lambda target: target.write_text(text, "utf-8"))

    def _sync(self, first: int, last: int) -> None:
        """Fsync the chunks first..last-1 and the folders that name them."""
        path = self._table._segment_path(self._segment)
        chunks = [self._table._chunk_path(self._segment, number) for number in range(first, last)]
        folders = {chunk.parent for chunk in chunks} | {path / "c"}
        for written in (*chunks, *folders):
            fsync(written)


def _suits(chunk: int, best: int, smallest: int) -> bool:
    """Whether chunks are about as large as a batch wants them."""
    return chunk == best or max(smallest, best / 2) <= chunk <= best * 1.25
