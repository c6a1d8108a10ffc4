"""Faster implementations of ``pamr.py`` and ``decision.py``, and which of them a device gets.

=================  ======================  ======================================
device             PAMR                    labels (``Refiner.labels_at``)
=================  ======================  ======================================
CPU with Numba     ``numba_lattice.pamr``  ``numba_decision.decisions``
CUDA with Triton   ``triton_pamr.pamr``    ``decision.decisions``
any other          ``pamr.portable_pamr``  ``decision.decisions``
=================  ======================  ======================================

Implementations of PAMR take and return the same: an image (3, H, W), logits (Q, H, W) on the same
device, steps, dilations; new logits (Q, H, W) in float32. Those of the decision yield a
``Decision`` a protocol. ``numba_decision`` stitches, refines and decides in one pass, a chunk of
queries at a time; ``decision`` takes blocks of rows of stitched and refined logits.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

PamrFunction = Callable[[Tensor, Tensor, int, Sequence[int]], Tensor]
_compiling = threading.Lock()


def fast_pamr(device: torch.device) -> PamrFunction | None:
    """The implementation of PAMR for a device; None: the portable one."""
    if decides_by_numba(device):
        from sclip_core.segmentation.backends import numba_lattice

        return numba_lattice.pamr
    if device.type == "cuda":
        from sclip_core.segmentation.backends import triton_pamr  # Triton is slow to import

        if triton_pamr.available(device):
            return triton_pamr.pamr
    return None


def decides_by_numba(device: torch.device) -> bool:
    """Whether labels come from ``numba_decision``."""
    return device.type == "cpu" and numba_available()


@cache
def numba_available() -> bool:
    """Whether Numba can be used; warns once where it cannot."""
    try:
        from sclip_core.segmentation.backends import numba_decision  # noqa: F401
    except ModuleNotFoundError:
        reason = "is not installed: pip install 'sclip-benchmark[fast]'"
    except (ImportError, OSError, RuntimeError) as error:  # another NumPy, a broken LLVM
        reason = f"cannot be used ({' '.join(str(error).split())[:200]})"
    else:
        return True
    slower = "PAMR and the decision take about ten times longer on a CPU"
    warnings.warn(f"Numba {reason}; without it {slower}", stacklevel=2)
    return False


def warm_up() -> None:
    """Compile Numba's kernels, or load them from its cache, in a thread of the background."""
    cpu = torch.device("cpu")
    threading.Thread(target=compile_for, args=(cpu,), name="sclip-compile", daemon=True).start()


def compile_for(device: torch.device) -> None:
    """See that what a device uses is compiled: the first call in a process does it or waits."""
    if decides_by_numba(device):
        with _compiling:
            _compile_once()


@cache
def _compile_once() -> None:
    from sclip_core.segmentation.backends.numba_decision import compile_kernels

    compile_kernels()
