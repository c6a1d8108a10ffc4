"""Rows on their way to the disk: a few at a time, and whatever ends the stage, all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from sclip_core.store.arrays import NewRow

MOST_SECONDS = 5.0  # of work that a killed process may lose
MOST_BYTES = 2**26  # of rows that wait


class Writer(Protocol):
    """What takes the batches of a stage."""

    def commit(self, rows: Sequence[NewRow], seconds: float) -> None:
        """Store a batch; it exists from then on, whatever happens."""


class Batch:
    """Computed rows that are not stored yet."""

    def __init__(self, writer: Writer, size: int, stored: Callable[[Sequence[str]], None]) -> None:
        """Begin with none.

        Args:
            writer: where they go.
            size: rows that are worth a commit.
            stored: is told the ids of the rows that a commit has stored.
        """
        self._writer = writer
        self._size = size
        self._stored = stored
        self._rows: list[NewRow] = []
        self._started = time.monotonic()

    def add(self, rows: Sequence[NewRow]) -> None:
        """Take rows; commit where there are enough."""
        self._rows += rows
        if (
            len(self._rows) >= self._size
            or time.monotonic() - self._started > MOST_SECONDS
            or sum(row.values.nbytes for row in self._rows) > MOST_BYTES
        ):
            self.commit()

    def commit(self) -> None:
        """Store what waits."""
        rows, self._rows = self._rows, []
        self._writer.commit(rows, time.monotonic() - self._started)
        self._started = time.monotonic()
        self._stored([row.id for row in rows])
