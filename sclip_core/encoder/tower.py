"""The parts of CLIP's image tower that a method computes with, in float32.

Blocks are numbered from 0: block l reads H_l and gives H_(l+1), in the words of ``taps.py``; -1 is
the last. The weights keep the tower's dtype; whatever is taken and returned is float32, and new.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.towers import Backbone
from sclip_core.tensors import Buffers


class Tower:
    """A ViT tower of open_clip's, taken apart, for windows of one size."""

    def __init__(self, backbone: Backbone, grid: tuple[int, int]) -> None:
        """Wrap a tower; see ``DenseEncoder.tower_on``."""
        self._backbone, self._grid = backbone, grid
        self._buffers = Buffers(reuse=False)

    @property
    def layers(self) -> int:
        """L, the number of blocks."""
        return self._backbone.layers

    @property
    def num_heads(self) -> int:
        """Heads of an attention."""
        return self._backbone.num_heads

    @property
    def width(self) -> int:
        """Of a token in the tower."""
        return self._backbone.width

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self._backbone.patch

    @property
    def prefix(self) -> int:
        """Tokens before the patches: 1, CLS, in OpenAI's towers; 0 in SigLIP's."""
        return self._backbone.prefix

    @property
    def dtype(self) -> torch.dtype:
        """Of the products in its blocks."""
        return self._backbone.weight.dtype

    @property
    def stream(self) -> torch.dtype:
        """Of what blocks read, which float32 is rounded to before it goes through a block."""
        return self._backbone.stream

    @cached_property
    def cls(self) -> Tensor:
        """The CLS token that the first block reads, the same for every image: (width,)."""
        return self._backbone.first[0].float()

    def ln_1(self, block: int, x: Tensor) -> Tensor:
        """A block's first LayerNorm, of what the block reads: (..., width)."""
        return self._backbone.norm_1(block, x.to(self.stream)).float()

    def heads(self, block: int, x: Tensor, prefix: int | None = None) -> Heads:
        """Queries, keys and values of a block's attention, from what the block reads.

        Args:
            block: from 0.
            x: (B, T, width), before ln_1.
            prefix: how many of the tokens come before the patches, which some towers turn by their
                positions: 0 where ``x`` is patches alone, T where it has none; None: as the taps.

        Returns:
            Each (B, heads, T, d_head).
        """
        before = self.prefix if prefix is None else prefix
        heads = self._backbone.heads(block, x.to(self.stream), self._grid, self._buffers, before)
        return Heads(*(part.float().contiguous() for part in heads))

    def some_heads(
        self, block: int, x: Tensor, names: Literal["qk", "kv"], prefix: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Two of the three of ``heads``, for two thirds of the products where that is possible."""
        before = self.prefix if prefix is None else prefix
        two = self._backbone.some_heads(
            block, x.to(self.stream), self._grid, self._buffers, before, names
        )
        return two[0].float().contiguous(), two[1].float().contiguous()

    def values(self, block: int, x: Tensor) -> Tensor:
        """The values of a block's attention, all heads side by side: (B, T, width)."""
        return self._backbone.values(block, x.to(self.stream)).float()

    def out(self, block: int, mixed: Tensor) -> Tensor:
        """What a block's attention adds to the tokens: out_proj, with its bias, of mixed values.

        Args:
            block: from 0.
            mixed: (B, heads, T, d_head), or (..., width) with the heads side by side.

        Returns:
            (B, T, width), or of the shape of ``mixed``.
        """
        of_head = self.width // self.num_heads
        if mixed.ndim == 4 and mixed.shape[1] == self.num_heads and mixed.shape[-1] == of_head:
            mixed = mixed.transpose(1, 2).flatten(2)
        return self._backbone.out(block, mixed.to(self.dtype), self._buffers).float()

    def after_attention(self, block: int, x: Tensor) -> Tensor:
        """``x + MLP(ln_2(x))`` of a block; x (..., width) has the residual already."""
        x = x.to(self.stream)
        return (x + self._backbone.mlp(block, x, self._buffers)).float()

    def ln_post(self, z: Tensor) -> Tensor:
        """The last LayerNorm: (..., width)."""
        return self._backbone.norm(z.to(self.stream)).float()

    def project(self, z: Tensor) -> Tensor:
        """To the space that CLIP's words are in: (..., width) to (..., D)."""
        return self._backbone.embedding(z.to(self._backbone.outer.dtype)).float()

    def final(self, z: Tensor) -> Tensor:
        """ln_post, then the projection: (..., width) to (..., D), not normalised."""
        backbone = self._backbone
        return backbone.embedding(backbone.norm(z.to(self.stream))).float()

    def features(self, z: Tensor) -> Tensor:
        """``final``, to unit length: (..., D)."""
        return normalize(self.final(z), dim=-1)
