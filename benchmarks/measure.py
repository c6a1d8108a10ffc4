"""Time and memory of a function, what the machine itself can do, and how numbers are written."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

TURN_SECONDS = 0.3  # a function much faster than this is called more than once in its turn
SAMPLING_SECONDS = 0.005
MB = 1e6

Function = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One measurement, as a line of the table and a record of the JSON file."""

    name: str
    goal: str
    measured: str
    ratio: float | None = None  # of the row's comparison, as its goal has it
    floor: str = ""  # what the machine would need at least
    met: bool | None = None  # None: there is no limit to meet
    detail: dict[str, Any] = field(default_factory=dict)


Registry = dict[str, Callable[[bool], Iterable[Row]]]  # by name; True: tiny sizes, to try the code


def alternate(functions: Mapping[str, Function], repeats: int) -> dict[str, float]:
    """Time functions in turns, so that a machine whose speed varies favours none of them.

    Args:
        functions: by name; each has been called before, so that nothing is compiled or loaded now.
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
    """How far a call raises the resident memory of this process, in MB, its result included.

    The function runs in a new thread, so that buffers which a thread keeps for its next call are
    counted and none from earlier calls are reused.
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
    """A list whose one number is the peak of the resident memory in MB when the block has ended.

    The kernel's own high-water mark is used where it can be reset, else a sample every 5 ms.
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
    """A field of /proc/self/status (which is in kB) in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / MB


def _give_back_free_memory() -> None:
    """Return free memory to the system: what the allocator still holds would hide new requests."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def available_gb() -> float:
    """Available memory: the kernel's estimate, or what the control group leaves if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    limits = [next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) * 1024]
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").is_file():
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            limits.append(int(most) - int((group / "memory.current").read_text()))
    return min(limits) / 1e9


def matmul_gflops(repeats: int = 5) -> float:
    """The median GFLOP/s of an fp32 matrix product of 2048³."""
    a, b, out = torch.rand(3, 2048, 2048)
    torch.mm(a, b, out=out)
    taken = [seconds_of(lambda: torch.mm(a, b, out=out)) for _ in range(repeats)]
    return 2 * 2048**3 / statistics.median(taken) / 1e9


def bandwidth_gbs() -> float:
    """The median GB/s of a copy of 256 MiB, bytes read and written added up."""
    source, target = torch.ones(2, 2**26)
    taken = [seconds_of(lambda: target.copy_(source)) for _ in range(5)]
    return 2**29 / statistics.median(taken) / 1e9


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on."""

    cores: int  # that this process may use
    threads: int  # PyTorch's
    cpu: str
    torch: str
    python: str
    memory_gb: float  # available at the beginning
    others: float  # cores that other processes kept busy at the beginning: should be 0
    matmul_gflops: float
    copy_gbs: float

    def floor(self, flop: float, moved_bytes: float) -> float:
        """Seconds that this machine needs at least, by its matrix product and its copy."""
        return max(flop / self.matmul_gflops, moved_bytes / self.copy_gbs) / 1e9

    def __str__(self) -> str:
        return (
            f"{self.cores} cores ({self.cpu}), {self.memory_gb:.0f} GB available, "
            f"PyTorch {self.torch} with {self.threads} threads; matrix product 2048³ fp32 "
            f"{self.matmul_gflops:.0f} GFLOP/s, copy {self.copy_gbs:.1f} GB/s"
            + (f"; OTHER PROCESSES USE {self.others:.1f} CORES" if self.others > 0.1 else "")
        )


@cache
def machine() -> Machine:
    """This machine; it is measured once."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        cpu=names[0] if names else platform.machine(),
        torch=torch.__version__,
        python=platform.python_version(),
        memory_gb=round(available_gb(), 1),
        others=busy_cores(),
        matmul_gflops=round(matmul_gflops(), 1),
        copy_gbs=round(bandwidth_gbs(), 1),
    )


def busy_cores() -> float:
    """How many cores other processes use, observed for half a second."""
    before = _ticks()
    time.sleep(0.5)
    worked, passed = (b - a for a, b in zip(before, _ticks(), strict=True))
    return round((os.cpu_count() or 1) * worked / max(passed, 1), 2)


def _ticks() -> tuple[int, int]:
    """Busy time and total time of all cores since the system started, in clock ticks."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def seconds(value: float) -> str:
    """``0.9123`` as "912 ms"."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s"


def megabytes(value: float) -> str:
    """``123.4`` as "123 MB"."""
    return f"{value:.0f} MB" if value < 9999 else f"{value / 1e3:.1f} GB"
