"""Tables as the bytes of Parquet files, of which every byte is covered by a digest.

The checksums of Parquet's pages cover neither their headers nor the footer. So a file also holds a
sha256 of itself, in the metadata of its footer: of the whole file, with zeros in the place of the
digest's own digits. A second entry says that there is a digest: damage to the name of one of the
two does not make the file pass for one of version 0.1.0, which had neither.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

DIGEST_KEY = b"sclip_sha256"
SEAL_KEY = b"sclip_sealed"
ZEROS = b"0" * 64
# How the footer holds them (Thrift's compact protocol): a type, a length, the bytes; twice.
DIGEST_ENTRY = b"\x18" + bytes([len(DIGEST_KEY)]) + DIGEST_KEY + b"\x18" + bytes([len(ZEROS)])
SEAL_ENTRY = b"\x18" + bytes([len(SEAL_KEY)]) + SEAL_KEY + b"\x18\x011"
NOT_AS_WRITTEN = "it is not as it was written: its sha256 is another"


class DamagedError(Exception):
    """Bytes that are no table, or not those that were written; one line says why."""


def seal(table: pa.Table) -> bytes:
    """A table as a Parquet file with checksums and the digest.

    Args:
        table: its metadata is kept beside the digest.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({DIGEST_KEY: ZEROS, SEAL_KEY: b"1"})
    data = bytearray(sink.getvalue())
    place = data.rfind(DIGEST_ENTRY) + len(DIGEST_ENTRY)
    if data[place : place + len(ZEROS)] != ZEROS or SEAL_ENTRY not in data:
        raise RuntimeError("pyarrow wrote the metadata of a Parquet file otherwise than expected")
    data[place : place + len(ZEROS)] = _digest(data, place)
    return bytes(data)


def unseal(data: bytes) -> pa.Table:
    """The table in a Parquet file, with the file's metadata.

    A file without a digest is read as it is: version 0.1.0 wrote none.

    Args:
        data: all bytes of the file.

    Raises:
        DamagedError: no Parquet, or the bytes are not those that were written.
    """
    sealed = is_intact(data)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read()
        if not sealed:  # text that is no UTF-8, lists that overlap: nothing else would find them
            table.validate(full=True)
            _ = table.column_names
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DamagedError((str(error).splitlines() or [type(error).__name__])[0]) from None
    return table


def is_intact(data: bytes) -> bool:
    """Whether a file has a digest, which is right.

    Returns:
        False where it has none.

    Raises:
        DamagedError: it has one, and that is wrong.
    """
    found = data.rfind(DIGEST_ENTRY)
    if found < 0 and SEAL_ENTRY not in data:
        return False
    place = found + len(DIGEST_ENTRY)
    if found < 0 or data[place : place + len(ZEROS)] != _digest(data, place):
        raise DamagedError(NOT_AS_WRITTEN)
    return True


def _digest(data: bytes | bytearray, place: int) -> bytes:
    """The digits that belong at a place of a file."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:place])
    digest.update(ZEROS)
    digest.update(view[place + len(ZEROS) :])
    return digest.hexdigest().encode()
