"""What all tables of rows have in common, however their rows are stored."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.store.artifact import Artifact
from sclip_core.store.files import written_to
from sclip_core.store.ledger import Row


class DamagedRow(ImageError):
    """Rows whose bytes are not those that were written."""

    def __init__(self, line: str, table: RowTable, rows: Sequence[Row]) -> None:
        """Take the message, and the damaged rows with their table."""
        super().__init__(line)
        self.table = table
        self.rows = tuple(rows)


class RowGone(ImageError):
    """A row that vanished: another process found it damaged and computes it again."""


@dataclass(frozen=True)
class NewRow:
    """A computed row, not yet stored."""

    id: str
    values: Any  # array (n, ...); for a RecordTable, an Arrow table of n records
    meta: dict[str, Any] = field(default_factory=dict)


class RowTable(ABC):
    """The rows of an artifact; subclasses say how they are stored."""

    batch_seconds: ClassVar[float] = 5.0
    """Between two commits: a killed process loses two batches at most."""

    def worth_a_commit(self, rows: int) -> int:
        """How many rows are worth a commit, where a stage says ``rows``."""
        return rows

    def __init__(self, artifact: Artifact) -> None:
        """Take the artifact's folder."""
        self.artifact = artifact

    @abstractmethod
    def damaged(self, *rows: Row) -> DamagedRow:
        """The error for rows, at least one, that cannot be used."""

    @abstractmethod
    def free(self, rows: Iterable[Row]) -> None:
        """Remove the files of rows that left the ledger, unless other rows need them."""

    def read_each(self, read: Callable[[Row], Any], rows: Iterable[Row]) -> list[Any]:
        """What ``read`` gives of each row, in order.

        Raises:
            DamagedRow: names all rows that are damaged, not the first alone.
        """
        found, damaged = [], []
        for row in rows:
            try:
                found.append(read(row))
            except DamagedRow:
                damaged.append(row)
        if damaged:
            raise self.damaged(*damaged)
        return found

    def strike(self, rows: Sequence[Row]) -> None:
        """Record that rows are damaged, and remove their data.

        Raises:
            DiskError: the ledger cannot be written.
        """
        with written_to(self.artifact.path):
            self.artifact.ledger.strike(rows)
        self.free(rows)

    def size_of(self, row: Row) -> tuple[int, int]:
        """Height and width in pixels of a row's image, from its ``meta``.

        Raises:
            DamagedRow: ``meta`` holds no size; a ledger of version 0.1.0 has no checksums.
        """
        size = row.meta.get("size")
        if not (isinstance(size, list) and len(size) == 2 and all(map(_is_length, size))):
            raise self.damaged(row)
        return size[0], size[1]


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def crc32(values: NDArray[Any]) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)
