"""Memory for the products of a transformer's blocks: on a CPU, buffers that all blocks share.

Fresh memory for every product costs a quarter of the whole pass.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

KEPT_BYTES = 2**28  # of buffers that stay allocated between passes
QUICK_GELU = 1.702  # x · sigmoid(1.702 x)
ROWS_AT_ONCE = 128  # of the MLP's hidden layer: they fit in a core's cache

_kept = threading.local()


class Buffers:
    """Buffers by name for the products of a block, or new tensors for each."""

    def __init__(self, reuse: bool) -> None:
        """Start without buffers.

        Args:
            reuse: keep buffers; False: every product is a new tensor.
        """
        self._reuse = reuse
        self._buffers: dict[str, Tensor] = {}

    @classmethod
    def of(cls, x: Tensor) -> Buffers:
        """The buffers of this thread for tokens ``x``; reused in float32 on a CPU only."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return cls(reuse=False)
        buffers: Buffers | None = getattr(_kept, "buffers", None)
        if buffers is None or sum(one.nbytes for one in buffers._buffers.values()) > KEPT_BYTES:
            buffers = _kept.buffers = cls(reuse=True)
        return buffers

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x · weightᵀ + bias``: (rows, out) of (rows, in)."""
        if not self._reuse:
            return linear(x, weight, bias)
        out = self.buffer(name, len(x), len(weight))
        if bias is None:
            return torch.mm(x, weight.T, out=out)
        return torch.addmm(bias, x, weight.T, out=out)  # rounds as linear does

    def activate(self, activation: Any, hidden: Tensor) -> Tensor:
        """The MLP's activation, in place where it is CLIP's own."""
        is_quick = type(activation).__name__ == "QuickGELU"
        if is_quick and hidden.is_cuda and hidden.is_contiguous():
            from sclip_core.tensors import quick_gelu  # Triton is slow to import

            if quick_gelu.available(hidden.device):
                return quick_gelu.quick_gelu_(hidden)
        if not self._reuse or not is_quick:
            activated: Tensor = activation(hidden)
            return activated
        for part in hidden.split(ROWS_AT_ONCE):
            gate = self.buffer("gate", *part.shape)
            part.mul_(torch.mul(part, QUICK_GELU, out=gate).sigmoid_())
        return hidden

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """An uninitialised tensor (rows, columns); the same memory for the same name."""
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < rows * columns:
            kept = self._buffers[name] = torch.empty(rows * columns)
        return kept[: rows * columns].view(rows, columns)
