"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from sclip_core.config import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, fsync, rename.

    Args:
        path: the target; an older file there is replaced.
        write: writes the content to the path that it is given.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp's own is for the owner's eyes only
        fsync(temporary)
        os.replace(temporary, path)
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


def writable_folder(path: Path) -> Path:
    """The folder, made if need be.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(
            f"artifacts cannot be written to {path}: {error.strerror}; "
            "pass a folder that can: --artifacts DIR"
        ) from None
