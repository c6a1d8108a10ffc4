"""Bytes as Arrow reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def reader_of(data: bytes) -> pa.BufferReader:
    """A source of Parquet or Arrow data in memory that Arrow owns.

    Arrow reads in threads of its own, and the last of them may let go of a source when the process
    is ending. Of Python's memory that needs the interpreter, and ends the process by an abort.
    """
    import pyarrow as pa

    copied = pa.BufferOutputStream()
    copied.write(data)
    return pa.BufferReader(copied.getvalue())
