"""The weights by which a policy of ``attention.py`` mixes the values of the last block.

They are read off the policy itself: values that are 1 in one token and 0 in all others come out as
that token's weight. So a policy is written down once, and one of a user's has weights too where its
result is a mean of values that queries and keys weigh.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.encoder.attention import Attention
from sclip_core.encoder.dense import DenseEncoder

TOLERANCE = 1e-3  # of the largest mixed value


@torch.no_grad()
def attention_weights(
    encoder: DenseEncoder, attention: Attention, pixels: Tensor, tokens: Sequence[int]
) -> Tensor:
    """The weights with which one patch of each window mixes the values of the last block.

    Args:
        encoder: of the model.
        attention: the policy of the last block.
        pixels: windows (B, 3, h, w), normalised.
        tokens: of each window the patch, counted row by row from 0, without CLS.

    Returns:
        (B, heads, T) float32 on the CPU, T tokens with those before the patches first. They sum to
        1: those of CSA, two attentions that sum to 2, are halved.

    Raises:
        UserError: the policy does not mix patches, or its result is no mean of values.
    """
    grid, prefix = encoder.grid(pixels), encoder.backbone.prefix
    q, k, v = encoder.tower_on(grid).heads(-1, encoder.trunk(pixels))
    windows, places = torch.arange(len(pixels)), torch.tensor(tokens) + prefix

    if torch.equal(attention(torch.zeros_like(q), torch.zeros_like(k), v, grid), v):
        raise UserError(
            f"attention '{attention}' has no weights to show: every patch keeps its own value"
        )

    def row(values: Tensor) -> Tensor:
        """What comes out at the patches: (B, heads, d)."""
        return attention(q, k, values, grid)[windows, :, places]

    length, width = v.shape[2:]
    weights = v.new_zeros(*v.shape[:2], length)
    for first in range(0, length, width):
        count = min(width, length - first)
        single = torch.zeros_like(v)
        single[:, :, range(first, first + count), range(count)] = 1
        weights[..., first : first + count] = row(single)[..., :count]
    mixed = row(v)
    expected = torch.einsum("bht,bhtd->bhd", weights, v)
    total = weights.sum(dim=-1, keepdim=True)
    close = (mixed - expected).abs().max() <= TOLERANCE * mixed.abs().max()
    if not close or not bool((total > 0).all()):
        raise UserError(
            f"attention '{attention}' has no weights to show: it is no mean of the values that "
            "queries and keys alone weigh"
        )
    return (weights / total).float().cpu()
