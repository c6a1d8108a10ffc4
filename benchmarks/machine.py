"""What the numbers were measured on, and what it would need at least."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmarks.measure import available_gb, bandwidth_gbs, matmul_gflops


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


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores worked while this process slept: what would disturb its measurements."""
    before = _ticks()
    time.sleep(seconds)
    worked, passed = (b - a for a, b in zip(before, _ticks(), strict=True))
    return round((os.cpu_count() or 1) * worked / max(passed, 1), 2)


def _ticks() -> tuple[int, int]:
    """Time of all cores together since the start: at work, and all."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


@cache
def machine() -> Machine:
    """This one; measured once."""
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
