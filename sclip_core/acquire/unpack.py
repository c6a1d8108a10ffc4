"""The files of an archive that are needed, written below a root and nowhere else."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from sclip_core.acquire import AGAIN, SILENT, Progress
from sclip_core.acquire.members import Member, chunks, members
from sclip_core.acquire.sources import Archive
from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.store.files import fsync, write_whole, written_to

LIMIT = 4 * 2**30  # bytes of a member; no benchmark has a file that large
DEEPEST = 32  # folders


class Unpacked(NamedTuple):
    """How many files ``unpack`` wrote, and how many were there with the same content."""

    written: int
    there: int


def unpack(
    archive: Archive, path: Path, root: Path, progress: Progress = SILENT, force: bool = False
) -> Unpacked:
    """Unpack what is needed, each file whole or not at all, and note that it is done.

    The disk is asked to keep the files once, before the note is written: if the machine itself
    stops earlier, the next call writes those that were left empty, and refuses one that was cut.

    Args:
        archive: says which members are needed, and where they go.
        path: the archive, zip or tar by its content.
        root: where to; it is made if need be.
        progress: shows how much of the archive has been read, in bytes.
        force: replace files that are there with other content.

    Raises:
        UserError: the archive is damaged or lacks something, a member would land outside the
            root, is no plain file, too large or encrypted, or another file is in its place.
        DiskError: a file cannot be written.
    """
    with written_to(root, AGAIN):
        root.mkdir(parents=True, exist_ok=True)
    work = _Unpacking(archive, path, root, force)
    if archive.split:
        work.read_split(archive.split)
    with closing(members(path, progress)) as found:
        for member in found:
            work.consider(member)
    work.check_complete()
    work.sync()
    text = json.dumps({**_made_of(archive), "files": work.files})
    record = _record(archive, root)
    with written_to(record.parent, AGAIN):
        record.parent.mkdir(parents=True, exist_ok=True)
    write_whole(record, lambda temporary: temporary.write_text(text, "utf-8"))
    return Unpacked(work.written, work.there)


def unpacked(archive: Archive, root: Path) -> bool:
    """Whether all that is needed of an archive is there; the archive itself may be gone.

    True if ``unpack`` finished with this archive, and each file still has its size.
    """
    try:
        record = json.loads(_record(archive, root).read_text("utf-8"))
        files = record.pop("files")
        return bool(record == _made_of(archive)) and all(
            (root / name).stat().st_size == size for name, size in files.items()
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # gone, damaged, no record
        return False


def _record(archive: Archive, root: Path) -> Path:
    return root / "downloads" / f"{archive.name}.unpacked.json"


def _made_of(archive: Archive) -> dict[str, Any]:
    """What a record is valid for."""
    return {"checksum": archive.checksum, "unpack": archive.unpack, "split": archive.split}


class _Unpacking:
    """The state of one call of ``unpack``."""

    def __init__(self, archive: Archive, path: Path, root: Path, force: bool) -> None:
        self.archive, self.path, self.root, self.force = archive, path, root, force
        self.rules = [(_compiled(name), name, to) for name, to in archive.unpack.items()]
        self.ids: set[str] | None = None  # the ids that are needed; None: all
        self.checked: set[Path] = set()  # folders that do not lead out of the root
        self.seen: set[str] = set()  # patterns and members that were found
        self.files: dict[str, int] = {}  # places below the root -> bytes
        self.written = self.there = 0

    def read_split(self, name: str) -> None:
        """Unpack the member that lists what is needed, and read it."""
        for member in members(self.path):
            if member.name == name:
                self._put(member, name)
                break
        else:
            raise self._bad(f"has no {name}, which lists what is needed")
        try:
            lines = (self.root / name).read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise self._bad(f"has a {name} that cannot be read ({error})") from None
        self.ids = {line.strip() for line in lines} - {""}
        if not self.ids:
            raise self._bad(f"has a {name} that lists nothing")

    def consider(self, member: Member) -> None:
        """Unpack a member if it is needed and not the list itself, which was read before."""
        if member.name == self.archive.split:
            return
        for pattern, name, to in self.rules:
            found = pattern.fullmatch(member.name)
            if not found:
                continue
            text = found.groupdict().get("id", "")
            if self.ids is None or "{id}" not in name or text in self.ids:
                self._put(member, to.replace("{id}", text))
                self.seen.add(name)

    def check_complete(self) -> None:
        """Raise where something that is needed was not in the archive."""
        needed = list(self.archive.unpack)
        if self.ids is not None:
            needed = sorted({p.replace("{id}", i) for p in needed for i in self.ids})
        gone = [name for name in needed if name not in self.seen]
        if gone:
            raise self._bad(
                f"lacks {len(gone)} of {len(needed)} that are needed, such as {gone[0]}"
            )

    def sync(self) -> None:
        """Wait until the disk has all that was written."""
        os.sync()  # all at once; the calls below find little to do, but are told of faults
        for path in [*(self.root / name for name in self.files), *self.checked]:
            with written_to(path, AGAIN):
                fsync(path)

    def _put(self, member: Member, to: str) -> None:
        """Write a member's content to its place, unless it is there."""
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
        self.seen.add(member.name)
        self.files[to] = member.size

    def _place(self, member: Member, to: str) -> Path:
        """A place below the root, its folder made; never one outside of it, links included."""
        pure = PurePosixPath(to)
        odd = "\\" in to or not to.isprintable() or PureWindowsPath(to).drive
        if odd or pure.is_absolute() or ".." in pure.parts or not 0 < len(pure.parts) <= DEEPEST:
            raise self._bad(f"cannot be trusted: {shown(member.name)} would leave {self.root}")
        target = self.root / pure
        folder = target.parent
        if folder not in self.checked:
            with written_to(folder, AGAIN):
                if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.root)):
                    raise UserError(
                        f"{folder} leads out of {self.root} by a symbolic link, nothing is "
                        f"unpacked there: replace the link by a folder, then {AGAIN}"
                    )
                folder.mkdir(parents=True, exist_ok=True)
            self.checked.add(folder)
        return target

    def _is_there(self, member: Member, target: Path) -> bool:
        """Whether its content is; another content is an error unless it is to be replaced."""
        try:
            if not target.exists():
                return False
            size = target.stat().st_size
            if member.size and not size and target.is_file():
                return False  # what a machine that stopped leaves behind
            if size == member.size:
                with open(target, "rb") as there:
                    if all(part == there.read(len(part)) for part in chunks(self.path, member)):
                        return True
        except OSError as error:
            raise UserError(f"{target} cannot be read ({error.strerror}): {AGAIN}") from None
        if not self.force:
            raise UserError(
                f"{target} is there with another content than in {self.path.name}: move it away, "
                "or have it replaced (--force)"
            )
        return False

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
