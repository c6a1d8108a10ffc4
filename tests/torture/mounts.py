"""Small and read-only disks that only one process and its children see, and that end with them."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

NEW_NAMESPACE = 0x20000  # CLONE_NEWNS


class Refused(OSError):
    """The system does not let this process mount anything."""


def alone() -> None:
    """Give this process mounts of its own, which end with it.

    Raises:
        Refused: it may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE):
        number = ctypes.get_errno()
        raise Refused(number, f"unshare: {os.strerror(number)}")
    _run("mount", "--make-rprivate", "/")


def small_disk(path: Path, size: int) -> None:
    """Mount a disk in memory, of a size in bytes."""
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "torture", path)


def resize(path: Path, size: int) -> None:
    """Change the size of a small disk, in bytes."""
    _run("mount", "-o", f"remount,size={size}", path)


def read_only(path: Path) -> None:
    """Make a folder read-only."""
    _run("mount", "--bind", path, path)
    _run("mount", "-o", "remount,bind,ro", path)


def writable(path: Path) -> None:
    """Make a folder that is read-only writable again."""
    _run("umount", path)


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise Refused(f"{command}: {error.stderr.strip()}") from None
