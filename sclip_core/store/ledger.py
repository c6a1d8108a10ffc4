"""The ledger of an artifact: the one place that says which rows exist.

A line is appended and fsynced after its data. Data without a line do not exist; a line torn by a
crash is skipped. Every line carries a checksum, so that an altered size, range or id is noticed;
lines of version 0.1.0 have none and are taken as they are. A row that is found damaged is struck by
a later line, and exists again when it is computed again. A snapshot beside a long ledger
(``ledger_snapshot``) saves reading its lines.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from filelock import FileLock, Timeout

from sclip_core.store import ledger_snapshot as snapshot
from sclip_core.store.files import DiskError, fsync, write_whole
from sclip_core.store.ledger_columns import Place, Row
from sclip_core.store.ledger_lines import LaterVersionError, decode, encode
from sclip_core.store.ledger_rows import GrowingRows, Rows

__all__ = ["Ledger", "Place", "Row", "Rows"]

LOG = logging.getLogger(__name__)
IMPATIENT = 5.0  # seconds of waiting for a lock before a warning
# Bytes of lines without a snapshot that are worth one: while rows are stored, and then.
MUCH, SOME = 2**23, 2**20


@dataclass
class _Content:
    """What was read from the file so far."""

    inode: int = -1
    mtime: int = -1
    size: int = 0  # bytes read, up to the last line break
    crc: int = 0  # CRC-32 of these bytes
    last: bytes = b""  # the last of these bytes
    lines: int = 0
    seconds: float = 0.0
    rows: GrowingRows = field(default_factory=GrowingRows)
    ends: dict[str, int] = field(default_factory=dict)  # by segment
    chunks: dict[str, int] = field(default_factory=dict)  # by segment
    odd: dict[int, str] = field(default_factory=dict)  # faults by the number of the line
    later: set[int] = field(default_factory=set)  # numbers of odd lines of a later version
    foreign: set[str] = field(default_factory=set)  # segments that those lines name

    @classmethod
    def of_snapshot(cls, path: Path, file: BinaryIO) -> _Content:
        """What the snapshot of an open ledger says; nothing, if there is none of it."""
        found = snapshot.read(path)
        last = snapshot.covers(found[0], file) if found else None
        if found is None or last is None:
            return cls()
        facts, columns = found
        return cls(
            size=facts.size,
            crc=facts.crc,
            last=last,
            lines=facts.lines,
            seconds=facts.seconds,
            rows=GrowingRows(columns),
            ends=facts.ends,
            chunks=facts.chunks,
        )

    def facts(self) -> snapshot.Facts:
        """What a snapshot says beside the rows."""
        return snapshot.Facts(self.size, self.crc, self.lines, self.seconds, self.ends, self.chunks)

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

    _shared: ClassVar[weakref.WeakValueDictionary[str, Ledger]] = weakref.WeakValueDictionary()
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, snapshots: bool = True) -> None:
        """Name the file; it need not exist.

        Args:
            path: the file.
            snapshots: False: each line is read.
        """
        self._path = path
        self._snapshot = path.with_name(snapshot.NAME) if snapshots else None
        self._covered = 0  # bytes in the last snapshot that was read or written
        self._lock = FileLock(str(path) + ".lock")
        self._reading = threading.RLock()
        self._content = _Content()

    @classmethod
    def at(cls, path: Path) -> Ledger:
        """The ledger of this process at a path, which is read once."""
        name = os.path.abspath(path)
        with cls._sharing:
            found = cls._shared.get(name)
            if found is None:
                found = cls._shared[name] = cls(path)
        return found

    @classmethod
    def forked(cls) -> None:
        """In a new process: another thread may have held the locks when it was forked."""
        cls._sharing, cls._shared = threading.Lock(), weakref.WeakValueDictionary()

    def rows(self) -> Rows:
        """Every row by its id, as of now; a later line replaces an earlier one."""
        with self._reading:
            return self._read().rows.view()

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

    def save_snapshot(self, least: int = SOME) -> None:
        """Write a snapshot if so many bytes of lines are in none; it only saves time.

        No snapshot is written of a ledger with lines that cannot be used.
        """
        if self._snapshot is None:
            return
        with self._reading:
            content = self._read()
            if content.inode == -1:  # a line that is not whole yet, which a snapshot does not cover
                return
            if content.odd or content.size - self._covered < least or not content.rows.settle():
                return
            facts, columns = content.facts(), content.rows.columns
            self._covered = content.size
        with suppress(DiskError):
            snapshot.write(self._snapshot, facts, columns)

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
        least = max(MUCH, self._covered // 2)
        if end - self._covered > least:
            self.save_snapshot(least)

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
                    known = self._begun(file, status, anew)
                file.seek(known.size)
                for line in file:
                    _take(known, line, known.lines + 1)
                    if line.endswith(b"\n"):
                        known.lines += 1
                        known.size += len(line)
                        known.crc = zlib.crc32(line, known.crc)
                        known.last = line[-snapshot.TAIL :]
                    else:
                        known.inode = -1  # read everything again when the line is complete
            known.rows.rest()
            known.mtime = status.st_mtime_ns
            self._content = known
            return known

    def _begun(self, file: BinaryIO, status: os.stat_result, anew: bool) -> _Content:
        """What need not be read of a file that is not known yet, or was replaced."""
        found = _Content()
        if self._snapshot is not None and not anew and status.st_size >= SOME:
            found = _Content.of_snapshot(self._snapshot, file)
        self._covered, found.inode = found.size, status.st_ino
        return found


os.register_at_fork(after_in_child=Ledger.forked)


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
            content.rows.strike((row_id, segment, start, stop))
        return
    segment, chunk = entry["segment"], entry.get("chunk")
    content.seconds += entry.get("seconds", 0.0)
    if chunk is not None:
        content.chunks[segment] = chunk
    chunk = content.chunks.get(segment)  # a line of version 0.1.0 may add to a later segment
    for row in entry["rows"]:
        content.rows.put(Row(**row, segment=segment, chunk=chunk))
        content.ends[segment] = max(content.ends.get(segment, 0), row["stop"])
