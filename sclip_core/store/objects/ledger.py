"""Which rows an artifact on object storage has: what the indexes of its batches say.

A listing names the batches. Of many, a snapshot holds the indexes of those that were there when it
was written, and the others are read one by one. Rows are found under the same names as in a
``Ledger`` on disk. Nothing is ever appended to and nothing locked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from threading import RLock

from sclip_core.config.places import ObjectPath
from sclip_core.store.ledger import Place, Row
from sclip_core.store.objects import batch, snapshot
from sclip_core.store.objects.batch import TAIL, DamagedBatchError, Index, index_in
from sclip_core.store.objects.bucket import (
    Bucket,
    Entry,
    bucket_of,
    content_name,
    side_by_side,
)
from sclip_core.store.objects.faults import StorageError

LOG = logging.getLogger(__name__)
FRESH = 2.0  # seconds for which a listing is taken to be true
SPARSE = 20.0  # times as long as listing took, until it is done again
FEW = 64  # batches that are worth a snapshot
SUFFIX = ".batch"


class LiveRows(Mapping[str, Row]):
    """A view of rows by id; threads may add to them while one iterates."""

    def __init__(self, rows: dict[str, Row]) -> None:
        """Take what is looked at."""
        self._rows = rows

    def __getitem__(self, row_id: str) -> Row:
        """One row."""
        return self._rows[row_id]

    def __contains__(self, row_id: object) -> bool:
        """Whether it is there."""
        return row_id in self._rows

    def __iter__(self) -> Iterator[str]:
        """The ids of those that are there now."""
        return iter(list(self._rows))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those ids that have no row, in order."""
        return [row_id for row_id in ids if row_id not in self._rows]


class ObjectLedger:
    """The rows of one artifact, and what is needed to read them."""

    def __init__(self, artifact: ObjectPath) -> None:
        """Name the place; ask for nothing."""
        self._folder = artifact / "batches"
        self._snapshots = artifact / "index"
        self._rows: dict[str, Row] = {}
        self._struck: set[Place] = set()
        self._sizes: dict[str, int] = {}  # of the batches that are known, by name
        self._odd: set[str] = set()
        self._covered = 0  # batches that a snapshot holds
        self._seconds = 0.0
        self._listed = -FRESH  # when
        self._fresh = FRESH  # seconds for which that listing is taken to be true
        self._started = 0  # nanoseconds: the time in the name of the last batch put
        self._lock = RLock()

    def rows(self) -> LiveRows:
        """Every row by its id; a later batch replaces an earlier one."""
        with self._lock:
            if time.monotonic() - self._listed > self._fresh:
                self.refresh()
        return LiveRows(self._rows)

    def refresh(self) -> None:
        """See what others have written since.

        Raises:
            StorageError: the storage cannot be read.
        """
        with self._lock:
            began = time.monotonic()
            found = {
                entry.path.stem: entry
                for entry in self._bucket.entries(self._folder)
                if entry.path.suffix == SUFFIX
            }
            new = [found[name] for name in sorted(found.keys() - self._sizes.keys() - self._odd)]
            if len(new) >= FEW and not self._sizes:
                self._take_snapshot(found)
                new = [entry for entry in new if entry.path.stem not in self._sizes]
            indexes = side_by_side(self._index_of, new)
            for entry, index in zip(new, indexes, strict=True):
                if index is not None:
                    self._take(entry.path.stem, entry.size, index)
            self._listed = time.monotonic()
            self._fresh = max(FRESH, SPARSE * (self._listed - began))

    def seconds(self) -> float:
        """Seconds that all batches took; artifacts that share a pass count it in full each."""
        self.rows()
        return self._seconds

    def odd_lines(self) -> dict[int, str]:
        """None: an object is there as a whole or not at all; odd ones are warned of when read."""
        return {}

    def repair(self) -> dict[int, str]:
        """Nothing to do."""
        return {}

    def path_of(self, name: str) -> ObjectPath:
        """The object of a batch."""
        return self._folder / f"{name}{SUFFIX}"

    def size_of(self, name: str) -> int:
        """Bytes of a batch.

        Raises:
            FileNotFoundError: it is not known.
        """
        if name not in self._sizes:
            raise FileNotFoundError(str(self.path_of(name)))
        return self._sizes[name]

    def append(self, rows: Sequence[tuple[Row, bytes]], seconds: float) -> None:
        """Put a batch; its rows exist from then on.

        Args:
            rows: what is known of each, but for its place, and its values as bytes.
            seconds: how long they took.

        Raises:
            StorageError: it could not be written; none of its rows exists then.
        """
        data, placed = batch.packed(rows, seconds)
        name = self._put(data)
        with self._lock:
            self._take(name, len(data), Index(placed, seconds=seconds))

    def strike(self, rows: Iterable[Row]) -> None:
        """Record that rows are damaged: they no longer exist until they are stored again.

        Raises:
            StorageError: that could not be written.
        """
        rows = list(rows)
        if rows:
            data = batch.struck(rows)
            name = self._put(data)
            with self._lock:
                self._take(name, len(data), Index(struck=[row.place for row in rows]))

    def settle(self) -> None:
        """Write a snapshot where many batches have none; the next reader then reads one object.

        It only saves time, so where it cannot be written, that is logged and nothing else.
        """
        with self._lock:
            single = len(self._sizes) - self._covered
            if single < max(FEW, self._covered // 4):
                return
            state = snapshot.State(dict(self._rows), set(self._struck), dict(self._sizes))
            data = snapshot.written(state, self._seconds)
            path = self._snapshots / f"{content_name(data, time.time_ns())}{snapshot.SUFFIX}"
            try:
                self._bucket.put_new(path, data)
            except StorageError as error:
                LOG.warning("%s", error)
                return
            self._covered = len(self._sizes)

    @property
    def _bucket(self) -> Bucket:
        return bucket_of(self._folder.bucket)

    def _put(self, data: bytes) -> str:
        with self._lock:  # later than all that is known, also where the clock is slow
            newest = max(self._sizes, default="0").partition("-")[0]
            self._started = max(time.time_ns(), self._started + 1, int(newest, 16) + 1)
            name = content_name(data, self._started)
        if not self._bucket.put_new(self.path_of(name), data):
            raise AssertionError("another object has the name of this content")
        return name

    def _take_snapshot(self, found: Mapping[str, Entry]) -> None:
        """Begin with the latest snapshot that can be read."""
        for entry in reversed(self._bucket.entries(self._snapshots)):
            try:
                state, seconds = snapshot.read(self._bucket.read(entry.path))
            except (DamagedBatchError, FileNotFoundError):
                LOG.warning("%s cannot be used; the batches are read one by one", entry.path)
                continue
            if not state.sizes.keys() <= found.keys():
                continue  # of batches that were removed since
            self._rows.update(state.rows)
            self._struck, self._sizes, self._seconds = state.struck, state.sizes, seconds
            self._covered = len(state.sizes)
            return

    def _index_of(self, entry: Entry) -> Index | None:
        """The index of a batch; None: the object cannot be used, or is gone."""
        for again in (True, False):
            try:
                tail = self._tail(entry, TAIL)
                if (needed := batch.tail_needed(tail)) > len(tail):
                    tail = self._tail(entry, min(needed, entry.size))
                return index_in(tail)
            except FileNotFoundError:
                return None
            except (DamagedBatchError, ValueError, TypeError) as error:
                if again:  # perhaps only damaged on its way
                    continue
                self._odd.add(entry.path.stem)
                LOG.warning(
                    "%s cannot be used (%s); its rows are computed again", entry.path, error
                )
        return None

    def _tail(self, entry: Entry, length: int) -> bytes:
        return self._bucket.read_range(entry.path, max(0, entry.size - length), entry.size)

    def _take(self, name: str, size: int, index: Index) -> None:
        """Add what a batch says, once: a listing may show what was put here a moment ago."""
        if name in self._sizes:
            return
        self._sizes[name] = size
        self._seconds += index.seconds
        for place in index.struck:
            self._struck.add(place)
            known = self._rows.get(place[0])
            if known is not None and known.place == place:
                del self._rows[place[0]]
        for row in index.rows:
            placed = Row(row.id, row.start, row.stop, row.crc, row.meta, name)
            known = self._rows.get(row.id)
            if placed.place not in self._struck and (known is None or known.segment < name):
                self._rows[row.id] = placed


@cache
def ledger_of(artifact: ObjectPath) -> ObjectLedger:
    """The ledger of an artifact, read once a process."""
    return ObjectLedger(artifact)
