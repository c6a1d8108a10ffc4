"""Products and attention of a network's layers, by whichever of PyTorch's libraries is fastest.

On a CPU PyTorch multiplies float32 by MKL, which runs at half of an AMD processor's rate; oneDNN,
which comes with PyTorch too, runs at nearly all of it. In bf16 PyTorch takes oneDNN itself, but
copies the bias into the result first, and its fused attention is made of many small products,
which are fast with AMX alone.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

SCORES_AT_ONCE = 2**19  # of attention in bf16: a core's cache holds them with what is made of them
# Fresh memory is cleared by the kernel page by page; the C library keeps pieces below 32 MB.
OUTPUT_AT_ONCE = 3 * 2**23  # bytes of a product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x · weightᵀ + bias``, as ``torch.nn.functional.linear`` and within its rounding.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (..., out).
    """
    if not takes_onednn(x):
        return functional.linear(x, weight, bias)
    parts = parts_of(x.reshape(-1, x.shape[-1]), len(weight))
    if len(parts) == 1:
        return _by_onednn(x, weight, bias)
    whole = torch.cat([_by_onednn(part, weight, bias) for part in parts])
    return whole.view(*x.shape[:-1], len(weight))


def parts_of(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Rows in parts, about equal, whose products of a width fit in ``OUTPUT_AT_ONCE``.

    Equal, as a product of a few rows alone may be summed in another order than one of many.
    """
    count = -(-len(rows) * width * rows.element_size() // OUTPUT_AT_ONCE)
    return rows.tensor_split(max(1, count))


def _by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The operation that ``torch.compile`` makes of a linear layer on a CPU."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return found


def takes_onednn(x: Tensor) -> bool:
    """Whether a product of ``x`` is asked of oneDNN itself, and not as PyTorch would."""
    if x.device.type != "cpu" or not _has_onednn():
        return False
    if x.dtype == torch.bfloat16:
        return has_bf16()
    return x.dtype == torch.float32 and _is_slow_by_mkl()


@cache
def _is_slow_by_mkl() -> bool:
    """Whether oneDNN multiplies float32 faster than MKL here: by the maker, never by a trial.

    A trial could choose otherwise tomorrow, and results would differ in their last digits. With
    ``MKL_CBWR`` somebody asks for MKL's rounding, and gets it.
    """
    return "MKL_CBWR" not in os.environ and torch.backends.mkl.is_available() and _is_amd()


@cache
def _has_onednn() -> bool:
    """Whether its operation can be called: it is no public one."""
    try:
        _by_onednn(torch.zeros(1, 1), torch.zeros(1, 1), None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def _is_amd() -> bool:
    """Whether the processor is AMD's, by what the system says of it."""
    try:
        said = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        said = platform.processor()
    return "AuthenticAMD" in said


@cache
def has_bf16() -> bool:
    """Whether this CPU multiplies in bf16 by instructions of its own, AVX512-BF16 or AMX."""
    return _says("_is_avx512_bf16_supported") or has_amx()


@cache
def has_amx() -> bool:
    """Whether this CPU has AMX, as Intel's servers since Sapphire Rapids, and may use it."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX").upper()
    return _says("_is_amx_tile_supported") and ("AMX" in limit or limit in ("DEFAULT", "ALL"))


def _says(name: str) -> bool:
    """What PyTorch says of the processor, where it says anything."""
    return bool(getattr(torch.cpu, name, bool)())


def attend(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Attention, as ``torch.nn.functional.scaled_dot_product_attention``.

    Args:
        q: (B, heads, T, d_head).
        k: (B, heads, S, d_head).
        v: (B, heads, S, d).
        attn_mask: what is added to the scores, or where they count, bool; broadcast to
            (B, heads, T, S); None: nothing.
        scale: of the scores; None: 1 / √d_head.

    Returns:
        (B, heads, T, d).
    """
    adds = attn_mask is None or attn_mask.dtype != torch.bool
    ours = q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.ndim == 4 and adds
    if not ours or has_amx():
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale)
    return _attend_by_products(q, k, v, attn_mask, q.shape[-1] ** -0.5 if scale is None else scale)


def _attend_by_products(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Attention in bf16 with scores as exact as in float32, by two products for them.

    A score that is rounded to bf16 is wrong by up to 1/256 of itself, and so is the weight for a
    score of 1, more for larger ones. The second product gives what the first one lost.
    """
    batch, heads, queries, _ = q.shape
    out = q.new_empty(batch, queries, heads, v.shape[-1])
    if mask is not None:
        mask = mask.expand(batch, heads, queries, k.shape[2])
    at_once = max(1, SCORES_AT_ONCE // (heads * k.shape[2]))
    for image in range(batch):
        keys, values = k[image].contiguous().transpose(1, 2), v[image].contiguous()
        for some in range(0, queries, at_once):
            part = slice(some, some + at_once)
            asking = q[image, :, part].contiguous()
            rounded = torch.bmm(asking, keys)
            scores = rounded.float()
            scores += torch.baddbmm(rounded, asking, keys, beta=-1)
            scores *= scale
            if mask is not None:
                scores += mask[image, :, part]
            weights = scores.softmax(-1).to(q.dtype)
            out[image, part] = torch.bmm(weights, values).transpose(0, 1)
    return out.transpose(1, 2)
