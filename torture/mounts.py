"""Small and read-only disks, seen by one process and its children alone: none is left behind."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

NEW_NAMESPACE = 0x20000  # CLONE_NEWNS
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 1 << 14, 1 << 18  # MS_...


class Refused(OSError):
    """The system does not let this process mount anything."""


def alone() -> None:
    """Let this process have mounts of its own, which end with it.

    Raises:
        Refused: it may not.
    """
    _called("unshare", NEW_NAMESPACE)
    _mount(None, Path("/"), None, RECURSIVE | PRIVATE)


def small_disk(path: Path, size: int) -> None:
    """Mount a disk in memory, of a size in bytes."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("torture", path, "tmpfs", 0, f"size={size}")


def larger(path: Path, size: int) -> None:
    """Give a small disk another size in bytes."""
    _mount(None, path, None, REMOUNT, f"size={size}")


def read_only(path: Path) -> None:
    """Let nothing be written below a folder."""
    _mount(str(path), path, None, BIND)
    _mount(None, path, None, BIND | REMOUNT | READ_ONLY)


def writable(path: Path) -> None:
    """Let what was read-only be written again."""
    _called("umount2", os.fsencode(path), 0)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, data: str = "") -> None:
    words = (source and source.encode(), os.fsencode(target), kind and kind.encode())
    _called("mount", *words, ctypes.c_ulong(flags), data.encode() or None)


def _called(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise Refused(number, f"{name}: {os.strerror(number)}")
