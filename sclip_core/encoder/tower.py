"""The parts of CLIP's image tower that a method computes with, in float32.

Blocks are numbered from 0: block l reads H_l and gives H_(l+1), in the words of ``taps.py``; -1 is
the last. The weights keep the tower's dtype; whatever is taken and returned is float32, and new.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from sclip_core.encoder.blocks import Heads


class Tower:
    """A plain ViT tower of open_clip's, taken apart."""

    def __init__(self, visual: Any) -> None:
        """Wrap a tower; see ``DenseEncoder.tower``."""
        self._visual = visual
        self._blocks = visual.transformer.resblocks

    @property
    def layers(self) -> int:
        """L, the number of blocks."""
        return len(self._blocks)

    @property
    def num_heads(self) -> int:
        """Heads of an attention."""
        return int(self._blocks[-1].attn.num_heads)

    @property
    def width(self) -> int:
        """Of a token in the tower."""
        return int(self._visual.proj.shape[0])

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self._visual.patch_size[0])

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self._visual.proj.dtype
        return dtype

    @cached_property
    def cls(self) -> Tensor:
        """The CLS token that the first block reads, the same for every image: (width,)."""
        visual = self._visual
        raw = visual.class_embedding.to(self.dtype) + visual.positional_embedding[0].to(self.dtype)
        token: Tensor = visual.ln_pre(raw).float()
        return token

    def ln_1(self, block: int, x: Tensor) -> Tensor:
        """A block's first LayerNorm, of what the block reads: (..., width)."""
        normed: Tensor = self._blocks[block].ln_1(x.to(self.dtype)).float()
        return normed

    def heads(self, block: int, x: Tensor) -> Heads:
        """Queries, keys and values of a block's attention, from what the block reads.

        Args:
            block: from 0.
            x: (B, T, width), before ln_1.

        Returns:
            Each (B, heads, T, d_head).
        """
        of_block = self._blocks[block]
        qkv = linear(
            of_block.ln_1(x.to(self.dtype)),
            of_block.attn.in_proj_weight,
            of_block.attn.in_proj_bias,
        )
        split = qkv.float().unflatten(-1, (3, self.num_heads, -1))
        return Heads(*split.permute(2, 0, 3, 1, 4).contiguous())

    def some_heads(
        self, block: int, x: Tensor, names: Literal["qk", "kv"]
    ) -> tuple[Tensor, Tensor]:
        """Two of the three of ``heads``, for two thirds of the products."""
        of_block, width = self._blocks[block], x.shape[-1]
        rows = slice(0, 2 * width) if names == "qk" else slice(width, 3 * width)
        bias = of_block.attn.in_proj_bias
        two = linear(
            of_block.ln_1(x.to(self.dtype)),
            of_block.attn.in_proj_weight[rows],
            None if bias is None else bias[rows],
        )
        split = two.float().unflatten(-1, (2, self.num_heads, -1))
        first, second = split.permute(2, 0, 3, 1, 4).contiguous()
        return first, second

    def values(self, block: int, x: Tensor) -> Tensor:
        """The values of a block's attention, all heads side by side: (B, T, width)."""
        of_block, width = self._blocks[block], x.shape[-1]
        bias = of_block.attn.in_proj_bias
        weight = of_block.attn.in_proj_weight[2 * width :]
        x = of_block.ln_1(x.to(self.dtype))
        return linear(x, weight, None if bias is None else bias[2 * width :]).float()

    def out(self, block: int, mixed: Tensor) -> Tensor:
        """A block's out_proj, with its bias, of mixed values.

        Args:
            block: from 0.
            mixed: (B, heads, T, d_head), or (..., width) with the heads side by side.

        Returns:
            (B, T, width), or of the shape of ``mixed``.
        """
        of_head = self.width // self.num_heads
        if mixed.ndim == 4 and mixed.shape[1] == self.num_heads and mixed.shape[-1] == of_head:
            mixed = mixed.transpose(1, 2).flatten(2)
        projection = self._blocks[block].attn.out_proj
        return linear(mixed.to(self.dtype), projection.weight, projection.bias).float()

    def after_attention(self, block: int, x: Tensor) -> Tensor:
        """``x + MLP(ln_2(x))`` of a block; x (..., width) has the residual already."""
        of_block = self._blocks[block]
        x = x.to(self.dtype)
        complete: Tensor = x + of_block.ls_2(of_block.mlp(of_block.ln_2(x)))
        return complete.float()

    def ln_post(self, z: Tensor) -> Tensor:
        """The last LayerNorm: (..., width)."""
        normed: Tensor = self._visual.ln_post(z.to(self.dtype)).float()
        return normed

    def project(self, z: Tensor) -> Tensor:
        """To the space that CLIP's words are in: (..., width) to (..., D)."""
        projected: Tensor = (z.to(self.dtype) @ self._visual.proj).float()
        return projected

    def final(self, z: Tensor) -> Tensor:
        """ln_post, then the projection: (..., width) to (..., D), not normalised."""
        normed = self._visual.ln_post(z.to(self.dtype))
        projected: Tensor = (normed @ self._visual.proj).float()
        return projected

    def features(self, z: Tensor) -> Tensor:
        """``final``, to unit length: (..., D)."""
        return normalize(self.final(z), dim=-1)
