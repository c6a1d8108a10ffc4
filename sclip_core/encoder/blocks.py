"""A residual block of CLIP's image tower, its attention left open.

Spelled out for every block: PyTorch's own fast path rounds differently from the reference, and the
last digits are what the golden arrays are about. On a CPU in fp32 the products go into buffers that
all blocks share: fresh memory for every one of them costs a quarter of the whole pass.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

KEPT_BYTES = 2**28  # of buffers that stay allocated between passes
ROWS_AT_ONCE = 128  # of the MLP's hidden layer
QUICK_GELU = 1.702  # x · sigmoid(1.702 x)

_kept = threading.local()


class Heads(NamedTuple):
    """Queries, keys and values, each (B, heads, 1+N, d_head)."""

    q: Tensor
    k: Tensor
    v: Tensor


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

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``x · weightᵀ + bias``: (rows, out) of (rows, in)."""
        if not self._reuse:
            return linear(x, weight, bias)
        out = self._buffer(name, len(x), len(weight))
        return torch.addmm(bias, x, weight.T, out=out)  # rounds as linear does

    def activate(self, activation: Any, hidden: Tensor) -> Tensor:
        """The MLP's activation, in place where it is CLIP's own."""
        if not self._reuse or type(activation).__name__ != "QuickGELU":
            activated: Tensor = activation(hidden)
            return activated
        for part in hidden.split(ROWS_AT_ONCE):  # that a core's cache holds
            gate = self._buffer("gate", *part.shape)
            part.mul_(torch.mul(part, QUICK_GELU, out=gate).sigmoid_())
        return hidden

    def _buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Uninitialised (rows, columns); the same memory under the same name."""
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < rows * columns:
            kept = self._buffers[name] = torch.empty(rows * columns)
        return kept[: rows * columns].view(rows, columns)


def heads_of(block: Any, x: Tensor, room: Room) -> Heads:
    """What a block's attention works on.

    Args:
        block: open_clip's ``ResidualAttentionBlock``.
        x: (B, 1+N, width).
        room: for the products; the result lies in it until the next block.
    """
    attn = block.attn
    batch, length, width = x.shape
    rows = block.ln_1(x).view(batch * length, width)
    qkv = room.linear("qkv", rows, attn.in_proj_weight, attn.in_proj_bias)
    split = qkv.view(batch, length, 3, attn.num_heads, width // attn.num_heads)
    return Heads(*split.permute(2, 0, 3, 1, 4))


def project(block: Any, mixed: Tensor, room: Room) -> Tensor:
    """The output of a block's attention.

    Args:
        block: see ``heads_of``.
        mixed: (B, heads, 1+N, d_head), values as the attention mixed them.
        room: for the product.

    Returns:
        (B, 1+N, width), before residual and MLP.
    """
    batch, _, length, _ = mixed.shape
    out = block.attn.out_proj
    rows = mixed.transpose(1, 2).reshape(batch * length, -1)
    return room.linear("out", rows, out.weight, out.bias).view(batch, length, -1)


def complete(block: Any, x: Tensor, projected: Tensor, room: Room) -> Tensor:
    """Residual and MLP.

    Args:
        block: see ``heads_of``.
        x: (B, 1+N, width), the block's input; overwritten.
        projected: of ``project``.
        room: for the products.

    Returns:
        (B, 1+N, width), the block's output, in ``x``.
    """
    up, activation, down = block.mlp
    x += block.ls_1(projected)
    rows = block.ln_2(x).view(-1, x.shape[-1])
    hidden = room.activate(activation, room.linear("hidden", rows, up.weight, up.bias))
    x += block.ls_2(room.linear("out", hidden, down.weight, down.bias).view_as(x))
    return x
