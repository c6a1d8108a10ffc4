"""The ledger of an artifact: the one place that says which rows are there.

A line is appended and fsynced after its data. What has no line does not exist; a line torn by a
crash is skipped. A line carries a checksum of its own, so that an altered size, range or id is
noticed; lines of version 0.1.0 have none and are taken as they are. A row that is found damaged is
struck by a later line, and exists again when it is computed again.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from sclip_core.store.files import fsync, write_whole

LOG = logging.getLogger(__name__)
CHECK = b'{"check": '  # how a line with a checksum begins; it covers all bytes after the comma
BATCH = {"segment", "seconds", "rows"}  # keys of a line that adds rows
OPTIONAL = {"chunk"}  # since 0.2
ROW = {"id", "start", "stop", "crc", "meta"}
TAIL = 64  # bytes by which a file is recognised
LONGEST_NAME = 100  # signs of a segment's name; a file's has 255 bytes with its ending
LONGEST = 1e12  # seconds of a batch: thirty thousand years are damage
IMPATIENT = 5.0  # seconds after which somebody who waits for a lock says so
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
        """What sets this row apart from another computation of the same row."""
        return (self.id, self.segment, self.start, self.stop)


@dataclass
class _Content:
    """What was read of the file so far."""

    inode: int = -1
    mtime: int = -1
    size: int = 0  # bytes that were read, up to the last line break
    last: bytes = b""  # of these
    lines: int = 0
    seconds: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # of segments
    chunks: dict[str, int] = field(default_factory=dict)  # of segments
    odd: dict[int, str] = field(default_factory=dict)  # number of a line: what is wrong with it
    later: set[int] = field(default_factory=set)  # of those, lines of a later version
    foreign: set[str] = field(default_factory=set)  # segments of those

    def is_begin_of(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Whether the file still begins with what was read: it may have been replaced."""
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
        """First position of a segment that no line claims."""
        return self._read().ends.get(segment, 0)

    def chunk_of(self, segment: str) -> int | None:
        """Values of the first axis in a chunk of a segment; None: no line says so."""
        return self._read().chunks.get(segment)

    def foreign(self) -> set[str]:
        """The segments that other versions wrote, of which it is not known how to go on."""
        content = self._read()
        return content.foreign | (content.ends.keys() - content.chunks.keys())

    def seconds(self) -> float:
        """Time that all batches took; of a pass that several artifacts share, each has all."""
        return self._read().seconds

    def odd_lines(self) -> dict[int, str]:
        """Lines that say nothing that can be used, by their number, and what is wrong with them.

        A last line that a crash has torn is not among them.
        """
        return dict(self._read().odd)

    def append(
        self, segment: str, rows: Sequence[Row], seconds: float, chunk: int | None = None
    ) -> None:
        """Make a batch exist: its data must be on disk already."""
        plain = [
            {"id": r.id, "start": r.start, "stop": r.stop, "crc": r.crc, "meta": r.meta}
            for r in rows
        ]
        entry = {"segment": segment, "seconds": round(seconds, 3), "rows": plain}
        self._append(entry if chunk is None else {**entry, "chunk": chunk})

    def strike(self, rows: Iterable[Row]) -> None:
        """Take note that rows are damaged: they do not exist any more, unless stored again."""
        places = [list(row.place) for row in rows]
        if places:
            self._append({"struck": places})

    def repair(self) -> dict[int, str]:
        """Remove the lines that cannot be used, but for those of a later version.

        Returns:
            What was wrong with each odd line, those that stay included; see ``odd_lines``.
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
        body = json.dumps(entry).encode()[1:]
        line = CHECK + str(zlib.crc32(body)).encode() + b", " + body
        with self._locked(), self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")  # the last writer was cut off in its line
            file.write(b"\n" * torn + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if end == 0:
                fsync(self._path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The ledger's lock; it is held for milliseconds, so a long wait is worth a line."""
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
        """The content as it is now; only what was appended is read again."""
        with self._reading:
            try:
                file = self._path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                self._content = _Content()
                return self._content
            with file:
                status = os.fstat(file.fileno())
                known = self._content
                if anew or not known.is_begin_of(file, status):
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
    """Add what a line says."""
    whole = line.endswith(b"\n")
    if not line.strip():
        return
    try:
        entry = _entry(line)
    except _LaterVersion as error:
        content.odd[number] = str(error)
        content.later.add(number)
        content.foreign |= {error.segment} if error.segment else set()
        return
    except (ValueError, RecursionError) as error:
        if whole:  # else the writer was cut off, or is at it
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


class _LaterVersion(Exception):
    """A line that is whole, and means something that this version does not know."""

    def __init__(self, line: str, segment: Any) -> None:
        super().__init__(line)
        self.segment = segment if isinstance(segment, str) else None


def _entry(line: bytes) -> dict[str, Any]:
    """What a line says.

    Raises:
        ValueError: nothing that can be used.
        _LaterVersion: something that only a later version understands.
    """
    checked = line.startswith(CHECK)
    if checked:
        head, _, body = line.rstrip(b"\r\n").partition(b", ")
        if not head[len(CHECK) :].isdigit() or zlib.crc32(body) != int(head[len(CHECK) :]):
            raise ValueError("its checksum is wrong")
        line = b"{" + body
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    fault = _fault(entry)
    if fault and checked:
        raise _LaterVersion(f"of a later version: {fault}", entry.get("segment"))
    if fault:
        raise ValueError(fault)
    return entry


def _fault(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with the content of a line; None: nothing."""
    if entry.keys() == {"struck"}:
        places = entry["struck"]
        fine = isinstance(places, list) and all(map(_is_place, places))
        return None if fine else "odd struck rows"
    lacking, unknown = (BATCH - {"seconds"}) - entry.keys(), entry.keys() - BATCH - OPTIONAL
    if lacking or unknown:
        return f"keys {sorted(lacking)} are missing, {sorted(map(str, unknown))} are not known"
    seconds, chunk = entry.get("seconds", 0.0), entry.get("chunk", 1)
    if not isinstance(entry["segment"], str) or not _is_segment(entry["segment"]):
        return "odd segment"
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < LONGEST:
        return "odd seconds"
    if not _is_count(chunk) or chunk == 0:
        return "odd chunk"
    if not isinstance(entry["rows"], list) or not all(map(_is_row, entry["rows"])):
        return "odd rows"
    return None


def _is_segment(name: str) -> bool:
    """Whether a name is that of a file in the artifact's own folder."""
    plain = name.isprintable() and not {"/", "\\"} & set(name)
    return plain and 0 < len(name) <= LONGEST_NAME and not name.startswith(".")


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and row.keys() == ROW
        and isinstance(row["id"], str)
        and all(_is_count(row[name]) for name in ("start", "stop", "crc"))
        and row["start"] <= row["stop"] < 2**48
        and isinstance(row["meta"], dict)
    )


def _is_place(place: Any) -> bool:
    return (
        isinstance(place, list)
        and len(place) == 4
        and all(isinstance(name, str) for name in place[:2])
        and all(_is_count(number) for number in place[2:])
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
