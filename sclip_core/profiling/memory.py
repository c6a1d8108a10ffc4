"""Time and peak memory of a call."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

INTERVAL = 0.002  # seconds between two samples of the resident memory


def resident_mb(name: str = "VmRSS") -> float | None:
    """Resident memory of this process in MB; None: this system does not say it.

    Args:
        name: ``VmRSS``, of now, or ``VmHWM``, the highest.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(name)), None)
    return int(found.split()[1]) / 1024 if found else None


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has done it."""
    _wait(device)
    begun = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begun


def peak_mb(call: Callable[[], object], device: torch.device) -> float | None:
    """The peak memory of a call in MB; None: this system does not say it.

    Returns:
        On a GPU the highest memory that PyTorch had allocated during the call, weights among it;
        on a CPU how far the call raised the resident memory of this process.
    """
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    _give_back_free_memory()
    before = resident_mb()
    if before is None:
        call()
        return None
    with _watched() as peak, ThreadPoolExecutor(1) as thread:
        # a new thread: buffers that one keeps for its next call are counted, none is reused
        thread.submit(call).result()
    return max(0.0, peak[0] - before)


def _give_back_free_memory() -> None:
    """Let the allocator give back what earlier calls have left, so that it is not reused."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


@contextmanager
def _watched() -> Iterator[list[float]]:
    """A list whose one number is the peak of the resident memory when the block has ended."""
    peak = [0.0]
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's own high-water mark
    except OSError:
        done = threading.Event()
        thread = threading.Thread(target=_sample, args=(peak, done), daemon=True)
        thread.start()
        try:
            yield peak
        finally:
            done.set()
            thread.join()
        return
    yield peak
    peak[0] = resident_mb("VmHWM") or 0.0


def _sample(peak: list[float], done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        peak[0] = max(peak[0], resident_mb() or 0.0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
