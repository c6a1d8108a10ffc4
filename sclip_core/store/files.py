"""Atomic writing of files, and errors of the disk as one line."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sclip_core.config import UserError, refused_by_system

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FOR_GOOD = FULL | {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
TEMPORARY = ".writing."  # prefix of files that are not complete yet
KEPT = "what was computed is kept; fix that and run again"


class DiskError(UserError):
    """Something could not be written; what was there before is unchanged."""

    def __init__(self, line: str, may_pass: bool = False) -> None:
        """Take the message, and whether another try may help."""
        super().__init__(line)
        self.may_pass = may_pass


@contextmanager
def written_to(path: Path, advice: str = KEPT) -> Iterator[None]:
    """Turn an error of the disk within the block into one line.

    Args:
        path: what is written, for the message.
        advice: what to do then.

    Raises:
        DiskError: the disk is full, read-only, gone, ...
    """
    try:
        yield
    except FileExistsError:  # as a folder
        raise DiskError(f"{path} is a file, where a folder is needed; {advice}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        space = "free some space: " if error.errno in FULL else ""
        line = f"{path} cannot be written ({reason}); {space}{advice}"
        raise DiskError(line, error.errno not in FOR_GOOD) from None


def refuse_to_guess(path: Path, error: Exception) -> None:
    """Raise if reading failed for a reason that says nothing about the stored data.

    With too many open files or too little memory the data may be undamaged.

    Raises:
        DiskError: with that reason.
    """
    reason = refused_by_system(error)
    if reason:
        line = f"{path} cannot be read ({reason}); what was computed is kept; run again"
        raise DiskError(line, may_pass=True) from None


def write_whole(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Write a temporary file next to the target, fsync it, and rename it.

    Args:
        path: the target; an older file is replaced.
        write: writes the content to the path that it is given.
        sync: False: the caller writes many files and syncs once at the end.

    Raises:
        DiskError: it could not be written; an older file is unchanged.
    """
    with written_to(path):
        prefix = f"{TEMPORARY}{host()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            os.chmod(temporary, 0o644)  # mkstemp makes it readable by the owner only
            if sync:
                fsync(temporary)
            os.replace(temporary, path)
            if sync:
                fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, and flush their names to the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        fsync(folder.parent)


@cache
def host() -> str:
    """A name for this machine in file names: 8 hex digits."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def is_leftover(path: Path) -> bool:
    """Whether a temporary file was left by a process of this machine that has ended."""
    where, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
    number = rest.partition("-")[0]
    return where == host() and number.isdecimal() and not _runs(int(number))


def _runs(pid: int) -> bool:
    """Whether a process with this id is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def writable_folder(path: Path, option: str = "--artifacts") -> Path:
    """The folder, created if necessary.

    Args:
        path: the folder.
        option: the flag by which the user chose it.

    Raises:
        DiskError: it cannot be made or written.
    """
    with written_to(path, f"pass another folder: {option} DIR"):
        make_folder(path)
        with tempfile.TemporaryFile(dir=path):
            return path
