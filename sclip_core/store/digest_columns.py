"""What is remembered of files as columns: 84 bytes a file, where Python's objects take 700."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
STATE = ("size", "mtime", "ctime", "inode")
COLUMNS = {"same": "i8", **dict.fromkeys(STATE, "i8"), "sha256": "V32"}
INDEX = {"hash": "i8", "position": "u4"}  # by the hash of the path, in ascending order
HASH = 8  # bytes of a hash
NOTHING = bytes(32)  # in place of the digest of a file that was forgotten


class Record(NamedTuple):
    """A file, as the columns hold it."""

    path: int  # hash of the path
    same: int  # hash of what is the same at another mount point: name, size, times, inode
    size: int
    mtime: int
    ctime: int
    inode: int  # as a signed number
    sha256: bytes  # 32, of zeros where the file was forgotten


class Files:
    """Files by the hashes of their paths; of several with one path, the last one counts.

    One thread adds files; any number of them look files up meanwhile.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]] | None = None,
        index: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Begin with none, or with what a snapshot has, which is not changed."""
        self.columns = columns or {name: np.empty(0, kind) for name, kind in COLUMNS.items()}
        self.index = index or {name: np.empty(0, kind) for name, kind in INDEX.items()}
        # The column that they are of, its values in order, their positions; when it is asked for.
        self._by_same: tuple[Numbers, Numbers, NDArray[np.uint32]] | None = None

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.index["hash"])

    def add(self, records: Iterable[Record]) -> None:
        """Add files after those that are there.

        Raises:
            OverflowError: a number that no file system gives.
        """
        latest = {record.path: record for record in records}
        if not latest:
            return
        paths = np.array(list(latest), np.int64)
        at = self.find(paths)
        kept = [tuple(record[1:]) for record in latest.values()]
        new = np.array(kept, [(name, kind) for name, kind in COLUMNS.items()])
        there, added = at >= 0, new[at < 0]
        columns = {}
        for name, values in self.columns.items():
            columns[name] = np.concatenate([values, added[name]])
            columns[name][at[there]] = new[name][there]
        hashes, first = paths[~there], len(self)
        order = np.argsort(hashes, kind="stable")
        place = np.searchsorted(self.index["hash"], hashes[order])
        positions = (order + first).astype(np.uint32)
        index = {
            "hash": np.insert(self.index["hash"], place, hashes[order]),
            "position": np.insert(self.index["position"], place, positions),
        }
        # In this order, as other threads look up meanwhile: what an index points to is there.
        self.columns = columns
        self.index = index

    def find(self, paths: Numbers) -> Numbers:
        """The position of each file, by the hash of its path; -1: not there."""
        index = self.index  # one of them: another thread may add files
        hashes = index["hash"]
        if not len(hashes):
            return np.full(len(paths), -1, np.int64)
        at = np.minimum(np.searchsorted(hashes, paths), len(hashes) - 1)
        return np.where(hashes[at] == paths, index["position"][at].astype(np.int64), -1)

    def of_path(self, path: int) -> Record | None:
        """The file with a hash of its path; whether it is the same is left to its state."""
        (at,) = self.find(np.array([path], np.int64)).tolist()
        return self._record(at, path) if at >= 0 else None

    def of_same(self, same: int) -> Record | None:
        """A file with a hash of name, size, times and inode."""
        column, by_same = self.columns["same"], self._by_same
        if by_same is None or by_same[0] is not column:  # another thread has added files since
            order = np.argsort(column).astype(np.uint32)
            by_same = self._by_same = column, column[order], order
        _, values, order = by_same
        at = int(np.searchsorted(values, same))
        if at < len(values) and values[at] == same:
            return self._record(int(order[at]), 0)
        return None

    def digests(self, paths: Sequence[str], states: Numbers) -> NDArray[Any]:
        """The digest of each file that has the state that is remembered.

        Args:
            paths: absolute, N of them.
            states: (N, 4), what the file system says now, in the order of ``STATE``.

        Returns:
            (N,) digests of 32 bytes, zeros where nothing is known.
        """
        found = np.zeros(len(paths), COLUMNS["sha256"])
        at = self.find(hashes_of(paths))
        same = (at >= 0).nonzero()[0]
        for k, name in enumerate(STATE):
            same = same[self.columns[name][at[same]] == states[same, k]]
        found[same] = self.columns["sha256"][at[same]]
        return found

    def _record(self, at: int, path: int) -> Record:
        values = (self.columns[name][at].item() for name in COLUMNS)
        return Record(path, *values)


def hash_of(text: str) -> int:
    """A hash of a path, the same in every process."""
    return int.from_bytes(_hashed(text), "little", signed=True)


def hashes_of(texts: Sequence[str]) -> Numbers:
    """``hash_of`` of each."""
    return np.frombuffer(b"".join(map(_hashed, texts)), "<i8")


def signed(number: int) -> int:
    """An inode as a signed number of 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _hashed(text: str) -> bytes:
    return blake2b(os.fsencode(text), digest_size=HASH).digest()
