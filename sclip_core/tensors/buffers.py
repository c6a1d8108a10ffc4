"""Memory for the products of a transformer's blocks: on a CPU, buffers that all blocks share.

Fresh memory for every product costs a quarter of the whole pass.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from sclip_core.tensors.products import linear, parts_of, takes_onednn

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
        """The buffers of this thread for weights like ``x``; reused by MKL alone, in float32."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or takes_onednn(x):
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

    def mlp(self, rows: Tensor, up: Any, activation: Any, down: Any) -> Tensor:
        """Two linear layers and what is between them: (R, width) of (R, width)."""
        if self._reuse or rows.device.type != "cpu":
            hidden = self.activate(activation, self.linear("hidden", rows, up.weight, up.bias))
            return self.linear("out", hidden, down.weight, down.bias)
        parts = []
        for part in parts_of(rows, len(up.weight)):
            hidden = self.activate(activation, linear(part, up.weight, up.bias))
            parts.append(linear(hidden, down.weight, down.bias))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def activate(self, activation: Any, hidden: Tensor) -> Tensor:
        """The MLP's activation, in place where that is faster."""
        is_quick = type(activation).__name__ == "QuickGELU"
        if is_quick and hidden.is_cuda and hidden.is_contiguous():
            from sclip_core.tensors import quick_gelu  # Triton is slow to import

            if quick_gelu.available(hidden.device):
                return quick_gelu.quick_gelu_(hidden)
        if hidden.device.type != "cpu" or hidden.dtype == torch.float16:
            activated: Tensor = activation(hidden)
            return activated
        for part in hidden.split(ROWS_AT_ONCE):
            if not is_quick:
                part.copy_(activation(part))
                continue
            wide = part.float()  # float32 is itself; bf16 is rounded once, at the end
            gate = self.buffer("gate", *part.shape)
            wide.mul_(torch.mul(wide, QUICK_GELU, out=gate).sigmoid_())
            if wide is not part:
                part.copy_(wide)
        return hidden

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """An uninitialised tensor (rows, columns); the same memory for the same name."""
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < rows * columns:
            kept = self._buffers[name] = torch.empty(rows * columns)
        return kept[: rows * columns].view(rows, columns)
