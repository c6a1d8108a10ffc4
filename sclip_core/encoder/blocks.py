"""A residual block of CLIP's image tower, in parts, so that its attention can be replaced.

Used for every block, not only the last: PyTorch's own fast path rounds differently from the
reference, whose last digits the golden arrays hold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from sclip_core.tensors import Buffers


class Heads(NamedTuple):
    """Queries, keys and values, each (B, heads, 1+N, d_head)."""

    q: Tensor
    k: Tensor
    v: Tensor


def heads_of(block: Any, x: Tensor, buffers: Buffers) -> Heads:
    """The queries, keys and values of a block's attention.

    Args:
        block: open_clip's ``ResidualAttentionBlock``.
        x: (B, 1+N, width).
        buffers: for the products; the result is valid until the next block.
    """
    attn = block.attn
    batch, length, width = x.shape
    rows = block.ln_1(x).view(batch * length, width)
    qkv = buffers.linear("qkv", rows, attn.in_proj_weight, attn.in_proj_bias)
    split = qkv.view(batch, length, 3, attn.num_heads, width // attn.num_heads)
    return Heads(*split.permute(2, 0, 3, 1, 4))


def project(block: Any, mixed: Tensor, buffers: Buffers) -> Tensor:
    """The output of a block's attention.

    Args:
        block: open_clip's ``ResidualAttentionBlock``.
        mixed: (B, heads, 1+N, d_head), values as the attention mixed them.
        buffers: for the product.

    Returns:
        (B, 1+N, width), before residual and MLP.
    """
    batch, _, length, _ = mixed.shape
    out = block.attn.out_proj
    rows = mixed.transpose(1, 2).reshape(batch * length, -1)
    return buffers.linear("out", rows, out.weight, out.bias).view(batch, length, -1)


def complete(block: Any, x: Tensor, projected: Tensor, buffers: Buffers) -> Tensor:
    """Add the residual, then the MLP.

    Args:
        block: open_clip's ``ResidualAttentionBlock``.
        x: (B, 1+N, width), the block's input; overwritten.
        projected: (B, 1+N, width), as of ``project``.
        buffers: for the products.

    Returns:
        (B, 1+N, width), the block's output, in ``x``.
    """
    up, activation, down = block.mlp
    x += block.ls_1(projected)
    rows = block.ln_2(x).view(-1, x.shape[-1])
    hidden = buffers.activate(activation, buffers.linear("hidden", rows, up.weight, up.bias))
    x += block.ls_2(buffers.linear("out", hidden, down.weight, down.bias).view_as(x))
    return x
