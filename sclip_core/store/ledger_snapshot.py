"""A snapshot of a ledger: its rows as an Arrow file beside it, so that few lines need be read.

It says how many bytes of the ledger it covers and their CRC-32, and it is used only where the
ledger begins with just these bytes: one that was repaired, cut, damaged or replaced is read line by
line, as is one without a snapshot. Nothing is lost with it.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from sclip_core.store.files import write_whole
from sclip_core.store.ledger_columns import INDEX, NUMBERS, Columns

NAME = "ledger.arrow"
VERSION = 1
BLOCK = 2**20  # bytes of the ledger that are checked at once
FACTS, CHECK = b"facts", b"check"  # keys of the file's metadata
TAIL = 64  # bytes by which a ledger is recognised that was read a moment ago


@dataclass(frozen=True)
class Facts:
    """What lines of a ledger say beside its rows."""

    size: int  # bytes of these lines
    crc: int  # of these bytes
    lines: int
    seconds: float
    ends: dict[str, int]  # by segment
    chunks: dict[str, int]  # by segment


def write(path: Path, facts: Facts, columns: Columns) -> None:
    """Write a snapshot.

    Raises:
        DiskError: it could not be written; an older one is unchanged.
    """
    arrays = {**columns.numbers, **columns.index}
    table = pa.RecordBatch.from_arrays(
        [columns.ids, *map(pa.array, arrays.values())], names=["id", *arrays]
    )
    content = {
        "version": VERSION, **asdict(facts), "places": columns.places, "metas": columns.metas
    }  # fmt: skip
    text = json.dumps(content).encode()
    check = str(_checksum(text, columns)).encode()
    table = table.replace_schema_metadata({FACTS: text, CHECK: check})

    def save(target: Path) -> None:
        with target.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_batch(table)

    write_whole(path, save)


def read(path: Path) -> tuple[Facts, Columns] | None:
    """What is in a snapshot; None: there is none, it is damaged, or of another version."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException):
        # From memory: pyarrow takes a path such as exp:1/a.arrow for a URI.
        file = pa.ipc.open_file(pa.BufferReader(path.read_bytes()))
        metadata = file.schema.metadata or {}
        content = json.loads(metadata[FACTS])
        if content.pop("version") != VERSION:
            return None
        batch = file.get_batch(0)
        places = [(segment, chunk) for segment, chunk in content.pop("places")]
        columns = Columns(
            batch["id"],
            {name: batch[name].to_numpy() for name in NUMBERS},
            {name: batch[name].to_numpy() for name in INDEX},
            places,
            content.pop("metas"),
        )
        if int(metadata[CHECK]) == _checksum(metadata[FACTS], columns):
            return Facts(**content), columns
    return None


def is_intact(path: Path) -> bool:
    """Whether there is no snapshot, or one that can be read."""
    return not path.exists() or read(path) is not None


def covers(facts: Facts, ledger: BinaryIO) -> bytes | None:
    """The last bytes that a snapshot covers, where the ledger begins with what it covers.

    Args:
        facts: of the snapshot.
        ledger: the open ledger.

    Returns:
        At most ``TAIL`` bytes; None: the ledger is another one, or was changed.
    """
    ledger.seek(0)
    left, crc, last = facts.size, 0, b""
    while left and (data := ledger.read(min(left, BLOCK))):
        crc, left, last = zlib.crc32(data, crc), left - len(data), (last + data)[-TAIL:]
    return last if left == 0 and crc == facts.crc else None


def _checksum(text: bytes, columns: Columns) -> int:
    """CRC-32 of all that a snapshot holds."""
    crc = zlib.crc32(text)
    _, ends, data = columns.ids.buffers()
    count = len(columns)
    if columns.ids.offset or columns.ids.null_count or columns.ids.type != pa.large_binary():
        raise ValueError("not the ids of a snapshot")
    stops = np.frombuffer(ends or bytes(8), np.int64)[: count + 1]
    crc = zlib.crc32(stops.tobytes(), crc)
    crc = zlib.crc32(memoryview(data or b"")[: stops[-1]], crc)
    for name, values in {**columns.numbers, **columns.index}.items():
        if len(values) != count or values.dtype != {**NUMBERS, **INDEX}[name]:
            raise ValueError("not the columns of a snapshot")
        crc = zlib.crc32(np.ascontiguousarray(values).data, crc)
    return crc
