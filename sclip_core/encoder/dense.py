"""Dense CLIP features: the image tower with another attention in its last block.

SCLIP (arXiv 2312.01597), section 3: all blocks but the last are unchanged; the last block's
attention is a policy of ``attention.py``; then ln_post and the projection, for every token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, normalize

from sclip_core.config import UserError
from sclip_core.encoder.attention import Attention

TRAINED = Attention.parse("vanilla")


class DenseEncoder:
    """A frozen open_clip ``VisionTransformer`` that gives a feature for every patch."""

    def __init__(self, visual: nn.Module, attention: Attention) -> None:
        """Wrap an image tower.

        Args:
            visual: open_clip's plain ``VisionTransformer``, on its device, in its dtype.
            attention: the last block's policy.

        Raises:
            UserError: a tower without the needed parts.
        """
        check_tower(visual)
        visual.eval().requires_grad_(False)
        self.visual: Any = visual
        self.attention = attention
        tower: Any = visual
        self.patch = int(tower.patch_size[0])
        self.width = int(tower.proj.shape[1])
        self._positions: dict[tuple[int, int], Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.visual.proj.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """In what the tower computes."""
        dtype: torch.dtype = self.visual.proj.dtype
        return dtype

    @torch.inference_mode()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Projected tokens of every window.

        Args:
            pixels: (B, 3, h, w), normalised; what exceeds a whole number of patches is left out.

        Returns:
            (B, 1+N, D) in the tower's dtype, not normalised, CLS first.
        """
        grid = (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch)
        if min(grid) < 1:
            raise UserError(
                f"pixels of {pixels.shape[-2]}×{pixels.shape[-1]} hold no patch of "
                f"{self.patch}×{self.patch}"
            )
        x = self._embed(pixels.to(self.device, self.dtype), grid)
        *trunk, last = self.visual.transformer.resblocks
        for block in trunk:
            x = _block(block, x, TRAINED, grid)
        x = _block(last, x, self.attention, grid)
        projected: Tensor = self.visual.ln_post(x) @ self.visual.proj
        return projected

    @torch.inference_mode()
    def patch_features(self, pixels: Tensor) -> Tensor:
        """Unit-length features of the patches of every window, without CLS.

        Args:
            pixels: (B, 3, h, w), normalised.

        Returns:
            (B, h // patch, w // patch, D) float32.
        """
        rows, columns = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        features = normalize(self.tokens(pixels)[:, 1:].float(), dim=-1)
        gridded: Tensor = features.unflatten(1, (rows, columns))
        return gridded

    def _embed(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches and CLS with their positions, through ln_pre: (B, 1+N, width)."""
        visual = self.visual
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([cls, patches], dim=1) + self._position_embedding(grid)
        embedded: Tensor = visual.ln_pre(x)
        return embedded

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """The table as it is if the token counts agree, else resized as the reference does."""
        table: Tensor = self.visual.positional_embedding
        if 1 + grid[0] * grid[1] == len(table):
            return table
        if grid not in self._positions:
            self._positions[grid] = resize_positions(table.float(), grid).to(table.dtype)
        return self._positions[grid]


def _block(block: Any, x: Tensor, attention: Attention, grid: tuple[int, int]) -> Tensor:
    """A residual block with a policy as its attention.

    Spelled out for the trunk too: PyTorch's own fast path for it rounds differently from the
    reference, and the last digits are what the golden arrays are about.

    Args:
        block: open_clip's ``ResidualAttentionBlock``.
        x: (B, 1+N, width).
        attention: the policy.
        grid: patch rows and columns.
    """
    attn = block.attn
    batch, length, width = x.shape
    heads = attn.num_heads
    qkv = linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    mixed = attention(q, k, v, grid).transpose(1, 2).reshape(batch, length, width)
    out: Tensor = attn.out_proj(mixed)
    if attention.arch == "reduced":
        return out
    x = x + block.ls_1(out)
    residual: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return residual


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A position table for another patch grid: section 3 of the reference protocol.

    The 0.1 keeps the size from being rounded down, and enters the sampling coordinates: PyTorch is
    told the scale, not the size.

    Args:
        table: (1+M, width), CLS first, for a square grid of M patches.
        grid: rows and columns that are wanted.

    Returns:
        (1+rows·columns, width).
    """
    side = int((len(table) - 1) ** 0.5)
    square = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    resized = interpolate(square, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
    if resized.shape[-2:] != grid:
        raise AssertionError(f"positions of {tuple(resized.shape[-2:])}, wanted {grid}")
    return torch.cat([table[:1], resized[0].flatten(1).T])


def check_tower(visual: nn.Module) -> None:
    """Refuse an image tower that gives no dense features.

    Raises:
        UserError: not a plain ViT; says what is missing and what can be used.
    """
    attn_pool = getattr(visual, "attn_pool", None)
    if type(visual).__name__ != "VisionTransformer" or not hasattr(visual, "transformer"):
        reason = f"its image tower is a {type(visual).__name__}"
    elif attn_pool is not None:
        reason = "its image tower pools by attention"
    elif type(visual.transformer.resblocks[-1].attn).__name__ != "MultiheadAttention":  # type: ignore[union-attr, index]
        reason = "the last block of its image tower is not a plain one"
    else:
        return
    raise UserError(
        f"this model cannot give dense features: {reason}. Take an open_clip model with a plain "
        "ViT tower, e.g. ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14"
    )
