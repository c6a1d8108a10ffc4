"""The ledger of an artifact: the one place that says which rows exist.

A line is appended and fsynced after its data. Data without a line do not exist; a line torn by a
crash is skipped. Every line carries a checksum, so that an altered size, range or id is noticed;
lines of version 0.1.0 have none and are taken as they are. A row that is found damaged is struck by
a later line, and exists again when it is computed again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from sclip_core.store.files import fsync, write_whole
from sclip_core.store.ledger_lines import LaterVersionError, decode, encode

LOG = logging.getLogger(__name__)
TAIL = 64  # bytes by which a file is recognised
IMPATIENT = 5.0  # seconds of waiting for a lock before a warning
Place = tuple[str, str, int, int]  # id, segment, start, stop


@dataclass(frozen=True)
class Row:
    """Where the data of one image (or word) lies."""

    id: str  # digest of the file's bytes; for the text bank, the word
    start: int  # range in the segment's first axis
    stop: int
    crc: int  # CRC-32 of the row's bytes
    meta: dict[str, Any] = field(default_factory=dict)  # small facts, e.g. the image's size
    segment: str = ""
    chunk: int | None = None  # values of the first axis in a chunk; None: as version 0.1.0 wrote

    @property
    def place(self) -> Place:
        """Where the row lies, which differs between two computations of the same row."""
        return (self.id, self.segment, self.start, self.stop)


@dataclass
class _Content:
    """What was read from the file so far."""

    inode: int = -1
    mtime: int = -1
    size: int = 0  # bytes read, up to the last line break
    last: bytes = b""  # the last of these bytes
    lines: int = 0
    seconds: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # by segment
    chunks: dict[str, int] = field(default_factory=dict)  # by segment
    odd: dict[int, str] = field(default_factory=dict)  # faults by the number of the line
    later: set[int] = field(default_factory=set)  # numbers of odd lines of a later version
    foreign: set[str] = field(default_factory=set)  # segments that those lines name

    def begins(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Whether the file still begins with what was read; else it was replaced."""
        if self.inode != status.st_ino or status.st_size < self.size:
            return False
        if status.st_size == self.size and status.st_mtime_ns != self.mtime:
            return False
        file.seek(self.size - len(self.last))
        return file.read(len(self.last)) == self.last


class Ledger:
    """``ledger.jsonl``: one line a batch."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist."""
        self._path = path
        self._lock = FileLock(str(path) + ".lock")
        self._reading = Lock()
        self._content = _Content()

    def rows(self) -> dict[str, Row]:
        """Every row by its id; a later line replaces an earlier one."""
        return dict(self._read().rows)

    def segment_end(self, segment: str) -> int:
        """The first position of a segment that no row takes."""
        return self._read().ends.get(segment, 0)

    def chunk_of(self, segment: str) -> int | None:
        """Values of the first axis in a chunk of a segment; None if no line says."""
        return self._read().chunks.get(segment)

    def foreign(self) -> set[str]:
        """The segments that other versions wrote, which this one must not append to."""
        content = self._read()
        return content.foreign | (content.ends.keys() - content.chunks.keys())

    def seconds(self) -> float:
        """Seconds that all batches took; artifacts that share a pass count it in full each."""
        return self._read().seconds

    def odd_lines(self) -> dict[int, str]:
        """The faults of lines that cannot be used, by line number.

        A last line that a crash has torn is not among them.
        """
        return dict(self._read().odd)

    def append(
        self, segment: str, rows: Sequence[Row], seconds: float, chunk: int | None = None
    ) -> None:
        """Add a batch of rows, whose data must be on disk already."""
        plain = [
            {"id": r.id, "start": r.start, "stop": r.stop, "crc": r.crc, "meta": r.meta}
            for r in rows
        ]
        entry = {"segment": segment, "seconds": round(seconds, 3), "rows": plain}
        self._append(entry if chunk is None else {**entry, "chunk": chunk})

    def strike(self, rows: Iterable[Row]) -> None:
        """Record that rows are damaged: they no longer exist until they are stored again."""
        places = [list(row.place) for row in rows]
        if places:
            self._append({"struck": places})

    def repair(self) -> dict[int, str]:
        """Remove the lines that cannot be used, except those of a later version.

        Returns:
            The faults of all odd lines as ``odd_lines``, including those that stay.
        """
        content = self._read()
        broken = content.odd.keys() - content.later
        if not broken:
            return dict(content.odd)
        with self._locked():
            content = self._read(anew=True)
            broken = content.odd.keys() - content.later
            with self._path.open("rb") as file:
                kept = [line for number, line in enumerate(file, 1) if number not in broken]
            write_whole(self._path, lambda path: path.write_bytes(b"".join(kept)))
        return dict(content.odd)

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = encode(entry)
        with self._locked(), self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")  # the last writer was cut off within its line
            file.write(b"\n" * torn + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if end == 0:
                fsync(self._path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The ledger's lock; it is held for milliseconds, so a long wait is worth a warning."""
        try:
            self._lock.acquire(timeout=IMPATIENT)
        except Timeout:
            LOG.warning("waiting for %s, which another process holds", self._lock.lock_file)
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _read(self, anew: bool = False) -> _Content:
        """The current content; only what was appended since is read."""
        with self._reading:
            try:
                file = self._path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                self._content = _Content()
                return self._content
            with file:
                status = os.fstat(file.fileno())
                known = self._content
                if anew or not known.begins(file, status):
                    known = _Content(inode=status.st_ino)
                file.seek(known.size)
                for line in file:
                    _take(known, line, known.lines + 1)
                    if line.endswith(b"\n"):
                        known.lines += 1
                        known.size += len(line)
                        known.last = line[-TAIL:]
                    else:
                        known.inode = -1  # read everything again when the line is complete
            known.mtime = status.st_mtime_ns
            self._content = known
            return known


def _take(content: _Content, line: bytes, number: int) -> None:
    """Add the content of a line."""
    whole = line.endswith(b"\n")
    if not line.strip():
        return
    try:
        entry = decode(line)
    except LaterVersionError as error:
        content.odd[number] = str(error)
        content.later.add(number)
        content.foreign |= {error.segment} if error.segment else set()
        return
    except (ValueError, RecursionError) as error:
        if whole:  # else its writer was cut off, or is still writing
            content.odd[number] = str(error) or "not JSON"
        return
    if "struck" in entry:
        for row_id, segment, start, stop in entry["struck"]:
            row = content.rows.get(row_id)
            if row and row.place == (row_id, segment, start, stop):
                del content.rows[row_id]
        return
    segment, chunk = entry["segment"], entry.get("chunk")
    content.seconds += entry.get("seconds", 0.0)
    if chunk is not None:
        content.chunks[segment] = chunk
    chunk = content.chunks.get(segment)  # a line of version 0.1.0 may add to a later segment
    for row in entry["rows"]:
        content.rows[row["id"]] = Row(**row, segment=segment, chunk=chunk)
        content.ends[segment] = max(content.ends.get(segment, 0), row["stop"])
