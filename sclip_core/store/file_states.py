"""What the file system says about files, of many at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.store.digest_columns import signed

TICK = 20_000_000  # nanoseconds; two writes within a tick of the kernel's clock have equal times
TOGETHER = 256  # files that a thread looks at before the next
SLOW = 50e-6  # seconds that the file system takes for one, from which on threads look


class State(NamedTuple):
    """What the file system says about a file."""

    size: int  # bytes
    mtime: int  # nanoseconds, as are all times
    ctime: int  # set by the kernel, so programs cannot preserve it
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """The state in a result of ``os.stat``."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def absolute(path: Path | str) -> str:
    """The absolute path; most are so already, and need no look at their parts."""
    text = os.fspath(path)
    if text[:1] == "/" and "//" not in text and "/." not in text and text[-1] != "/":
        return text
    return os.path.abspath(text)


def states_of(paths: Sequence[str], pool: ThreadPoolExecutor) -> NDArray[np.int64]:
    """(N, 4), what the file system says of files; -2 where it says nothing.

    Threads wait for a file system that is slow; to hand files over to them takes longer than to
    look at them where it is not.
    """
    first, rest = paths[:TOGETHER], range(TOGETHER, len(paths), TOGETHER)
    begun = time.perf_counter()
    parts = [_some_states(first)]
    is_slow = (time.perf_counter() - begun) / len(first) > SLOW
    in_turn: Callable[..., Iterable[NDArray[np.int64]]] = pool.map if is_slow else map
    parts += in_turn(_some_states, (paths[at : at + TOGETHER] for at in rest))
    return np.concatenate(parts)


def _some_states(paths: Sequence[str]) -> NDArray[np.int64]:
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # who reads it reports the error
            found.append((-2, 0, 0, 0))
        else:
            times = status.st_mtime_ns, status.st_ctime_ns
            found.append((status.st_size, *times, status.st_ino))
    try:
        return np.array(found, np.int64)
    except OverflowError:
        whole = [all(abs(n) < 2**63 for n in state[:3]) for state in found]
        safe = [
            (*s[:3], signed(s[3])) if w else (-2, 0, 0, 0)
            for s, w in zip(found, whole, strict=True)
        ]
        return np.array(safe, np.int64)
