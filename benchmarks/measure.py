"""Time and memory of a function, and what the machine itself can do."""

from __future__ import annotations

import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

TURN_SECONDS = 0.3  # a function much faster than this is called more than once in its turn
SAMPLING_SECONDS = 0.005
MB = 1e6

Function = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    goal: str
    measured: str
    ratio: float | None = None  # of the row's comparison, as its goal has it
    floor: str = ""  # what the machine would need at least
    met: bool | None = None  # None: there is no limit to meet
    detail: dict[str, Any] = field(default_factory=dict)


def alternate(functions: Mapping[str, Function], repeats: int) -> dict[str, float]:
    """Time functions in turns, so that a machine whose speed varies favours none of them.

    Args:
        functions: by name; warm.
        repeats: turns of each.

    Returns:
        Median seconds of a call, by name.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            turn = 0.0
            while turn < TURN_SECONDS:
                taken[name].append(seconds_of(function))
                turn += taken[name][-1]
    return {name: statistics.median(times) for name, times in taken.items()}


def seconds_of(function: Function) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def peak_extra_mb(function: Function) -> float:
    """How far the process's resident memory rises above what it was, in MB.

    The function runs in a thread of its own: what a thread keeps for its next call counts, and
    nothing that this one kept helps. Its result counts too.
    """
    fault: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            fault.append(error)

    _give_back_free_memory()
    before = status_mb("VmRSS")
    with _watched() as peak:
        thread = threading.Thread(target=run, name="measured")
        thread.start()
        thread.join()
    if fault:
        raise fault[0]
    return max(0.0, peak[0] - before)


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The peak of the resident memory in MB, there when the block ends.

    By the kernel's own mark where it can be reset; else by looking every few milliseconds.
    """
    peak = [0.0]
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        done = threading.Event()
        sampler = threading.Thread(target=_sample, args=(peak, done), daemon=True)
        sampler.start()
        try:
            yield peak
        finally:
            done.set()
            sampler.join()
    else:
        yield peak
        peak[0] = status_mb("VmHWM")


def _sample(peak: list[float], done: threading.Event) -> None:
    while not done.wait(SAMPLING_SECONDS):
        peak[0] = max(peak[0], status_mb("VmRSS"))


def status_mb(key: str) -> float:
    """A line of /proc/self/status, which is in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / MB


def _give_back_free_memory() -> None:
    """What the allocator kept of earlier work would hide what is asked for."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def available_gb() -> float:
    """Memory that can be had, as the kernel estimates it and the control group allows."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    limits = [next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) * 1024]
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").is_file():
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            limits.append(int(most) - int((group / "memory.current").read_text()))
    return min(limits) / 1e9


def matmul_gflops(repeats: int = 5, size: int = 2048) -> float:
    """GFLOP/s of an fp32 matrix product of size³: the median."""
    a, b, out = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
    torch.mm(a, b, out=out)
    taken = [seconds_of(lambda: torch.mm(a, b, out=out)) for _ in range(repeats)]
    return 2 * size**3 / statistics.median(taken) / 1e9


def bandwidth_gbs(repeats: int = 5, size: int = 2**28) -> float:
    """GB/s of a copy of ``size`` bytes, read and written ones counted: the median."""
    source, target = torch.ones(size // 4), torch.ones(size // 4)
    taken = [seconds_of(lambda: target.copy_(source)) for _ in range(repeats)]
    return 2 * size / statistics.median(taken) / 1e9
