"""A residual block of CLIP's image tower, its attention left open.

Spelled out for every block: PyTorch's own fast path rounds differently from the reference, and the
last digits are what the golden arrays are about.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from sclip_core.tensors import Room


class Heads(NamedTuple):
    """Queries, keys and values, each (B, heads, 1+N, d_head)."""

    q: Tensor
    k: Tensor
    v: Tensor


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
