"""Where the products of a transformer's blocks go: on a CPU, buffers that all blocks share.

Fresh memory for every one of them costs a quarter of the whole pass.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

KEPT_BYTES = 2**28  # of buffers that stay allocated between passes
ROWS_AT_ONCE = 128  # of the MLP's hidden layer
QUICK_GELU = 1.702  # x · sigmoid(1.702 x)

_kept = threading.local()


class Room:
    """Where the products of a block go: buffers by name, or what PyTorch allocates."""

    def __init__(self, reuse: bool) -> None:
        """Begin.

        Args:
            reuse: keep buffers; else every product is a new tensor.
        """
        self._reuse = reuse
        self._buffers: dict[str, Tensor] = {}

    @classmethod
    def of(cls, x: Tensor) -> Room:
        """For tokens like these; a thread's own, since several may share a model."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return cls(reuse=False)
        room: Room | None = getattr(_kept, "room", None)
        if room is None or sum(kept.nbytes for kept in room._buffers.values()) > KEPT_BYTES:
            room = _kept.room = cls(reuse=True)
        return room

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
        if not self._reuse or type(activation).__name__ != "QuickGELU":
            activated: Tensor = activation(hidden)
            return activated
        for part in hidden.split(ROWS_AT_ONCE):  # that a core's cache holds
            gate = self.buffer("gate", *part.shape)
            part.mul_(torch.mul(part, QUICK_GELU, out=gate).sigmoid_())
        return hidden

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Uninitialised (rows, columns); the same memory under the same name."""
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < rows * columns:
            kept = self._buffers[name] = torch.empty(rows * columns)
        return kept[: rows * columns].view(rows, columns)
