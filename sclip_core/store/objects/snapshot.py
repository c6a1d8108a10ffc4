"""A snapshot of an artifact's rows: one object in place of the indexes of many batches."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sclip_core.store.ledger import Place, Row
from sclip_core.store.objects.batch import DamagedBatchError

SUFFIX = ".arrow"
VERSION = 1
END = struct.Struct("<I")  # CRC-32 of all bytes before it
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "segment": pa.dictionary(pa.int32(), pa.string()),
        "start": pa.int64(),
        "stop": pa.int64(),
        "crc": pa.uint32(),
        "meta": pa.string(),  # JSON
    }
)


@dataclass
class State:
    """What batches together say."""

    rows: dict[str, Row]
    struck: set[Place]
    sizes: dict[str, int]  # bytes of each batch that is covered, by name


def written(state: State, seconds: float) -> bytes:
    """A snapshot as bytes: a file of Arrow's, then its checksum."""
    rows = state.rows.values()
    columns: dict[str, Any] = {
        "id": [row.id for row in rows],
        "segment": pa.array([row.segment for row in rows], pa.string()).dictionary_encode(),
        "start": [row.start for row in rows],
        "stop": [row.stop for row in rows],
        "crc": [row.crc for row in rows],
        "meta": [json.dumps(row.meta) for row in rows],
    }
    about = {
        "version": VERSION,
        "seconds": seconds,
        "sizes": state.sizes,
        "struck": sorted(map(list, state.struck)),
    }
    schema = SCHEMA.with_metadata({"sclip": json.dumps(about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(pa.table(columns, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data + END.pack(zlib.crc32(data))


def read(data: bytes) -> tuple[State, float]:
    """What a snapshot says, and the seconds that its batches took.

    Raises:
        DamagedBatchError: it is damaged, or of a later version.
    """
    content, end = data[: -END.size], data[-END.size :]
    if len(end) < END.size or END.unpack(end)[0] != zlib.crc32(content):
        raise DamagedBatchError("its checksum is wrong")
    try:
        table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
        about = json.loads(table.schema.metadata[b"sclip"])
        if about["version"] != VERSION:
            raise DamagedBatchError("it is of a later version")
        columns = (table[name].to_pylist() for name in SCHEMA.names)
        rows = {
            row_id: Row(row_id, start, stop, crc, json.loads(meta), segment)
            for row_id, segment, start, stop, crc, meta in zip(*columns, strict=True)
        }
        struck: set[Place] = {(i, s, a, b) for i, s, a, b in about["struck"]}
        return State(rows, struck, about["sizes"]), about["seconds"]
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError) as error:
        raise DamagedBatchError(str(error)) from None
