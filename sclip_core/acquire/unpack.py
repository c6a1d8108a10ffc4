"""What is needed of an archive, below a root and nowhere else."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from sclip_core.acquire.members import CHUNK, Member, chunks, followed, opened
from sclip_core.acquire.progress import AGAIN, Progress
from sclip_core.acquire.sources import Archive
from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.store.files import fsync, write_whole, written_to

LIMIT = 4 * 2**30  # bytes of a member; nothing that a benchmark needs comes near
DEEPEST = 32  # folders


class Unpacked(NamedTuple):
    """What ``unpack`` did."""

    written: int
    there: int  # already, with the same content


def unpack(
    archive: Archive,
    path: Path,
    root: Path,
    progress: Progress | None = None,
    force: bool = False,
) -> Unpacked:
    """Unpack what is needed, each file whole or not at all, and note that it is done.

    The disk is asked to keep the files once, before the note: where the machine itself stops
    earlier, the next call writes those that it left empty, and refuses one that it left cut.

    Args:
        archive: says which members are needed, and where they go.
        path: of the archive, zip or tar, by its content.
        root: where to; made if need be.
        progress: is told how much of the archive has been seen, in bytes.
        force: replace files that are there with other content.

    Raises:
        UserError: the archive is torn or lacks something, a member would land outside the root,
            is no plain file, too large or encrypted, or another file is in its place.
        DiskError: a file cannot be written.
    """
    with written_to(root, AGAIN):
        root.mkdir(parents=True, exist_ok=True)
    work = _Unpacking(archive, path, root, force)
    with opened(path) as members:
        if progress:
            progress.start(path.name, path.stat().st_size, 0)
        try:
            work.all(followed(path, members, progress))
            work.check_complete()
            work.settle()
        finally:
            if progress:
                progress.finish()
    _write_record(archive, root, work.files)
    return Unpacked(work.written, work.there)


def unpacked(archive: Archive, root: Path) -> bool:
    """Whether all that is needed of an archive is there; the archive itself may be gone.

    True where ``unpack`` came to its end with this archive, and each file still has its size.
    """
    try:
        record = json.loads(_record(archive, root).read_text("utf-8"))
        files = record.pop("files")
        return bool(record == _made_of(archive)) and all(
            (root / name).stat().st_size == size for name, size in files.items()
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # gone, torn, no record
        return False


def _record(archive: Archive, root: Path) -> Path:
    return root / "downloads" / f"{archive.name}.unpacked.json"


def _made_of(archive: Archive) -> dict[str, Any]:
    """What a record is valid for."""
    return {"checksum": archive.checksum, "unpack": archive.unpack, "split": archive.split}


def _write_record(archive: Archive, root: Path, files: dict[str, int]) -> None:
    path, text = _record(archive, root), json.dumps({**_made_of(archive), "files": files})
    with written_to(path.parent, AGAIN):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: temporary.write_text(text, "utf-8"))


class _Unpacking:
    """One archive on its way to its places."""

    def __init__(self, archive: Archive, path: Path, root: Path, force: bool) -> None:
        self.archive, self.path, self.root, self.force = archive, path, root, force
        self.rules = [(_compiled(name), name, to) for name, to in archive.unpack.items()]
        self.ids: set[str] | None = None
        self.safe: set[Path] = set()  # folders that were looked at
        self.names: set[str] = set()  # of the members that were needed
        self.seen: set[str] = set()  # patterns that matched something
        self.files: dict[str, int] = {}  # places below the root -> bytes
        self.written = self.there = 0

    def all(self, members: Iterator[Member]) -> None:
        """In one pass: what comes before the split waits for it."""
        waiting = []
        for member in members:
            if member.name == self.archive.split:
                self._put(member, member.name)
                self.ids = self._read_ids(member.name)
            elif self.archive.split and self.ids is None:
                waiting.append(member)
            else:
                self._consider(member)
        if self.archive.split and self.ids is None:
            raise self._bad(f"has no {self.archive.split}, which lists what is needed")
        for member in waiting:
            self._consider(member)

    def check_complete(self) -> None:
        """Raise where something that is needed was not in the archive."""
        patterns = self.archive.unpack
        if self.ids is None:
            gone = [pattern for pattern in patterns if pattern not in self.seen]
            needed = len(patterns)
        else:
            names = {p.replace("{id}", i) for p in patterns for i in self.ids}
            gone, needed = sorted(names - self.names), len(names)
        if gone:
            raise self._bad(f"lacks {len(gone)} of {needed} that are needed, such as {gone[0]}")

    def settle(self) -> None:
        """Wait until the disk has what is noted as done."""
        os.sync()  # all at once; what follows finds little to do, but is told of faults
        for path in [*(self.root / name for name in self.files), *self.safe]:
            with written_to(path, AGAIN):
                fsync(path)

    def _read_ids(self, name: str) -> set[str]:
        """Of the split, which is in its place by now."""
        try:
            ids = {line.strip() for line in (self.root / name).read_text("utf-8").splitlines()}
        except (OSError, ValueError) as error:
            raise self._bad(f"has a {name} that cannot be read ({error})") from None
        if not ids - {""}:
            raise self._bad(f"has a {name} that lists nothing")
        return ids - {""}

    def _consider(self, member: Member) -> None:
        """Unpack a member if it is needed."""
        for pattern, name, to in self.rules:
            found = pattern.fullmatch(member.name)
            if not found:
                continue
            text = found.groupdict().get("id", "")
            if self.ids is None or "{id}" not in name or text in self.ids:
                self._put(member, to.replace("{id}", text))
                self.seen.add(name)

    def _put(self, member: Member, to: str) -> None:
        """Have a member's content at its place."""
        if member.fault:
            raise self._bad(f"cannot be trusted: {shown(member.name)} {member.fault}")
        if member.size > LIMIT:
            raise self._bad(f"cannot be trusted: {shown(member.name)} has {member.size} bytes")
        target = self._place(member, to)
        if self._is_there(member, target):
            self.there += 1
        else:
            write_whole(target, lambda temporary: self._copy(member, temporary), sync=False)
            self.written += 1
        self.names.add(member.name)
        self.files[to] = member.size

    def _place(self, member: Member, to: str) -> Path:
        """A place below the root, its folder made; never one outside, by whatever way."""
        pure = PurePosixPath(to)
        odd = "\\" in to or not to.isprintable() or PureWindowsPath(to).drive
        if odd or pure.is_absolute() or ".." in pure.parts or not 0 < len(pure.parts) <= DEEPEST:
            raise self._bad(f"cannot be trusted: {shown(member.name)} would leave {self.root}")
        target = self.root / pure
        folder = target.parent
        if folder not in self.safe:
            with written_to(folder, AGAIN):
                if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.root)):
                    raise UserError(
                        f"{folder} leads out of {self.root} by a symbolic link, nothing is "
                        f"unpacked there: replace the link by a folder, then {AGAIN}"
                    )
                folder.mkdir(parents=True, exist_ok=True)
            self.safe.add(folder)
        return target

    def _is_there(self, member: Member, target: Path) -> bool:
        """Whether its content is; another content is an error unless it is to be replaced."""
        try:
            if not target.exists():
                return False
            if member.size and target.is_file() and not target.stat().st_size:
                return False  # what a machine that stopped leaves behind
            if self._same(member, target):
                return True
        except OSError as error:
            raise UserError(f"{target} cannot be read ({error.strerror}): {AGAIN}") from None
        if not self.force:
            raise UserError(
                f"{target} is there with another content than in {self.path.name}: move it away, "
                "or have it replaced (--force)"
            )
        return False

    def _same(self, member: Member, target: Path) -> bool:
        if target.stat().st_size != member.size:
            return False
        with open(target, "rb") as there:
            if member.crc is None:
                return all(chunk == there.read(len(chunk)) for chunk in chunks(self.path, member))
            crc = 0
            while chunk := there.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
        return crc == member.crc

    def _copy(self, member: Member, to: Path) -> None:
        with open(to, "wb") as file:
            for chunk in chunks(self.path, member):
                file.write(chunk)

    def _bad(self, what: str) -> UserError:
        return UserError(f"{self.path} {what}: remove it, then {AGAIN}")


def _compiled(pattern: str) -> re.Pattern[str]:
    before, id_, after = pattern.partition("{id}")
    middle = "(?P<id>.+)" if id_ else ""
    return re.compile(re.escape(before) + middle + re.escape(after), re.DOTALL)
