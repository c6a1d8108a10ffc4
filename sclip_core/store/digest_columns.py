"""What is remembered of files as columns: 80 bytes a file, where Python's objects take 700."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
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
    """Files by the hashes of their paths; of several with one path, the last one counts.

    One thread adds files; any number of them look files up meanwhile.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._columns = _Columns(np.empty(0, FIELDS))

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._columns.records)

    def add(self, records: Iterable[Record]) -> None:
        """Add files after those that are there.

        Raises:
            OverflowError: a number that no file system gives.
        """
        new = np.array([tuple(record) for record in records], FIELDS)
        every = np.concatenate([self._columns.records, new])
        every = every[np.argsort(every["path"], kind="stable")]
        last = np.ones(len(every), bool)
        last[:-1] = every["path"][1:] != every["path"][:-1]
        self._columns = _Columns(every[last])

    def of_path(self, path: int) -> Record | None:
        """The file with a hash of its path; whether it is the same is left to its state."""
        columns = self._columns
        return columns.at(_place(columns.paths, path))

    def of_same(self, same: int) -> Record | None:
        """A file with a hash of name, size, times and inode."""
        columns = self._columns
        order, values = columns.by_same
        place = _place(values, same)
        return None if place is None else columns.at(int(order[place]))


class _Columns:
    """The files at one moment, which threads look up while others are added."""

    def __init__(self, records: NDArray[Any]) -> None:
        """Take the records, in the order of their paths."""
        self.records = records
        self.paths: NDArray[np.int64] = np.ascontiguousarray(records["path"])

    @cached_property
    def by_same(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Places in the order of ``same``, and its values; made when it is asked for."""
        order = np.argsort(self.records["same"]).astype(np.uint32)
        return order, self.records["same"][order]

    def at(self, place: int | None) -> Record | None:
        """The record at a place."""
        return None if place is None else Record(*self.records[place].tolist())


def _place(values: NDArray[np.int64], wanted: int) -> int | None:
    """Where a value is in ascending ones; None: nowhere."""
    place = int(np.searchsorted(values, wanted))
    return place if place < len(values) and values[place] == wanted else None
