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
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import ImageError, UserError
from sclip_core.store.digest_columns import Files, Record
from sclip_core.store.files import write_whole
from sclip_core.store.keys import canonical_json

TRIES = 3  # to read a file that is being written
TICK = 20_000_000  # nanoseconds; two writes within a tick of the kernel's clock have equal times
SECOND = 1_000_000_000  # nanoseconds
LONGEST = 1 << 16  # bytes of a line; a path has at most 4,096, each up to six characters in JSON
SPARE = 1000  # outdated lines after which the memory is rewritten
BLOCK = 2**16  # lines that come into columns at once
TOGETHER = 64  # files that a thread looks at before the next
CHECKED = 20  # bytes of a line's checksum, with its comma, quotes and bracket
AGAIN = "was changed while it was in use: run again"


class State(NamedTuple):
    """What the file system says about a file."""

    size: int  # bytes
    mtime: int  # nanoseconds, as are all times
    ctime: int  # set by the kernel, so programs cannot preserve it
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """The state in a result of ``os.stat``."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


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
        self._files = Files()  # as read
        self._known: dict[str, Known] = {}  # since then
        self._lines = 0  # in the file, including outdated ones
        some: list[Record] = []
        for line in _lines_of(memory):
            self._lines += 1
            if (read := _read_line(line)) is not None:
                some.append(_record(*read))
            if len(some) == BLOCK:
                self._files.add(some)
                some.clear()
        self._files.add(some)

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
        absolute = [os.path.abspath(path) for path in paths]
        once = list(dict.fromkeys(absolute))
        digests: dict[str, str | ImageError] = {}
        with ThreadPoolExecutor(max_workers=4) as pool:
            for begin in range(0, len(once), BLOCK):
                some = once[begin : begin + BLOCK]
                parts = [some[first : first + TOGETHER] for first in range(0, len(some), TOGETHER)]
                for part, found in zip(parts, pool.map(self._look_at_all, parts), strict=True):
                    pairs = list(zip(part, found, strict=True))
                    new = {path: now for path, now in pairs if isinstance(now, Known)}
                    self._remember({p: now for p, now in new.items() if self.known(p) != now})
                    digests.update((p, _digest_of(now)) for p, now in pairs)
        return [digests[path] for path in absolute]

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
        record = None if found else self._files.of_path(hash(path))
        return _of_record(record) if record else found

    def _look_at_all(self, paths: Sequence[str]) -> list[Known | ImageError]:
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


def _digest_of(found: Known | ImageError) -> str | ImageError:
    return found.sha256 if isinstance(found, Known) else found


def _same(path: str, state: State) -> int:
    """A hash of what a file keeps at another mount point; Python's, of 64 bits."""
    return hash((os.path.basename(path), *state))


def _record(path: str, known: Known) -> Record:
    """What is remembered of a file, for the columns."""
    digest = bytes.fromhex(known.sha256) or bytes(32)
    size, mtime, ctime, inode = known.state
    signed = (inode + 2**63) % 2**64 - 2**63
    return Record(hash(path), _same(path, known.state), size, mtime, ctime, signed, digest)


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
