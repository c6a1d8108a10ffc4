"""CLIP's activation x · sigmoid(1.702 x) on a CUDA device: one pass over memory in place of three.

Triton comes with PyTorch's CUDA wheels; this file can be imported without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
    from triton.language import constexpr
except (ImportError, OSError, RuntimeError):  # missing, or built for another Python
    triton = None

FACTOR = 1.702
BLOCK = 4096  # numbers of a program


def _jit(kernel: Callable[..., None]) -> Any:
    return triton.jit(kernel) if triton else kernel


@cache
def available(device: torch.device) -> bool:
    """Whether the kernel runs on a device: it is tried, as Triton also needs a C compiler."""
    if device.type != "cuda" or triton is None:
        return False
    try:
        quick_gelu_(torch.zeros(1, device=device)).cpu()
    except Exception:  # a compiler's, a driver's: Triton has no class for them
        return False
    return True


@torch.no_grad()
def quick_gelu_(x: Tensor) -> Tensor:
    """Activate numbers in place; computed in float32 and rounded once.

    Args:
        x: contiguous, float32, float16 or bfloat16, on a CUDA device.

    Returns:
        ``x``.
    """
    with torch.cuda.device_of(x):
        _activate[-(-x.numel() // BLOCK),](x, x.numel(), SCALE=FACTOR, SIZE=BLOCK, num_warps=8)
    return x


@_jit
def _activate(x: tl.tensor, count: tl.tensor, SCALE: constexpr, SIZE: constexpr) -> None:
    """Activate ``SIZE`` numbers a program."""
    number = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    value = tl.load(x + number, mask=number < count, other=0.0).to(tl.float32)
    activated = value / (1.0 + tl.exp(-SCALE * value))
    tl.store(x + number, activated.to(x.dtype.element_ty), mask=number < count)
