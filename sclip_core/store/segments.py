"""The Zarr segments of an artifact: their layout, and appending batches to one of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sclip_core.config.deferred import deferred
from sclip_core.store.chunks import Chunks
from sclip_core.store.files import fsync, make_folder, write_whole, written_to
from sclip_core.store.ledger import Row
from sclip_core.store.table import NewRow, RowTable, crc32

zarr = deferred("zarr")  # reading chunks needs none of it
CHUNK_BYTES = 2**20  # of a chunk, at most
SMALLEST_CHUNK = 2**16  # bytes; smaller ones would make many files of a large dataset
ENDLESS = 2**48  # longer than any segment; the ledger says which rows there are


class Segments:
    """The folder ``segments/`` of an artifact: arrays of one dtype and width, each in chunks."""

    def __init__(self, folder: Path, dtype: str, width: int | None, compress: bool) -> None:
        """Name the layout; the arguments are those of ``ArrayTable``."""
        self.folder = folder
        self.dtype = np.dtype(dtype)
        self.tail = () if width is None else (width,)
        self.fill = np.nan if self.dtype.kind == "f" else 0
        self.row_bytes = self.dtype.itemsize * (width or 1)
        self.max_chunk = max(1, CHUNK_BYTES // self.row_bytes)  # the only one in version 0.1.0
        self.compressed_before = compress
        self._open: dict[str, Any] = {}
        self._chunks = Chunks()

    def path(self, segment: str) -> Path:
        """The folder of a segment."""
        return self.folder / f"{segment}.zarr"

    def chunk_path(self, segment: str, number: int) -> Path:
        """The file of a chunk."""
        return self.path(segment) / f"c/{number}{'/0' * len(self.tail)}"

    def chunks_of(self, row: Row) -> range:
        """The numbers of the chunks that hold a part of a row."""
        if row.start == row.stop:
            return range(0)
        chunk = row.chunk
        if chunk is None:
            try:
                chunk = int(self.array(row.segment).chunks[0])
            except Exception:  # as in reading
                chunk = self.max_chunk
        return range(row.start // chunk, -(-row.stop // chunk))

    def read(self, row: Row) -> NDArray[Any]:
        """The values of a row; where a chunk is missing, the fill value.

        Raises:
            Exception: of any kind, where the bytes of a chunk are not those that were written.
        """
        if row.chunk is None:
            return np.asarray(self.array(row.segment)[row.start : row.stop])
        values = np.full((row.stop - row.start, *self.tail), self.fill, self.dtype)
        for number in self.chunks_of(row):
            first = number * row.chunk
            begin, end = max(row.start, first), min(row.stop, first + row.chunk)
            shared = end - begin < row.chunk
            flat = self._chunks.read(self.chunk_path(row.segment, number), self.dtype, shared)
            if flat is not None:
                chunk = flat.reshape(row.chunk, *self.tail)
                values[begin - row.start : end - row.start] = chunk[begin - first : end - first]
        return values

    def array(self, segment: str) -> Any:
        """The array of a segment that version 0.1.0 wrote, opened once; see ``opened``."""
        if segment not in self._open:
            self._open[segment] = self.opened(segment, None)
        return self._open[segment]

    def opened(self, segment: str, chunk: int | None) -> Any:
        """The array of a segment.

        Args:
            segment: its name.
            chunk: values of the first axis in a chunk, from the ledger; None: version 0.1.0 wrote
                the segment, and its own ``zarr.json`` describes it.
        """
        path = self.path(segment)
        description = None
        if chunk is None:
            with suppress(Exception):  # zarr raises anything; the layout is known without it
                description = zarr.open_array(
                    zarr.storage.LocalStore(path), mode="r"
                ).metadata.to_dict()
        if description is None:
            description = self.description(chunk)
        description = {**description, "shape": [ENDLESS, *self.tail]}
        # Not zarr.open_array: it reads zarr.json, and ignores the config where that is there.
        config: Any = {"order": "C", "write_empty_chunks": True}
        metadata = zarr.core.metadata.ArrayV3Metadata.from_dict(description)
        place = zarr.storage.StorePath(zarr.storage.LocalStore(path))
        return zarr.Array(zarr.AsyncArray(metadata, place, config))

    def description(self, chunk: int | None) -> dict[str, Any]:
        """The ``zarr.json`` of a segment with these chunks; None: as version 0.1.0 wrote it."""
        compressed = self.compressed_before or chunk is not None
        codecs = [zarr.codecs.ZstdCodec(level=1)] if compressed else []
        array = zarr.create_array(
            {},
            shape=(0, *self.tail),
            chunks=(chunk or self.max_chunk, *self.tail),
            dtype=self.dtype,
            compressors=[*codecs, zarr.codecs.Crc32cCodec()],
            fill_value=self.fill,
        )
        return dict(array.metadata.to_dict())


class Writer:
    """Appends batches to one segment, which is chosen when the first batch is known."""

    def __init__(self, table: RowTable, segments: Segments) -> None:
        """Lock nothing yet."""
        self._table = table
        self._ledger = table.artifact.ledger
        self._segments = segments
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

        Older data of the same rows are removed.

        Args:
            rows: what was computed.
            seconds: how long that took.

        Raises:
            DiskError: the batch could not be written; none of its rows exists then.
        """
        if not rows:
            return
        with written_to(self._table.artifact.path):
            arrays = [np.ascontiguousarray(row.values, self._segments.dtype) for row in rows]
            if self._lock is None:
                self._open_segment(sum(map(len, arrays)))
            before = self._ledger.rows()
            self._commit(rows, arrays, seconds)
        self._table.free([before[row.id] for row in rows if row.id in before])

    def _commit(
        self, rows: Sequence[NewRow], arrays: Sequence[NDArray[Any]], seconds: float
    ) -> None:
        chunk, segments = self._chunk, self._segments
        start = -(-self._end // chunk) * chunk
        stops = (start + np.cumsum([len(values) for values in arrays])).tolist()
        if stops[-1] > start:  # else these rows are all empty
            whole = -(-stops[-1] // chunk) * chunk
            shape = (whole - start, *segments.tail)
            values = np.full(shape, segments.fill, segments.dtype)
            values[: stops[-1] - start] = np.concatenate(arrays)
            self._array[start:whole] = values  # whole chunks, so zarr need not read old ones
            self._sync(start // chunk, whole // chunk)
            self._describe(stops[-1])
        entries = [
            Row(id=row.id, start=stop - len(values), stop=stop, crc=crc32(values), meta=row.meta)
            for row, values, stop in zip(rows, arrays, stops, strict=True)
        ]
        self._ledger.append(self._segment, entries, seconds, chunk)
        self._end = stops[-1]

    def _open_segment(self, count: int) -> None:
        """Lock the first segment that nobody writes to and whose chunks suit a batch.

        Args:
            count: values of the batch along the first axis.
        """
        self._segment, self._chunk, lock = self._free_segment(count)
        path = self._segments.path(self._segment)
        try:
            for leftover in path.rglob("*.partial"):  # of a write that was cut off
                leftover.unlink(missing_ok=True)
            make_folder(path / "c")
            self._end = self._ledger.segment_end(self._segment)
            self._array = self._segments.opened(self._segment, self._chunk)
            self._description = self._segments.description(self._chunk)
            self._describe(self._end)
        except BaseException:
            lock.release()
            raise
        self._lock = lock

    def _free_segment(self, count: int) -> tuple[str, int, FileLock]:
        """A segment's name, the length of its chunks, and its lock, which is held."""
        ledger, segments = self._ledger, self._segments
        smallest = max(1, SMALLEST_CHUNK // segments.row_bytes)
        best = min(segments.max_chunk, max(count, smallest))
        for number in itertools.count():
            segment = f"{number:04d}"
            chunk = ledger.chunk_of(segment)
            if chunk is not None and not _suits(chunk, best, smallest):
                continue
            # Another thread than the one that acquires it may release it.
            lock = FileLock(segments.folder / f"{segment}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            # Checked again under the lock: another process may have written meanwhile.
            if segment not in ledger.foreign() and ledger.chunk_of(segment) == chunk:
                return segment, chunk or best, lock
            lock.release()
        raise AssertionError("there is always another number")

    def _describe(self, end: int) -> None:
        """Write ``zarr.json`` so that it is durable before its name is, unlike zarr's own."""
        shape = {"shape": [end, *self._segments.tail]}
        text = json.dumps({**self._description, **shape}, indent=2)
        path = self._segments.path(self._segment) / "zarr.json"
        write_whole(path, lambda target: target.write_text(text, "utf-8"))

    def _sync(self, first: int, last: int) -> None:
        """Fsync the chunks first..last-1 and the folders that name them."""
        path = self._segments.path(self._segment)
        chunks = [self._segments.chunk_path(self._segment, number) for number in range(first, last)]
        folders = {chunk.parent for chunk in chunks} | {path / "c"}
        for written in (*chunks, *folders):
            fsync(written)


def _suits(chunk: int, best: int, smallest: int) -> bool:
    """Whether existing chunks are about as long as those that a batch would best have."""
    return chunk == best or max(smallest, best / 2) <= chunk <= best * 1.25
