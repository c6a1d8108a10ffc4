"""Time and peak memory of a call."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MB = 1 << 20
# The profiler writes lines of its own to standard error when it first runs, unless this is set.
QUIET = ("KINETO_LOG_LEVEL", "99")
ALLOCATION = "[memory]"  # the profiler's name for an event of PyTorch's allocator


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has done it."""
    _wait(device)
    begun = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begun


def peak_mb(call: Callable[[], object], device: torch.device) -> float:
    """The peak memory of a call in MB (2^20 bytes).

    The allocators are asked, not the system: the resident memory of a process depends on what
    earlier calls have left, so that the second method measured would look smaller than the first.

    Returns:
        On a GPU the highest memory that PyTorch had allocated during the call, weights among it.
        On a CPU the most that PyTorch held of what the call allocated, plus the most that NumPy
        and Python held; buffers inside oneDNN and Numba's kernels are not counted.
    """
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) / MB
    os.environ.setdefault(*QUIET)
    tracemalloc.start()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            call()
            python = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return (_highest(watched) + max(0, python)) / MB


def _highest(watched: profile) -> int:
    """The most bytes of PyTorch's that were allocated and not yet freed, of a profiled call."""
    results = watched.profiler and watched.profiler.kineto_results
    assert results
    # PyTorch's stubs of these events lack ``nbytes``, which it reads itself.
    events: list[Any] = [event for event in results.events() if event.name() == ALLOCATION]
    held = highest = 0
    for event in sorted(events, key=lambda event: int(event.start_ns())):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
