"""A snapshot of the memory of digests: an Arrow file beside it, so that few lines need be read.

As that of a ledger it says how many bytes of the memory it covers and their CRC-32. It is mapped
into memory: pages that are not needed any more can be let go, and are read again when they are.
"""

from __future__ import annotations

import json
import mmap
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from sclip_core.store.digest_columns import COLUMNS, INDEX, Files
from sclip_core.store.files import write_whole

SUFFIX = ".arrow"  # in place of that of the memory
VERSION = 1
BLOCK = 2**20  # bytes of the memory that are checked at once
FACTS, CHECK = b"facts", b"check"  # keys of the file's metadata


@dataclass(frozen=True)
class Facts:
    """What a snapshot covers of the memory."""

    size: int  # bytes
    crc: int  # of these bytes
    lines: int


class Snapshot:
    """A snapshot that was read and is as it was written."""

    def __init__(self, facts: Facts, files: Files, mapped: mmap.mmap) -> None:
        """Take the parts."""
        self.facts, self.files, self._mapped = facts, files, mapped

    def release(self) -> None:
        """Let go of the pages in memory."""
        with suppress(OSError, ValueError, AttributeError):  # where the system has no such call
            self._mapped.madvise(mmap.MADV_DONTNEED)


def write(path: Path, facts: Facts, files: Files) -> None:
    """Write a snapshot.

    Raises:
        DiskError: it could not be written; an older one is unchanged.
    """
    arrays = {**files.columns, **files.index}
    digests = arrays.pop("sha256")
    count = len(digests)
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(digests.itemsize), count, [None, pa.py_buffer(digests.tobytes())]
    )
    names = [*arrays, "sha256"]
    batch = pa.RecordBatch.from_arrays([*map(pa.array, arrays.values()), fixed], names=names)
    text = json.dumps({"version": VERSION, **asdict(facts)}).encode()
    check = str(_checksum(text, files)).encode()
    batch = batch.replace_schema_metadata({FACTS: text, CHECK: check})

    def save(target: Path) -> None:
        with target.open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)

    write_whole(path, save, sync=False)


def read(path: Path, memory: BinaryIO) -> Snapshot | None:
    """The snapshot of an open memory.

    Returns:
        None: there is none, it is damaged, of another version, or of what the memory does not
        begin with.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException):
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # In this thread alone: one of Arrow's must not let go of Python's memory at the end.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        opened = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)), options=options)
        metadata = opened.schema.metadata or {}
        content = json.loads(metadata[FACTS])
        if content.pop("version") != VERSION:
            return None
        batch, facts = opened.get_batch(0), Facts(**content)
        fixed = batch["sha256"]
        columns = {name: batch[name].to_numpy() for name in COLUMNS if name != "sha256"}
        columns["sha256"] = np.frombuffer(fixed.buffers()[1], COLUMNS["sha256"])[: len(fixed)]
        files = Files(columns, {name: batch[name].to_numpy() for name in INDEX})
        snapshot = Snapshot(facts, files, mapped)
        right = int(metadata[CHECK]) == _checksum(metadata[FACTS], files)
        if right and crc_of(memory, facts.size) == facts.crc:
            snapshot.release()
            return snapshot
    return None


def crc_of(memory: BinaryIO, size: int) -> int | None:
    """CRC-32 of the first bytes of an open file; None: it has fewer."""
    memory.seek(0)
    left, crc = size, 0
    while left and (data := memory.read(min(left, BLOCK))):
        crc, left = zlib.crc32(data, crc), left - len(data)
    return None if left else crc


def _checksum(text: bytes, files: Files) -> int:
    """CRC-32 of all that a snapshot holds."""
    crc, count = zlib.crc32(text), len(files)
    for name, kind in {**COLUMNS, **INDEX}.items():
        values = {**files.columns, **files.index}[name]
        if len(values) != count or values.dtype != np.dtype(kind):
            raise ValueError("not the columns of a snapshot")
        crc = zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data, crc)
    return crc
