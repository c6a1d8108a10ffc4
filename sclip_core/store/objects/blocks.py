"""Reading ahead in objects: rows that lie side by side come with one request."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from sclip_core.config.places import ObjectPath
from sclip_core.store.objects.bucket import bucket_of

BLOCK = 2**23  # bytes of one request; rows are mostly read in the order in which they were written
MOST = 32  # blocks that are kept


class Blocks:
    """The last blocks of objects that were read; one for all artifacts of a process."""

    def __init__(self) -> None:
        """Keep none."""
        self._kept: OrderedDict[tuple[ObjectPath, int], bytes] = OrderedDict()
        self._reading: dict[tuple[ObjectPath, int], Lock] = {}
        self._lock = Lock()

    def range(self, path: ObjectPath, start: int, stop: int, size: int) -> bytes:
        """Some bytes of an object.

        Args:
            path: the object, which never changes.
            start: the first byte.
            stop: the byte after the last.
            size: bytes of the object.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: it cannot be read.
        """
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        blocks = b"".join(self._block(path, n, size) for n in range(first, last + 1))
        return blocks[start - first * BLOCK : stop - first * BLOCK]

    def forget(self, path: ObjectPath) -> None:
        """Read an object again when it is next asked for."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == path]:
                del self._kept[key]

    def clear(self) -> None:
        """Keep none any more."""
        with self._lock:
            self._kept.clear()

    def _block(self, path: ObjectPath, number: int, size: int) -> bytes:
        key = path, number
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            reading = self._reading.setdefault(key, Lock())
        with reading:  # threads that want the same block wait for one request
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            start = number * BLOCK
            data = bucket_of(path.bucket).read_range(path, start, min(size, start + BLOCK))
            with self._lock:
                self._kept[key] = data
                self._reading.pop(key, None)
                while len(self._kept) > MOST:
                    self._kept.popitem(last=False)
            return data


BLOCKS = Blocks()
