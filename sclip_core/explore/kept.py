"""What is kept in memory, bounded in bytes: what was not used for longest goes first."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
GIB = 2**30


class Kept(Generic[Value]):
    """Values by key, of so many bytes together at most; several threads may use it."""

    def __init__(self, most: int) -> None:
        """Keep nothing yet.

        Args:
            most: bytes; a value that is larger is not kept at all.
        """
        self.most = most
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """Of all values together."""
        return self._bytes

    def __len__(self) -> int:
        """The number of values."""
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """A value, which counts as used now; None: it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> Value:
        """Keep a value of so many bytes; others go where there is no room. Returns the value."""
        with self._lock:
            if key in self._values:
                self._bytes -= self._values.pop(key)[1]
            if size > self.most:
                return value
            self._values[key] = value, size
            self._bytes += size
            while self._bytes > self.most:
                _, (_, freed) = self._values.popitem(last=False)
                self._bytes -= freed
        return value

    def items(self) -> Iterator[tuple[Hashable, Value]]:
        """All keys and values, those used last first; none counts as used by this."""
        with self._lock:
            several = [(key, value) for key, (value, _) in reversed(self._values.items())]
        yield from several


def room() -> int:
    """Bytes for features: 1 GiB, or a quarter of this machine's memory where that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on every system
        return GIB
    return min(GIB, memory // 4)
