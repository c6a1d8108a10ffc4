"""What is remembered of files as columns: 80 bytes a file, where Python's objects take 700."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIELDS = [  # of a file; hashes are Python's, which differ between processes
    ("path", "i8"), ("same", "i8"),
    ("size", "i8"), ("mtime", "i8"), ("ctime", "i8"), ("inode", "i8"), ("sha256", "V32"),
]  # fmt: skip


class Record(NamedTuple):
    """A file, as the columns hold it."""

    path: int  # hash of the path
    same: int  # hash of what is the same at another mount point: name, size, times, inode
    size: int
    mtime: int
    ctime: int
    inode: int
    sha256: bytes  # 32, of zeros where the file was forgotten


class Files:
    """Files by the hashes of their paths; of several with one path, the last one counts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._records: NDArray[Any] = np.empty(0, FIELDS)
        self._paths: NDArray[np.int64] = np.empty(0, np.int64)
        self._order: NDArray[np.uint32] | None = None  # by ``same``, when it is asked for
        self._same: NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._records)

    def add(self, records: Iterable[Record]) -> None:
        """Add files after those that are there.

        Raises:
            OverflowError: a number that no file system gives.
        """
        new = np.array([tuple(record) for record in records], FIELDS)
        every = np.concatenate([self._records, new])
        every = every[np.argsort(every["path"], kind="stable")]
        last = np.ones(len(every), bool)
        last[:-1] = every["path"][1:] != every["path"][:-1]
        self._records = every[last]
        self._paths = np.ascontiguousarray(self._records["path"])
        self._order = None

    def of_path(self, path: int) -> Record | None:
        """The file with a hash of its path; whether it is the same is left to its state."""
        at = int(np.searchsorted(self._paths, path))
        if at < len(self) and self._paths[at] == path:
            return Record(*self._records[at].tolist())
        return None

    def of_same(self, same: int) -> Record | None:
        """A file with a hash of name, size, times and inode."""
        if self._order is None:
            self._order = np.argsort(self._records["same"]).astype(np.uint32)
            self._same = self._records["same"][self._order]
        at = int(np.searchsorted(self._same, same))
        if at < len(self) and self._same[at] == same:
            return Record(*self._records[self._order[at]].tolist())
        return None
