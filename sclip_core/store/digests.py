"""Digests of files, remembered by path, size, both times and inode.

A second run over 5,000 images stats 5,000 files instead of reading 800 MB. Size and modification
time alone do not identify a file's content: ``cp -p``, ``rsync -a`` and archives preserve them.
Where the path is not known, as at another mount point, name, size, times and inode are enough,
if the times are finer than seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.store import digest_snapshot
from sclip_core.store.digest_columns import NOTHING, Files, Record, hash_of, signed
from sclip_core.store.file_states import TICK, State, absolute, states_of
from sclip_core.store.files import write_whole
from sclip_core.store.hex_columns import DIGEST
from sclip_core.store.keys import canonical_json

TRIES = 3  # to read a file that is being written
SECOND = 1_000_000_000  # nanoseconds
LONGEST = 1 << 16  # bytes of a line; a path has at most 4,096, each up to six characters in JSON
SPARE = 1000  # outdated lines after which the memory is rewritten
BLOCK = 2**16  # lines that come into columns at once
LOOKED = 2**14  # files that are looked at before the next
TOGETHER = 64  # of these, read by a thread
THREADS = 4
SAVED = 10_000  # lines without a snapshot, from which on one is written
CHECKED = 20  # bytes of a line's checksum, with its comma, quotes and bracket
AGAIN = "was changed while it was in use: run again"


class Known(NamedTuple):
    """The state and digest of a file when it was read."""

    state: State
    sha256: str  # 64 hex digits; empty: the file was forgotten


FORGOTTEN = Known(State(-1, -1, -1, -1), "")


class Digests:
    """sha256 of files, remembered in a file of JSON lines with a checksum each."""

    def __init__(self, memory: Path, keep: bool = True) -> None:
        """Read what is remembered.

        Args:
            memory: the file of JSON lines; it need not exist.
            keep: whether new digests are written to it.
        """
        self._memory = memory
        self._keep = keep
        self._known: dict[str, Known] = {}  # since it was read
        self._load()

    def _load(self) -> None:
        """Read what is remembered: the snapshot, and the lines after it."""
        self._files, self._lines, self._end = Files(), 0, 0
        self._snapshot: digest_snapshot.Snapshot | None = None
        with suppress(OSError):
            if self._memory.is_file():
                with self._memory.open("rb") as file:
                    self._read_lines(file)

    def _read_lines(self, file: BinaryIO) -> None:
        self._snapshot = digest_snapshot.read(self._beside, file)
        if self._snapshot is not None:
            facts, self._files = self._snapshot.facts, self._snapshot.files
            self._lines, self._end = facts.lines, facts.size
        file.seek(self._end)
        some: list[Record] = []
        for line in iter(lambda: file.readline(LONGEST), b""):
            self._end += len(line)
            if line == b"\n":
                continue
            self._lines += 1
            if (read := _read_line(line.removesuffix(b"\n"))) is not None:
                some.append(_record(*read))
            if len(some) == BLOCK:
                self._files.add(some)
                some.clear()
        self._files.add(some)

    @property
    def _beside(self) -> Path:
        """Where the snapshot is."""
        return self._memory.with_suffix(digest_snapshot.SUFFIX)

    def of(self, path: Path) -> str:
        """The sha256 of one file, 64 hex digits.

        Raises:
            ImageError: the file cannot be read, or changes while it is read.
        """
        (digest,) = self.of_many([path])
        if isinstance(digest, ImageError):
            raise digest
        return digest

    def of_many(self, paths: Iterable[Path | str]) -> list[str | ImageError]:
        """The sha256 of each file, in order; for one that cannot be read, the error."""
        digests, errors = self.in_column(paths)
        found: list[str | ImageError] = [digest.tobytes().hex() for digest in digests]
        for at, error in errors.items():
            found[at] = error
        return found

    def in_column(self, paths: Iterable[Path | str]) -> tuple[NDArray[Any], dict[int, ImageError]]:
        """The sha256 of each file, in order, and the errors of those that cannot be read.

        Returns:
            (N,) digests of 32 bytes, zeros where there is an error; errors by position.
        """
        blocks, begin, rest = [np.zeros(0, DIGEST)], 0, iter(paths)
        errors: dict[int, ImageError] = {}
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            while some := list(map(absolute, islice(rest, LOOKED))):
                found, failed = self._look_at_all(some, pool)
                blocks.append(found)
                errors |= {begin + at: error for at, error in failed.items()}
                begin += len(some)
        self._save()
        if self._snapshot is not None:
            self._snapshot.release()
        return np.concatenate(blocks), errors

    def _look_at_all(
        self, paths: Sequence[str], pool: ThreadPoolExecutor
    ) -> tuple[NDArray[Any], dict[int, ImageError]]:
        """The digests of some files; those that are not known are read."""
        states = states_of(paths, pool)
        found = self._files.digests(paths, states)
        at_hand = [k for k, path in enumerate(paths) if path in self._known] if self._known else []
        for k in at_hand:  # what is known of it since is looked up one by one
            found[k : k + 1] = np.zeros(1, DIGEST)
        unknown = (found == np.zeros(1, DIGEST)).nonzero()[0].tolist()
        once = list(dict.fromkeys(paths[k] for k in unknown))
        read: dict[str, Known | ImageError] = {}
        parts = [once[first : first + TOGETHER] for first in range(0, len(once), TOGETHER)]
        for part, looked in zip(parts, pool.map(self._look_at_each, parts), strict=True):
            read |= zip(part, looked, strict=True)
            new = {path: now for path in part if isinstance(now := read[path], Known)}
            self._remember({path: now for path, now in new.items() if self.known(path) != now})
        errors = {}
        for k in unknown:
            now = read[paths[k]]
            if isinstance(now, Known):
                found[k] = np.void(bytes.fromhex(now.sha256))
            else:
                errors[k] = now
        return found, errors

    def forget(self, path: Path) -> None:
        """Read a file again the next time, even if it seems unchanged."""
        self._remember({os.path.abspath(path): FORGOTTEN})

    @contextmanager
    def unchanged(self, path: Path, digest: str) -> Iterator[None]:
        """Make sure that a file has a given digest while the block reads it.

        Args:
            path: the file.
            digest: its digest, as ``of`` returned it.

        Raises:
            UserError: the file has changed, or changes within the block; its digest is forgotten.
        """
        before = _hashed(os.path.abspath(path))
        if isinstance(before, ImageError):
            raise before
        if before.sha256 != digest:
            self.forget(path)
            raise UserError(f"{path} {AGAIN}")
        yield
        try:
            after = State.of(os.stat(path))
        except OSError as error:
            raise UserError(f"{path} can no longer be read: {error.strerror}") from None
        if after != before.state:
            self.forget(path)
            raise UserError(f"{path} {AGAIN}")

    def known(self, path: str) -> Known | None:
        """What is remembered of a file, which may have changed since.

        Args:
            path: absolute.
        """
        found = self._known.get(path)
        record = None if found else self._files.of_path(hash_of(path))
        return _of_record(record) if record else found

    def remembered(self, path: Path | str) -> str | None:
        """The digest of a file that is as it was when it was read; the file is not read."""
        name = absolute(path)
        known = self.known(name)
        with suppress(OSError):
            if known and known.sha256 and known.state == State.of(os.stat(name)):
                return known.sha256
        return None

    def _look_at_each(self, paths: Sequence[str]) -> list[Known | ImageError]:
        return list(map(self._look_at, paths))

    def _look_at(self, path: str) -> Known | ImageError:
        """The known digest of an unchanged file, or the result of reading it."""
        known = self.known(path)
        with suppress(OSError):  # ``_hashed`` reports the error
            state = State.of(os.stat(path))
            if known is None and state.ctime % SECOND:
                # Perhaps it is known by another path: another mount point. Times of whole seconds
                # are those of archives and images of disks, of which two may have the same files
                # but for their content.
                record = self._files.of_same(_same(path, state))
                known = _of_record(record) if record else None
            if known is not None and known.state == state and known.sha256:
                return known
        return _hashed(path)

    def _remember(self, files: Mapping[str, Known]) -> None:
        """Keep what was read, in memory and in the file."""
        self._known.update(files)
        if files and self._keep:
            # The memory only saves time; a stage that needs the disk reports an error.
            with suppress(OSError, UserError):
                self._append(files)
        if len(self._known) > BLOCK:
            self._files.add(_record(*item) for item in self._known.items())
            self._known.clear()

    def _save(self) -> None:
        """Write a snapshot if there are many lines without one: of all lines, also of others'."""
        covered = self._snapshot.facts.lines if self._snapshot else 0
        if not self._keep or self._lines - covered < max(SAVED, covered // 8):
            return
        with suppress(OSError, UserError):  # it only saves time
            self._load()
            with self._memory.open("rb") as file:
                file.seek(max(0, self._end - 1))
                crc = digest_snapshot.crc_of(file, self._end) if file.read(1) == b"\n" else None
            if crc is not None:
                facts = digest_snapshot.Facts(self._end, crc, self._lines)
                digest_snapshot.write(self._beside, facts, self._files)
                self._load()

    def _append(self, files: Mapping[str, Known]) -> None:
        """Append all lines at once, so that those of several processes do not mix."""
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        if self._lines + len(files) > 2 * (len(self._files) + len(self._known)) + SPARE:
            self._write_anew()
            return
        with self._memory.open("a", encoding="ascii") as file:
            file.write("".join(f"\n{_line(*item)}" for item in files.items()) + "\n")
        self._lines += len(files)

    def _write_anew(self) -> None:
        """Rewrite the memory with one line for each file; lines that others append may be lost."""
        latest = dict(filter(None, map(_read_line, _lines_of(self._memory))))
        lines = [
            _line(path, known) for path, known in {**latest, **self._known}.items() if known.sha256
        ]
        text = "".join(f"{line}\n" for line in lines)
        mode = stat.S_IMODE(self._memory.stat().st_mode)  # it may be shared by a group
        write_whole(self._memory, lambda path: path.write_text(text, encoding="ascii"), sync=False)
        self._memory.chmod(mode)
        self._lines = len(lines)


def _same(path: str, state: State) -> int:
    """A hash of what a file keeps at another mount point."""
    return hash_of(f"{os.path.basename(path)}\0{tuple(state)}")


def _record(path: str, known: Known) -> Record:
    """What is remembered of a file, for the columns."""
    digest = bytes.fromhex(known.sha256) or NOTHING
    size, mtime, ctime, inode = known.state
    same = _same(path, known.state)
    return Record(hash_of(path), same, size, mtime, ctime, signed(inode), digest)


def _of_record(record: Record) -> Known:
    """What is remembered of a file, from the columns."""
    digest = record.sha256.hex() if any(record.sha256) else ""
    inode = record.inode % 2**64
    return Known(State(record.size, record.mtime, record.ctime, inode), digest)


def _hashed(path: str) -> Known | ImageError:
    """Read a file; the state returned is that of the bytes that were read."""
    try:
        for _ in range(TRIES):
            # Checked before opening: opening a pipe would wait for a writer.
            if not stat.S_ISREG(os.stat(path).st_mode):
                return ImageError(f"{path} is not a file")
            with open(path, "rb") as file:
                before = State.of(os.fstat(file.fileno()))
                _let_the_clock_tick(before)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if State.of(os.fstat(file.fileno())) == before:
                    return Known(before, digest)
    except OSError as error:
        return ImageError(f"{path} cannot be read: {error.strerror}")
    return ImageError(f"{path} {AGAIN}")


def _let_the_clock_tick(state: State) -> None:
    """Wait until a further change of a file that was just written would get another time."""
    age = time.time_ns() - max(state.mtime, state.ctime)
    if 0 <= age < TICK:
        time.sleep((TICK - age) / 1e9)


def _lines_of(memory: Path) -> Iterator[bytes]:
    """The lines of the memory; none if it cannot be read."""
    with suppress(OSError):
        if memory.is_file():
            with memory.open("rb") as file:
                for line in iter(lambda: file.readline(LONGEST), b""):
                    if line != b"\n":
                        yield line.removesuffix(b"\n")


def _line(path: str, known: Known) -> str:
    """A line of the memory: path, size, both times, inode, digest, and their checksum."""
    content = [path, *known.state, known.sha256]
    return canonical_json([*content, _checksum(content)])


def _read_line(line: bytes) -> tuple[str, Known] | None:
    """The path and digest in a line; None if it is torn, edited, or of version 0.1.0."""
    if len(line) >= LONGEST:
        return None
    with suppress(ValueError, TypeError, RecursionError):
        # Of our own lines the checksum is of the text itself.
        head, check = line[:-CHECKED], line[-CHECKED:]
        if check != b',"%s"]' % _checksum_of(head + b"]").encode():
            return None
        path, *numbers, digest, _ = json.loads(line)
        right = isinstance(path, str) and isinstance(digest, str) and len(numbers) == 4
        right = right and all(type(n) is int and abs(n) < 2**63 for n in numbers[:3])
        right = right and type(numbers[3]) is int and -1 <= numbers[3] < 2**64
        if right and (digest == "" or len(bytes.fromhex(digest)) == 32):
            return path, Known(State(*numbers), digest)
    return None


def _checksum(content: Sequence[object]) -> str:
    """The checksum of a line's content, 16 hex digits."""
    return _checksum_of(canonical_json(content).encode())


def _checksum_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
