"""Digests of files, remembered by path, size and modification time.

A second run over 5,000 images takes 5,000 looks at a directory entry instead of reading 800 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import ImageError


class Known(NamedTuple):
    """A file as it was when it was read."""

    size: int  # bytes
    mtime: int  # nanoseconds
    sha256: str


FORGOTTEN = Known(-1, -1, "")


class Digests:
    """sha256 of files; the memory is a file of JSON lines that only grows."""

    def __init__(self, memory: Path) -> None:
        """Read what is remembered.

        Args:
            memory: the JSON-lines file; need not exist.
        """
        self._memory = memory
        self._known: dict[str, Known] = {}
        if memory.is_file():
            for line in memory.read_text("utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError):  # torn: that file is hashed again
                    path, size, mtime, digest = json.loads(line)
                    self._known[path] = Known(size, mtime, digest)

    def of(self, path: Path) -> str:
        """The sha256 of one file, 64 hex digits.

        Raises:
            ImageError: it cannot be read.
        """
        (digest,) = self.of_many([path])
        if isinstance(digest, ImageError):
            raise digest
        return digest

    def of_many(self, paths: Iterable[Path]) -> list[str | ImageError]:
        """The sha256 of each file, in order; of one that cannot be read, the reason."""
        absolute = [os.path.abspath(path) for path in paths]
        with ThreadPoolExecutor(max_workers=4) as pool:
            found = dict(zip(absolute, pool.map(self._look_at, absolute), strict=True))
        read = {path: now for path, now in found.items() if isinstance(now, Known)}
        self._remember({path: now for path, now in read.items() if self._known.get(path) != now})
        looked_at = (found[path] for path in absolute)
        return [now.sha256 if isinstance(now, Known) else now for now in looked_at]

    def forget(self, path: Path) -> None:
        """Read a file anew the next time, though size and time of it may be the same."""
        self._remember({os.path.abspath(path): FORGOTTEN})

    def _look_at(self, path: str) -> Known | ImageError:
        """What is known of a file, or what reading it gives."""
        try:
            status = os.stat(path)
            known = self._known.get(path, FORGOTTEN)
            if known[:2] == (status.st_size, status.st_mtime_ns):
                return known
            if not stat.S_ISREG(status.st_mode):
                return ImageError(f"{path} is not a file")
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Known(status.st_size, status.st_mtime_ns, digest)
        except OSError as error:
            return ImageError(f"{path} cannot be read: {error.strerror}")

    def _remember(self, files: Mapping[str, Known]) -> None:
        """One append for all: lines of several processes do not mix, nor with a torn one."""
        self._known.update(files)
        lines = [json.dumps([path, *known]) for path, known in files.items()]
        if not lines:
            return
        # It only saves time: where it cannot be written, the stage that needs the disk says so.
        with suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            with self._memory.open("a", encoding="utf-8") as file:
                file.write("".join(f"\n{line}" for line in lines) + "\n")
