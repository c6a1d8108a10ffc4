"""timm's ``Eva`` in open_clip's ``TimmModel``: EVA01, EVA02 and Perception Encoders.

Beside a position table, queries and keys of patches are turned by rotary positions; products of
queries, keys and values are one or three; norms come before the blocks' parts or after them.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sclip_core.config.deferred import deferred
from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.positions import REMEMBERED
from sclip_core.encoder.towers.timm_vit import TimmViT
from sclip_core.tensors import Buffers

timm_layers = deferred("timm.layers.pos_embed_sincos")
POST_NORM = "EvaBlockPostNorm"


class TimmEva(TimmViT):
    """Its parts, computed by timm's own modules."""

    BLOCKS = frozenset({"EvaBlock", POST_NORM})
    ATTENTIONS = frozenset({"EvaAttention", "AttentionRope"})

    def __init__(self, visual: nn.Module) -> None:
        """Wrap open_clip's ``TimmModel``."""
        super().__init__(visual)
        self._post_norm = type(self._blocks[0]).__name__ == POST_NORM
        self._turned = lru_cache(maxsize=REMEMBERED)(self._turn)

    @classmethod
    def why_not(cls, visual: Any) -> str | None:
        """Rotary positions of other kinds than EVA02's, too."""
        rope = visual.trunk.rope
        if rope is not None and type(rope).__name__ != "RotaryEmbeddingCat":
            return f"has rotary positions of another kind ({type(rope).__name__})"
        return super().why_not(visual)

    def rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """Sines and cosines (N, 2·d_head) by which queries and keys of a grid are turned.

        On another grid than the native one they are computed anew, as timm does for images of
        other sizes: EVA02's stretch over the grid, those of Perception Encoders go on.
        """
        rope = self._trunk.rope
        if rope is None:
            return None
        if grid == self.native:
            table: Tensor = rope.get_embed()
            return table
        return self._turned(grid)

    def _turn(self, grid: tuple[int, int]) -> Tensor:
        rope = copy.deepcopy(self._trunk.rope)
        rope.update_feat_shape(list(grid))
        table: Tensor = rope.get_embed()
        return table

    def norm_1(self, block: int, x: Tensor) -> Tensor:
        """norm1, unless it comes after the attention."""
        return x if self._post_norm else super().norm_1(block, x)

    def heads(
        self, block: int, x: Tensor, grid: tuple[int, int], buffers: Buffers, prefix: int
    ) -> Heads:
        """Queries and keys of patches are turned; those of tokens before them are not."""
        heads = super().heads(block, x, grid, buffers, prefix)
        table = self.rotation(grid) if prefix < x.shape[1] else None
        if table is None:
            return heads
        half = bool(getattr(self._blocks[block].attn, "rotate_half", False))
        turned = timm_layers.apply_rot_embed_cat
        q, k = (
            torch.cat(
                [
                    part[:, :, :prefix],
                    turned(part[:, :, prefix:], table, half=half),
                ],
                dim=2,
            ).type_as(heads.v)
            for part in (heads.q, heads.k)
        )
        return Heads(q, k, heads.v)

    def _qkv(self, attn: Any, normed: Tensor) -> tuple[Tensor, ...]:
        if attn.qkv is None:
            return attn.q_proj(normed), attn.k_proj(normed), attn.v_proj(normed)
        if getattr(attn, "q_bias", None) is None:
            return super()._qkv(attn, normed)
        bias = torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
        return linear(normed, attn.qkv.weight, bias).chunk(3, dim=-1)

    def values(self, block: int, x: Tensor) -> Tensor:
        """The values alone, of one product or of three."""
        attn = self._blocks[block].attn
        normed = self.norm_1(block, x)
        if attn.qkv is None:
            values: Tensor = attn.v_proj(normed)
            return values
        if getattr(attn, "q_bias", None) is None:
            return super().values(block, x)
        return linear(normed, attn.qkv.weight[len(attn.v_bias) * 2 :], attn.v_bias)

    def out(self, block: int, rows: Tensor, buffers: Buffers) -> Tensor:
        """The norm that mixed values may have, the projection, norm1 or LayerScale after it."""
        of_block = self._blocks[block]
        out: Tensor = of_block.attn.proj(of_block.attn.norm(rows))
        if self._post_norm:
            normed: Tensor = of_block.norm1(out)
            return normed
        return out if of_block.gamma_1 is None else of_block.gamma_1 * out

    def mlp(self, block: int, x: Tensor, buffers: Buffers) -> Tensor:
        """MLP with norm2 before it or after it, LayerScale."""
        of_block = self._blocks[block]
        if self._post_norm:
            normed: Tensor = of_block.norm2(of_block.mlp(x))
            return normed
        added: Tensor = of_block.mlp(of_block.norm2(x))
        return added if of_block.gamma_2 is None else of_block.gamma_2 * added
