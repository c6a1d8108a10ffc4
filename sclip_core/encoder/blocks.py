"""What the attention of a block mixes; the parts of blocks are in ``towers``."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Heads(NamedTuple):
    """Queries, keys and values, each (B, heads, T, d_head); T is 1+N in a tower with CLS."""

    q: Tensor
    k: Tensor
    v: Tensor
