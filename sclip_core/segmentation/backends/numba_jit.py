"""How Numba compiles the kernels, remembers them and spreads them over threads.

All kernels have a pixel's queries side by side in memory, so that every load, product and
comparison is a vector. They work on a range of rows and hold no lock.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]

_BETWEEN: ContextVar[Callable[[], None] | None] = ContextVar("between", default=None)
_Call = tuple[Callable[[], None], SimpleQueue[BaseException | None]]
LONGEST = 2.0  # seconds that a thread is waited for; a call takes half a second at most
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# No NaN comes out of a cosine; products may be contracted to FMA, sums keep their order.
EXACT = {"contract", "nsz", "nnan"}
# Numba's own errors of a division by 0 would keep loops with a division from being vectors.
EXACTLY: dict[str, Any] = {"error_model": "numpy", "fastmath": EXACT}
SOURCES = sorted(Path(__file__).parent.glob("numba_*.py"))
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:12]


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel at its first call and keep the result on disk, beside the source.

    Numba's cache compares the age of the kernel's own file only, but kernels inline functions of
    other files: the digest of all of them goes into the name that the cache looks for.
    """
    kernel.__qualname__ += f"_{DIGEST}"
    try:
        return cast(Kernel, njit(nogil=True, cache=True, **EXACTLY)(kernel))
    except RuntimeError:  # no folder for it can be written to: compiled anew in every process
        return cast(Kernel, njit(nogil=True, **EXACTLY)(kernel))


def inlined(kernel: Kernel) -> Kernel:
    """Compile a part of a kernel into it: called for every pixel, a call would cost too much."""
    return cast(Kernel, njit(forceinline=True, **EXACTLY)(kernel))


class _Threads:
    """Threads that make calls, in a queue of C's.

    An executor of ``concurrent.futures`` has locks of Python's: a signal that raises while the main
    thread submits a call can leave one locked, and the process then never ends.
    """

    def __init__(self, count: int) -> None:
        """Start so many threads; they are waited for at the end, though not for long."""
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"sclip-rows_{k}", daemon=True) for k in range(count)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self._end)

    def make(self, calls: Sequence[Callable[[], None]]) -> None:
        """Make calls, and wait for all; raises what the first of those that failed raised."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for call in calls:
            self._calls.put((call, done))
        errors = [error for error in (done.get() for _ in calls) if error]
        if errors:
            raise errors[0]

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, done = asked
            error: BaseException | None = None
            try:
                call()
            except BaseException as raised:
                error = raised
            done.put(error)
            del asked, call, done, error  # which hold arrays until the next call

    def _end(self) -> None:
        """Give up calls that nobody waits for, and wait for those that are being made."""
        with suppress(Empty):
            while True:
                self._calls.get_nowait()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(LONGEST)


@cache
def _threads(count: int) -> _Threads:
    return _Threads(count)


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)


@contextmanager
def watched(between: Callable[[], None]) -> Iterator[None]:
    """Before each pass of a kernel over rows in this context, call a function: it may raise.

    A pass takes half a second at most, and all of them a minute for a large photograph.
    """
    token = _BETWEEN.set(between)
    try:
        yield
    finally:
        _BETWEEN.reset(token)


def on_rows(height: int, kernel: Callable[..., None], *arguments: Any) -> None:
    """Run a kernel on all rows, a range of them on each of PyTorch's threads.

    Args:
        height: number of rows.
        kernel: takes the arguments, the first row and the row to stop before.
        arguments: of the kernel.
    """
    if between := _BETWEEN.get():
        between()
    threads = min(torch.get_num_threads(), height)
    if threads == 1:
        kernel(*arguments, 0, height)
        return
    edges = [height * k // threads for k in range(threads + 1)]
    _threads(threads).make([partial(kernel, *arguments, *rows) for rows in pairwise(edges)])


def all_of(calls: Sequence[Callable[[], None]]) -> None:
    """Make calls that do not depend on one another, on PyTorch's threads."""
    if between := _BETWEEN.get():
        between()
    threads = torch.get_num_threads()
    if threads == 1:
        for call in calls:
            call()
        return
    _threads(threads).make(calls)
