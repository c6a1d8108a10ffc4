"""Rows of arrays in Zarr: ragged along the first axis, in segments with one writer each.

A batch is written chunk-aligned at the end of the writer's segment, fsynced, and only then named in
the ledger. Several processes fill one artifact at the same time, each its own segment. A segment
whose writer died is taken over, and data without a ledger line are overwritten.

The ledger and the table's layout say all that reading needs. ``zarr.json`` is written for other
tools that read Zarr; where it is damaged, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sclip_core.config.deferred import deferred
from sclip_core.store.artifact import Artifact
from sclip_core.store.files import make_folder, refuse_to_guess, written_to
from sclip_core.store.ledger import Row
from sclip_core.store.ledger_rows import ENDLESS, within
from sclip_core.store.segments import Segments, Writer
from sclip_core.store.table import DamagedRow, NewRow, RowGone, RowTable, crc32

zarr = deferred("zarr")
__all__ = ["ArrayTable", "DamagedRow", "NewRow", "RowGone"]


class ArrayTable(RowTable):
    """The rows of an artifact whose data are arrays."""

    def __init__(self, artifact: Artifact, dtype: str, width: int | None, compress: bool) -> None:
        """Name the layout.

        Args:
            artifact: the folder.
            dtype: of the values, e.g. ``float16``.
            width: of the second axis; None: the rows are one-dimensional.
            compress: whether version 0.1.0 compressed them. Now all are: the end of a chunk that a
                batch does not fill then takes no space.
        """
        super().__init__(artifact)
        self.segments = Segments(artifact.path / "segments", dtype, width, compress)

    @classmethod
    def of_unknown_layout(cls, artifact: Artifact) -> ArrayTable | None:
        """The table of an artifact as its ``zarr.json`` describes it; None if it has none."""
        for path in sorted(artifact.path.glob("segments/*.zarr")):
            with suppress(Exception):  # zarr raises anything
                array: Any = zarr.open_array(zarr.storage.LocalStore(path), mode="r")
                width = array.shape[1] if array.ndim == 2 else None
                # Version 0.1.0 compressed label maps and nothing else.
                return cls(artifact, array.dtype.name, width, array.dtype.kind != "f")
        return None

    def files_of(self, row: Row) -> list[Path]:
        """The files of the chunks that hold a part of a row."""
        numbers = self.segments.chunks_of(row)
        return [self.segments.chunk_path(row.segment, number) for number in numbers]

    def read(self, row: Row) -> NDArray[Any]:
        """The values of a row.

        Raises:
            DamagedRow: a chunk is missing or its checksum is wrong.
        """
        try:
            values = self.segments.read(row)
            intact = len(values) == row.stop - row.start and crc32(values) == row.crc
        except Exception as error:  # codecs raise anything on broken bytes
            refuse_to_guess(self.segments.path(row.segment), error)
            intact = False
        if not intact:
            raise self.damaged(row)
        return values

    def read_many(self, rows: Iterable[Row]) -> list[NDArray[Any]]:
        """The values of several rows.

        Raises:
            DamagedRow: names all rows that are damaged.
        """
        return self.read_each(self.read, rows)

    def read_map(self, row: Row) -> NDArray[Any]:
        """The values of a row as the map (H, W) of its image.

        Raises:
            DamagedRow: the values are damaged, or not as many as the image has pixels.
        """
        size, values = self.size_of(row), self.read(row)
        if size[0] * size[1] != values.size:
            raise self.damaged(row)
        return values.reshape(size)

    def damaged(self, *rows: Row) -> DamagedRow:
        """The error for rows that cannot be used."""
        path = self.segments.path(rows[0].segment)
        which = rows[0].id if len(rows) == 1 else f"{len(rows)} rows, such as {rows[0].id},"
        return DamagedRow(
            f"stored data of {which} in {path} are damaged; "
            f"compute them again: --force {self.artifact.identity.stage}",
            self,
            rows,
        )

    def free(self, rows: Iterable[Row]) -> None:
        """Remove the chunks of rows that left the ledger, unless another row has a part of them.

        A process that still reads such a row finds it missing, and its new place in the ledger.
        """
        rows, old = list(rows), dict[str, set[int]]()
        for row in rows:
            old.setdefault(row.segment, set()).update(self.segments.chunks_of(row))
        if not any(old.values()):
            return
        stored = self.artifact.ledger.rows()
        for segment, numbers in old.items():
            ours = [row for row in rows if row.segment == segment]
            near = max(row.chunk or ENDLESS for row in ours)  # of 0.1.0 it is not known here
            first = min(row.start for row in ours) - near
            last = max(row.stop for row in ours) + near
            for row in within(stored, segment, first, last):
                numbers.difference_update(self.segments.chunks_of(row))
            for number in numbers:
                with suppress(OSError):  # a file that stays only takes space
                    self.segments.chunk_path(segment, number).unlink(missing_ok=True)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """A writer with a segment of its own, until the block ends or the process dies."""
        with written_to(self.artifact.path):
            make_folder(self.artifact.path / "segments")
        writer = Writer(self, self.segments)
        try:
            yield writer
            self.artifact.ledger.save_snapshot()
        finally:
            writer.close()
