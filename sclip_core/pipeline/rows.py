"""Rows on their way: what they are computed from is read ahead, and they are stored behind.

Stored they are a few at a time and, whatever ends the stage, all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sclip_core.config import ImageError
from sclip_core.store.arrays import NewRow

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_BYTES = 2**26  # of rows that wait


class Writer(Protocol):
    """What takes the batches of a stage."""

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch; it exists from then on, whatever happens."""


class Table(Protocol):
    """How the rows of a stage are stored."""

    @property
    def batch_seconds(self) -> float:
        """Between two commits, if there are not enough rows for one before."""

    def worth_a_commit(self, rows: int) -> int:
        """How many rows are worth a commit, where a stage says ``rows``."""

    def writer(self) -> AbstractContextManager[Writer]:
        """A place of one's own to append to."""


class Batch:
    """Computed rows that are not stored yet; stored beside the computing, one batch at a time."""

    def __init__(
        self, writer: Writer, size: int, seconds: float, stored: Callable[[Sequence[str]], None]
    ) -> None:
        """Begin with none.

        Args:
            writer: where they go.
            size: rows that are worth a commit.
            seconds: after which they are committed too.
            stored: is told the ids of the rows that a commit has stored, in another thread.
        """
        self._writer = writer
        self._size = size
        self._seconds = seconds
        self._stored = stored
        self._rows: list[NewRow] = []
        self._bytes = 0
        self._started = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sclip-store")
        self._writing: Future[None] | None = None

    def add(self, rows: Sequence[NewRow]) -> None:
        """Take rows; commit where there are enough.

        Raises:
            DiskError: an earlier batch could not be written.
        """
        self._rows += rows
        self._bytes += sum(row.values.nbytes for row in rows)
        if (
            len(self._rows) >= self._size
            or time.monotonic() - self._started > self._seconds
            or self._bytes > MOST_BYTES
        ):
            self._commit()

    def close(self) -> None:
        """Store what waits, and be done with it.

        Raises:
            DiskError: it could not be written.
        """
        try:
            self._commit()
            self._written()
        finally:
            self._thread.shutdown()

    def _commit(self) -> None:
        """Hand the rows over, once those before them are stored."""
        self._written()
        rows, self._rows, self._bytes = self._rows, [], 0
        seconds = time.monotonic() - self._started
        self._writing = self._thread.submit(self._store, rows, seconds)
        self._started = time.monotonic()

    def _written(self) -> None:
        """Wait for the batch that is being stored."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _store(self, rows: Sequence[NewRow], seconds: float) -> None:
        self._writer.commit(rows, seconds)
        self._stored([row.id for row in rows])


def prefetch(
    load: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | ImageError]]:
    """Load items in threads, in order, at most twice as many ahead as there are threads.

    Args:
        load: reads one item; OpenCV, Zarr and numpy release the GIL.
        items: what to read.
        workers: threads; 0: in the caller's own.

    Yields:
        Each item with what ``load`` gave, or with the ``ImageError`` that it raised.
    """

    def attempt(item: Item) -> Result | ImageError:
        try:
            return load(item)
        except ImageError as error:
            return error

    if workers == 0:
        yield from ((item, attempt(item)) for item in items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        ahead: deque[tuple[Item, Future[Result | ImageError]]] = deque()
        try:
            for item in items:
                ahead.append((item, pool.submit(attempt, item)))
                if len(ahead) > 2 * workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            for _, future in ahead:
                future.cancel()
