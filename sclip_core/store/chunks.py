"""Chunks of Zarr arrays read without Zarr, whose own reading costs milliseconds for a small row.

Zarr reads through an event loop in another thread, which many small rows wait for. Here a chunk is
a file that is read, checked and decompressed by the libraries that Zarr's own codecs call. The last
ones are kept, since a chunk holds many small rows that are read one after the other.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

CHECK_BYTES = 4  # of the crc32c at the end of a chunk's file
KEPT_BYTES = 2**24  # of the chunks that a table keeps


class _State(NamedTuple):
    """What tells whether a file is still the one that was read."""

    inode: int
    size: int
    mtime: int
    ctime: int


class Chunks:
    """Reads chunks of ``bytes``, ``zstd`` and ``crc32c``, and keeps the last ones."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        """Keep at most so many bytes."""
        self._most = most
        self._size = 0
        self._kept: OrderedDict[Path, tuple[_State, NDArray[Any]]] = OrderedDict()
        self._lock = Lock()
        self._zstd = Zstd()

    def read(self, path: Path, dtype: np.dtype[Any], keep: bool) -> NDArray[Any] | None:
        """The values of a chunk, which must not be changed.

        Args:
            path: its file.
            dtype: of the values.
            keep: whether other rows may be read from it soon.

        Returns:
            The values, flat; None: there is no such file.

        Raises:
            ValueError: its checksum is wrong.
            RuntimeError: it cannot be decompressed.
        """
        try:
            with self._lock:
                known = self._kept.get(path)
            if known is not None and _state(os.stat(path)) == known[0]:
                return known[1]
            with path.open("rb") as file:
                state, data = _state(os.fstat(file.fileno())), file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        inner: Any = np.frombuffer(data, np.uint8)[:-CHECK_BYTES]
        if data[-CHECK_BYTES:] != google_crc32c.value(inner).to_bytes(CHECK_BYTES, "little"):
            raise ValueError("its checksum is wrong")
        values = np.frombuffer(self._zstd.decode(inner), dtype.newbyteorder("<"))
        if keep:
            self._keep(path, state, values)
        return values

    def _keep(self, path: Path, state: _State, values: NDArray[Any]) -> None:
        with self._lock:
            old = self._kept.pop(path, None)
            self._size += values.nbytes - (old[1].nbytes if old else 0)
            self._kept[path] = (state, values)
            while self._size > self._most:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._size -= oldest.nbytes


def _state(status: os.stat_result) -> _State:
    return _State(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
