"""A batch of rows as one object: the rows, then an index of them, then the index's length.

One put makes the rows and what says that they are there, so nothing can be half there. The index
is read by the object's end, without the rows.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numcodecs.zstd import compress, decompress

from sclip_core.store.ledger import Place, Row

MAGIC = b"sclip-b1"
END = struct.Struct("<QI8s")  # length and CRC-32 of the packed index, and what kind of object it is
TAIL = 2**16  # bytes of the end that are read at first: mostly the whole index
LEVEL = 1  # of zstd


class DamagedBatchError(Exception):
    """An object that is no batch, or not as it was written."""


@dataclass
class Index:
    """What a batch says of itself."""

    rows: list[Row] = field(default_factory=list)  # without their segment, the object's name
    struck: list[Place] = field(default_factory=list)  # rows of other batches found to be damaged
    seconds: float = 0.0


def packed(rows: Sequence[tuple[Row, bytes]], seconds: float) -> tuple[bytes, list[Row]]:
    """A batch as bytes.

    Args:
        rows: what is known of each, but for its place, and its values as bytes.
        seconds: how long they took.

    Returns:
        The object, and the rows with their range of bytes in it.
    """
    parts, placed, end = [], [], 0
    for row, values in rows:
        part: bytes = compress(values, LEVEL) if values else b""  # which zstd would not give back
        placed.append(Row(row.id, end, end + len(part), row.crc, row.meta))
        parts.append(part)
        end += len(part)
    entries = [[r.id, r.start, r.stop, r.crc, r.meta] for r in placed]
    return b"".join([*parts, _index({"rows": entries, "seconds": round(seconds, 3)})]), placed


def struck(rows: Iterable[Row]) -> bytes:
    """An object that says of rows that they are damaged and no longer exist."""
    return _index({"struck": [list(row.place) for row in rows]})


def _index(content: dict[str, Any]) -> bytes:
    index: bytes = compress(json.dumps(content, separators=(",", ":")).encode(), LEVEL)
    return index + END.pack(len(index), zlib.crc32(index), MAGIC)


def tail_needed(tail: bytes) -> int:
    """How many bytes of an object's end hold its index.

    Args:
        tail: the last bytes, at least ``END.size`` of them.

    Raises:
        DamagedBatchError: it is no batch.
    """
    if len(tail) < END.size:
        raise DamagedBatchError("it is too short")
    length, _, magic = END.unpack(tail[-END.size :])
    if magic != MAGIC:
        raise DamagedBatchError("it is no batch of rows")
    return int(length) + END.size


def index_in(tail: bytes) -> Index:
    """The index in the last bytes of an object, as many as ``tail_needed`` says.

    Raises:
        DamagedBatchError: it is not as it was written.
    """
    needed = tail_needed(tail)
    _, crc, _ = END.unpack(tail[-END.size :])
    if needed > len(tail):
        raise DamagedBatchError("it is too short")
    index = tail[len(tail) - needed : len(tail) - END.size]
    if zlib.crc32(index) != crc:
        raise DamagedBatchError("the checksum of its index is wrong")
    content = json.loads(decompress(index))
    return Index(
        rows=[Row(*entry) for entry in content.get("rows", ())],
        struck=[tuple(place) for place in content.get("struck", ())],
        seconds=content.get("seconds", 0.0),
    )


def unpacked(part: bytes) -> bytes:
    """The values of a row, of its range of bytes.

    Raises:
        DamagedBatchError: they are not as they were written.
    """
    try:
        return bytes(decompress(part)) if part else b""
    except Exception as error:  # numcodecs raises RuntimeError, ValueError
        raise DamagedBatchError(str(error)) from None
