"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
TEMPORARY = ".writing."  # how the names of files begin that are not whole yet
KEPT = "what was computed is kept, mend that and run again"


class DiskError(UserError):
    """The disk did not take what was written; what was there before is as it was."""

    def __init__(self, line: str, may_pass: bool = False) -> None:
        """Take the line, and whether another try may help."""
        super().__init__(line)
        self.may_pass = may_pass


@contextmanager
def written_to(path: Path, advice: str = KEPT) -> Iterator[None]:
    """Around what writes: a fault of the disk becomes one line.

    Args:
        path: what is written, for the line.
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
        room = "make room there: " if error.errno in FULL else ""
        line = f"{path} cannot be written ({reason}); {room}{advice}"
        raise DiskError(line, error.errno not in FOR_GOOD) from None


def refuse_to_guess(path: Path, error: Exception) -> None:
    """Raise where reading failed for a reason that has nothing to do with what is stored.

    Too many open files, or too little memory: what is stored may be whole.

    Raises:
        DiskError: with that reason.
    """
    reason = refused_by_system(error)
    if reason:
        line = f"{path} cannot be read ({reason}); what was computed is kept, run again"
        raise DiskError(line, may_pass=True) from None


def write_whole(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Write beside the target, fsync, rename.

    Args:
        path: the target; an older file there is replaced.
        write: writes the content to the path that it is given.
        sync: False: whoever writes many files asks the disk to keep them once, at the end.

    Raises:
        DiskError: it could not be written; an older file is still there.
    """
    with written_to(path):
        prefix = f"{TEMPORARY}{host()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            os.chmod(temporary, 0o644)  # mkstemp's own is for the owner's eyes only
            if sync:
                fsync(temporary)
            os.replace(temporary, path)
            if sync:
                fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Ask the disk to keep a file or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and ask the disk to keep their names."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        fsync(folder.parent)


@cache
def host() -> str:
    """A name for this machine, as a part of file names: 8 hex digits."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files of processes of this machine that do not run any more.

    Args:
        folder: whose own files are looked at, none below it.

    Returns:
        How many were removed.
    """
    removed = 0
    for path in folder.glob(f"{TEMPORARY}*"):
        if is_leftover(path):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def is_leftover(path: Path) -> bool:
    """Whether a temporary file is of a process of this machine that does not run any more."""
    where, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
    number = rest.partition("-")[0]
    return where == host() and number.isdecimal() and not _runs(int(number))


def _runs(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def writable_folder(path: Path, option: str = "--artifacts") -> Path:
    """The folder, made if need be.

    Args:
        path: of the folder.
        option: by which the user chose it.

    Raises:
        DiskError: it cannot be made or written.
    """
    with written_to(path, f"pass a folder that can: {option} DIR"):
        make_folder(path)
        with tempfile.TemporaryFile(dir=path):
            return path
