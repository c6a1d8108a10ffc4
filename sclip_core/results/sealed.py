"""Parquet files of which every byte is covered by a digest.

The checksums of Parquet's pages cover neither their headers nor the footer. So the metadata in the
footer holds a sha256 of the whole file, computed with zeros in place of the digest's own digits. A
second entry says that there is a digest: damage to the name of either entry does not turn the file
into one of version 0.1.0, which had neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sclip_core.store.arrow import reader_of

DIGEST_KEY = b"sclip_sha256"
SEAL_KEY = b"sclip_sealed"
ZEROS = b"0" * 64
# The entries in the footer (Thrift's compact protocol): type, length and bytes of key and value.
DIGEST_ENTRY = b"\x18" + bytes([len(DIGEST_KEY)]) + DIGEST_KEY + b"\x18" + bytes([len(ZEROS)])
SEAL_ENTRY = b"\x18" + bytes([len(SEAL_KEY)]) + SEAL_KEY + b"\x18\x011"
NOT_AS_WRITTEN = "its content has changed since it was written: the sha256 differs"


class DamagedError(Exception):
    """Bytes that are not a table, or not those that were written; one line says why."""


def seal(table: pa.Table | Iterable[pa.Table]) -> bytes:
    """The bytes of a Parquet file with checksums, the digest and the table's own metadata.

    Args:
        table: as a whole, or in parts, at least one, each of the same schema.
    """
    parts = iter([table] if isinstance(table, pa.Table) else table)
    part = next(parts)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, part.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(part)
        for part in parts:
            writer.write_table(part)
        writer.add_key_value_metadata({DIGEST_KEY: ZEROS, SEAL_KEY: b"1"})
    data = bytearray(sink.getvalue())
    place = data.rfind(DIGEST_ENTRY) + len(DIGEST_ENTRY)
    if data[place : place + len(ZEROS)] != ZEROS or SEAL_ENTRY not in data:
        raise RuntimeError("pyarrow wrote the metadata of a Parquet file in an unexpected layout")
    data[place : place + len(ZEROS)] = _digest(data, place)
    return bytes(data)


def unseal(data: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file, with the file's metadata.

    A file without a digest is accepted: version 0.1.0 wrote none.

    Raises:
        DamagedError: not a Parquet file, or not the bytes that were written.
    """
    file, sealed = opened(data)
    with readable():
        table = file.read()
        if not sealed:  # finds invalid UTF-8 and lists that overlap
            table.validate(full=True)
            _ = table.column_names
    return table


def opened(data: bytes, coded: Sequence[str] = ()) -> tuple[pq.ParquetFile, bool]:
    """A Parquet file to be read in parts, and whether it has a digest, which is right.

    Args:
        data: of the file.
        coded: columns of text that are read as dictionaries.

    Raises:
        DamagedError: not a Parquet file, or not the bytes that were written.
    """
    sealed = is_intact(data)
    with readable():
        buffer = reader_of(data)
        options: Any = {"read_dictionary": list(coded), "page_checksum_verification": True}
        return pq.ParquetFile(buffer, **options), sealed


@contextmanager
def readable() -> Iterator[None]:
    """Around reading a file.

    Raises:
        DamagedError: it cannot be read.
    """
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DamagedError((str(error).splitlines() or [type(error).__name__])[0]) from None


def is_intact(data: bytes) -> bool:
    """Whether a file has a correct digest; False if it has none.

    Raises:
        DamagedError: the digest is wrong.
    """
    found = data.rfind(DIGEST_ENTRY)
    if found < 0 and SEAL_ENTRY not in data:
        return False
    place = found + len(DIGEST_ENTRY)
    if found < 0 or data[place : place + len(ZEROS)] != _digest(data, place):
        raise DamagedError(NOT_AS_WRITTEN)
    return True


def _digest(data: bytes | bytearray, place: int) -> bytes:
    """The sha256 of a file whose digest lies at `place`, in hexadecimal digits."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:place])
    digest.update(ZEROS)
    digest.update(view[place + len(ZEROS) :])
    return digest.hexdigest().encode()
