"""open_clip's own ``VisionTransformer``: OpenAI's towers, and CoCa's, which pool by attention."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.positions import PositionTable
from sclip_core.encoder.towers.backbone import Backbone, patches_of, stacked
from sclip_core.tensors import Buffers, linear
from sclip_core.tensors.half import normed
from sclip_core.tensors.products import takes_onednn

PLAIN = {"ResidualAttentionBlock"}


class OpenClipViT(Backbone):
    """Its parts; products of blocks go into buffers, as CPUs want them."""

    prefix = 1

    def __init__(self, visual: nn.Module) -> None:
        """Wrap open_clip's ``VisionTransformer``."""
        super().__init__(visual)
        tower = self.visual
        self._blocks = tower.transformer.resblocks
        self.layers = len(self._blocks)
        self.width = int(tower.conv1.out_channels)
        pooled = self.width if tower.attn_pool is None else int(tower.attn_pool.attn.embed_dim)
        self.output = pooled if tower.proj is None else int(tower.proj.shape[1])
        self.patch = int(tower.patch_size[0])
        self.native = (int(tower.grid_size[0]), int(tower.grid_size[1]))
        self.cls = ""
        if tower.attn_pool is not None:
            self.cls = "pools by attention"
        elif tower.pool_type != "tok":
            self.cls = "pools its patches"
        self.positions = PositionTable(lambda: tower.positional_embedding, self.native, 1)

    @staticmethod
    def why_not(visual: Any) -> str | None:
        """Other blocks than plain ones, and what no model of open_clip's has."""
        blocks = {type(block).__name__ for block in visual.transformer.resblocks}
        if blocks != PLAIN:
            named = f" ({', '.join(sorted(blocks))})" if blocks else ""
            return f"has no plain attention blocks{named}"
        if len(set(visual.patch_size)) > 1:
            return f"has patches that are not square, {visual.patch_size}"
        if visual.attn_pool is not None and visual.attn_pool_contrastive is not None:
            return f"pools by two attentions, {visual.attn_pool_type}"
        if visual.pool_type == "none":
            return "pools nothing"
        return None

    @property
    def blocks(self) -> nn.Module:
        """All residual blocks."""
        blocks: nn.Module = self._blocks
        return blocks

    @property
    def weight(self) -> Tensor:
        """Of the last block's queries, keys and values."""
        weight: Tensor = self._blocks[-1].attn.in_proj_weight
        return weight

    @property
    def outer(self) -> Tensor:
        """Of the first convolution."""
        weight: Tensor = self.visual.conv1.weight
        return weight

    @property
    def num_heads(self) -> int:
        """Heads of an attention."""
        return int(self._blocks[-1].attn.num_heads)

    @property
    def first(self) -> Tensor:
        """CLS with its position, through ln_pre: (1, width)."""
        tower, dtype = self.visual, self.outer.dtype
        raw = tower.class_embedding.to(dtype) + tower.positional_embedding[0].to(dtype)
        token: Tensor = tower.ln_pre(raw)
        return token[None]

    def embed(self, pixels: Tensor, grid: tuple[int, int], rule: str) -> Tensor:
        """Patches and CLS with their positions, through ln_pre."""
        assert self.positions is not None
        patches = patches_of(self.visual.conv1, pixels, grid)
        x = stacked(patches, self.visual.class_embedding[None, None])
        return normed(self.visual.ln_pre, x + self.positions.of(grid, rule), self.stream)

    def norm_1(self, block: int, x: Tensor) -> Tensor:
        """ln_1."""
        return self._normed(self._blocks[block].ln_1, x)

    def heads(
        self, block: int, x: Tensor, grid: tuple[int, int], buffers: Buffers, prefix: int
    ) -> Heads:
        """One product for queries, keys and values."""
        attn = self._blocks[block].attn
        batch, length, width = x.shape
        rows = self.norm_1(block, x).view(batch * length, width)
        qkv = buffers.linear("qkv", rows, attn.in_proj_weight, attn.in_proj_bias)
        split = qkv.view(batch, length, 3, attn.num_heads, width // attn.num_heads)
        return Heads(*split.permute(2, 0, 3, 1, 4))

    def some_heads(
        self,
        block: int,
        x: Tensor,
        grid: tuple[int, int],
        buffers: Buffers,
        prefix: int,
        names: Literal["qk", "kv"],
    ) -> tuple[Tensor, Tensor]:
        """Two thirds of the product."""
        attn, width = self._blocks[block].attn, self.width
        rows = slice(0, 2 * width) if names == "qk" else slice(width, 3 * width)
        bias = None if attn.in_proj_bias is None else attn.in_proj_bias[rows]
        two = linear(self.norm_1(block, x), attn.in_proj_weight[rows], bias)
        first, second = two.unflatten(-1, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return first, second

    def values(self, block: int, x: Tensor) -> Tensor:
        """The last third of that product."""
        attn, width = self._blocks[block].attn, self.width
        bias = None if attn.in_proj_bias is None else attn.in_proj_bias[2 * width :]
        return linear(self.norm_1(block, x), attn.in_proj_weight[2 * width :], bias)

    def out(self, block: int, rows: Tensor, buffers: Buffers) -> Tensor:
        """out_proj and LayerScale."""
        of_block = self._blocks[block]
        projection = of_block.attn.out_proj
        scaled: Tensor = of_block.ls_1(
            buffers.linear("out", rows, projection.weight, projection.bias)
        )
        return scaled

    def mlp(self, block: int, x: Tensor, buffers: Buffers) -> Tensor:
        """ln_2, MLP, LayerScale."""
        of_block = self._blocks[block]
        up, activation, down = of_block.mlp
        rows = self._normed(of_block.ln_2, x).view(-1, x.shape[-1])
        added: Tensor = of_block.ls_2(buffers.mlp(rows, up, activation, down))
        return added.view_as(x)

    def norm(self, x: Tensor) -> Tensor:
        """ln_post; where attention pools, that comes after it, and this is the pooling's own."""
        tower = self.visual
        norm = tower.ln_post if tower.attn_pool is None else tower.attn_pool.ln_k
        return self._last_norm(norm, x)

    def embedding(self, x: Tensor) -> Tensor:
        """The projection; where attention pools, its values, out_proj and ln_post first."""
        tower = self.visual
        if tower.attn_pool is not None:
            x = tower.ln_post(_value(tower.attn_pool.attn, x))
        if tower.proj is None:
            return x
        embedded: Tensor = linear(x, tower.proj.T) if takes_onednn(x) else x @ tower.proj
        return embedded

    def pooled(self, x: Tensor) -> Tensor:
        """open_clip's pooling, which has ln_post in it."""
        pooled, _ = self.visual._pool(x.to(self.outer.dtype))
        embedded: Tensor = pooled if self.visual.proj is None else pooled @ self.visual.proj
        return embedded


def _value(attn: Any, x: Tensor) -> Tensor:
    """What PyTorch's ``MultiheadAttention`` gives of tokens if each is all that is attended to."""
    width = attn.embed_dim
    weight = attn.v_proj_weight if attn.in_proj_weight is None else attn.in_proj_weight[2 * width :]
    bias = None if attn.in_proj_bias is None else attn.in_proj_bias[2 * width :]
    out: Tensor = attn.out_proj(linear(x, weight, bias))
    return out
