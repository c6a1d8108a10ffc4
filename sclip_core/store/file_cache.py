"""Small files that can be made again, kept in a folder up to so many bytes.

What was not used for longest goes first. Several processes may use one folder: a file is replaced
as a whole, and one that vanishes is made again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from sclip_core.config import UserError
from sclip_core.store.files import TEMPORARY, is_leftover, write_whole

THUMBNAILS = Path("explore") / "thumbnails"  # below the artifacts
TRIMMED = 0.9  # of the bytes, which remain when there were too many
USED = 3600.0  # seconds after which another use is written down


class FileCache:
    """Files by names of hex digits."""

    def __init__(self, folder: Path, most: int, suffix: str) -> None:
        """Make nothing yet.

        Args:
            folder: of the files, which are in subfolders by their first two digits.
            most: bytes of all of them.
            suffix: of their names.
        """
        self.folder, self._most, self._suffix = folder, most, suffix
        self._bytes: int | None = None  # of all files, as far as this process knows
        self._used = 0.0
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        """What a file holds, which counts as used now; None: there is none."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data, changed = file.read(), os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        now = time.time()
        if now - changed > USED:
            with suppress(OSError):
                os.utime(path)
        self._mark_used(now)
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep a file; whether that could be done."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda target: target.write_bytes(data), sync=False)
        except (OSError, UserError):  # it only saves time
            return False
        self._mark_used(time.time())
        with self._lock:
            self._bytes = self._trimmed() if self._bytes is None else self._bytes + len(data)
            if self._bytes > self._most:
                self._bytes = self._trimmed()
        return True

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{self._suffix}"

    def _mark_used(self, now: float) -> None:
        """Let the folder have the time of its last use, for ``sclip gc``."""
        if now - self._used > USED:
            self._used = now
            with suppress(OSError):
                os.utime(self.folder)

    def _trimmed(self) -> int:
        """Remove what was not used for longest, where there is too much; the bytes that remain."""
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                if path.name.startswith(TEMPORARY) and is_leftover(path):
                    path.unlink()
                elif path.suffix == self._suffix:
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._most:
            return total
        for _, size, path in sorted(found):
            if total <= TRIMMED * self._most:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size
        return total
