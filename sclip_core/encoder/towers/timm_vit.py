"""timm's ``VisionTransformer`` in open_clip's ``TimmModel``: SigLIP, SigLIP 2, MobileCLIP2-L.

A trunk with CLS or without, a pooling by CLS, by the mean or by attention, and a projection of
timm's or of open_clip's, or none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.positions import PositionTable
from sclip_core.encoder.towers.backbone import Backbone, stacked
from sclip_core.tensors import Buffers, linear
from sclip_core.tensors.half import normed

POOLINGS = {"token", "avg", "max", "avgmax", "map"}


class TimmViT(Backbone):
    """Its parts, computed by timm's own modules."""

    BLOCKS = frozenset({"Block"})
    ATTENTIONS = frozenset({"Attention"})

    def __init__(self, visual: nn.Module) -> None:
        """Wrap open_clip's ``TimmModel``."""
        super().__init__(visual)
        trunk = self._trunk = self.visual.trunk
        self._blocks = trunk.blocks
        self.layers = len(self._blocks)
        self.width = int(trunk.embed_dim)
        self.output = _output(self.visual)
        self.patch = int(trunk.patch_embed.patch_size[0])
        rows, columns = trunk.patch_embed.grid_size
        self.native = (int(rows), int(columns))
        self.prefix = int(trunk.num_prefix_tokens)
        self.cls = ""
        if trunk.global_pool != "token":
            self.cls = "pools by attention" if trunk.global_pool == "map" else "pools its patches"
        if trunk.cls_token is None:
            self.cls = "has none"
        elif self.prefix > 1:
            self.cls = "has registers beside it"
        self._in_table = 0 if trunk.no_embed_class else self.prefix
        self.positions = None
        if trunk.pos_embed is not None:
            self.positions = PositionTable(lambda: trunk.pos_embed[0], self.native, self._in_table)

    @classmethod
    def why_not(cls, visual: Any) -> str | None:
        """What the parts below leave out."""
        trunk = visual.trunk
        embed, blocks = type(trunk.patch_embed).__name__, trunk.blocks
        if embed != "PatchEmbed":
            return f"embeds its patches by other networks (timm's {embed})"
        sides = set(trunk.patch_embed.patch_size)
        if len(sides) > 1:
            return f"has patches that are not square, {tuple(trunk.patch_embed.patch_size)}"
        for block in blocks:
            kind, attn = type(block).__name__, getattr(block, "attn", block)
            if kind not in cls.BLOCKS or type(attn).__name__ not in cls.ATTENTIONS:
                return f"has no plain attention blocks ({kind}, {type(attn).__name__})"
            if attn.gate is not None or getattr(attn, "num_kv_groups", 1) > 1:
                return "has gates or shared keys in its attention"
        if not len(blocks):
            return "has no plain attention blocks"
        if trunk.global_pool not in POOLINGS:
            return f"pools by '{trunk.global_pool}'"
        if "pool" in dict(visual.head.named_children()):
            return f"pools by {type(visual.head.pool).__name__}"
        pool = trunk.attn_pool
        if pool is not None and (
            type(pool).__name__ != "AttentionPoolLatent" or pool.pos_embed is not None
        ):
            return f"pools by {type(pool).__name__}, which looks at positions"
        return None

    @property
    def blocks(self) -> nn.Module:
        """All blocks."""
        blocks: nn.Module = self._blocks
        return blocks

    @property
    def weight(self) -> Tensor:
        """Of the last block's projection."""
        weight: Tensor = self._blocks[-1].attn.proj.weight
        return weight

    @property
    def outer(self) -> Tensor:
        """Of the first convolution."""
        weight: Tensor = self._trunk.patch_embed.proj.weight
        return weight

    @property
    def num_heads(self) -> int:
        """Heads of an attention."""
        return int(self._blocks[-1].attn.num_heads)

    @property
    def first(self) -> Tensor:
        """CLS and registers with their positions, through norm_pre: (prefix, width)."""
        prefix = self._prefix()
        if self._in_table:
            prefix = prefix + self._trunk.pos_embed[:, : self._in_table]
        tokens: Tensor = self._trunk.norm_pre(prefix)[0]
        return tokens

    def _prefix(self) -> Tensor:
        """CLS and registers as learned: (1, prefix, width)."""
        trunk = self._trunk
        found = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        return torch.cat(found, 1) if found else self.outer.new_zeros(1, 0, self.width)

    def embed(self, pixels: Tensor, grid: tuple[int, int], rule: str) -> Tensor:
        """Patches, and tokens before them, with their positions, through norm_pre."""
        trunk = self._trunk
        # Not patch_embed itself, which refuses other sizes than the native one.
        patches = trunk.patch_embed.norm(trunk.patch_embed.proj(pixels).flatten(2).transpose(1, 2))
        if self.positions is None:
            x = stacked(patches, self._prefix())
        elif self._in_table:
            x = stacked(patches, self._prefix()) + self.positions.of(grid, rule)
        else:
            x = stacked(patches + self.positions.of(grid, rule), self._prefix())
        return normed(trunk.norm_pre, x, self.stream)

    def norm_1(self, block: int, x: Tensor) -> Tensor:
        """norm1."""
        return self._normed(self._blocks[block].norm1, x)

    def heads(
        self, block: int, x: Tensor, grid: tuple[int, int], buffers: Buffers, prefix: int
    ) -> Heads:
        """Queries and keys with the norm that they may have."""
        attn, read = self._blocks[block].attn, self.norm_1(block, x)
        q, k, v = (
            part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
            for part in self._qkv(attn, read)
        )
        return Heads(attn.q_norm(q), attn.k_norm(k), v)

    def _qkv(self, attn: Any, read: Tensor) -> tuple[Tensor, ...]:
        """The three products, heads side by side."""
        return linear(read, attn.qkv.weight, attn.qkv.bias).chunk(3, dim=-1)

    def values(self, block: int, x: Tensor) -> Tensor:
        """The last third of the product."""
        attn = self._blocks[block].attn
        start = attn.qkv.out_features // 3 * 2
        bias = None if attn.qkv.bias is None else attn.qkv.bias[start:]
        return linear(self.norm_1(block, x), attn.qkv.weight[start:], bias)

    def out(self, block: int, rows: Tensor, buffers: Buffers) -> Tensor:
        """The norm that mixed values may have, the projection, LayerScale."""
        of_block = self._blocks[block]
        attn = of_block.attn
        out: Tensor = of_block.ls1(linear(attn.norm(rows), attn.proj.weight, attn.proj.bias))
        return out

    def mlp(self, block: int, x: Tensor, buffers: Buffers) -> Tensor:
        """norm2, MLP, LayerScale."""
        of_block = self._blocks[block]
        added: Tensor = of_block.ls2(of_block.mlp(self._normed(of_block.norm2, x)))
        return added

    def norm(self, x: Tensor) -> Tensor:
        """The trunk's norm, and fc_norm where it follows at once, as no attention pools."""
        trunk = self._trunk
        tokens = self._last_norm(trunk.norm, x)
        if trunk.attn_pool is None:
            tokens = trunk.fc_norm(tokens)
        return tokens

    def embedding(self, x: Tensor) -> Tensor:
        """The projection; where attention pools, its values, its projection and its MLP first."""
        trunk = self._trunk
        if trunk.attn_pool is not None:
            x = trunk.fc_norm(_value(trunk.attn_pool, x))
        embedded: Tensor = self.visual.head(trunk.head(x))
        return embedded

    def pooled(self, x: Tensor) -> Tensor:
        """The pooling and projection of timm, then that of open_clip."""
        trunk = self._trunk
        embedded: Tensor = self.visual.head(trunk.forward_head(self._last_norm(trunk.norm, x)))
        return embedded


def _value(pool: Any, x: Tensor) -> Tensor:
    """What timm's ``AttentionPoolLatent`` gives of tokens if each is all that is attended to."""
    start = pool.kv.out_features // 2
    bias = None if pool.kv.bias is None else pool.kv.bias[start:]
    out: Tensor = pool.proj(linear(x, pool.kv.weight[start:], bias))
    return out if pool.mlp is None else out + pool.mlp(pool.norm(out))


def _output(visual: Any) -> int:
    """D: the width after timm's head and open_clip's."""
    layers = [
        m
        for m in (*visual.trunk.head.modules(), *visual.head.modules())
        if hasattr(m, "out_features")
    ]
    return int(layers[-1].out_features if layers else visual.trunk.embed_dim)
