"""Dense CLIP features: the image tower with another attention in its last block.

SCLIP (arXiv 2312.01597), section 3: all blocks but the last are unchanged; the last block's
attention is a policy of ``attention.py``; then ln_post and the projection, for every token.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, normalize

from sclip_core.config import UserError
from sclip_core.encoder.attention import Attention

TRAINED = Attention.parse("vanilla")
PLAIN = {"ResidualAttentionBlock"}
NOT_A_VIT = {"ModifiedResNet": "is a ResNet", "TimmModel": "comes from timm"}
REMEMBERED = 16  # resized position tables: a table for each shape of image would fill a GPU


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
        check_tower("this model", visual)
        tower: Any = visual.eval().requires_grad_(False)
        self.visual = tower
        self.attention = attention
        self.patch = int(tower.patch_size[0])
        self.width = int(tower.proj.shape[1])
        self._resized_positions = lru_cache(maxsize=REMEMBERED)(
            partial(resize_positions, tower.positional_embedding, tower.grid_size)
        )

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

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Projected tokens of every window.

        Args:
            pixels: (B, 3, h, w), normalised; what exceeds a whole number of patches is left out.

        Returns:
            (B, 1+N, D) in the tower's dtype, not normalised, CLS first.

        Raises:
            UserError: pixels of another shape, or less than a patch.
        """
        grid = self._grid(pixels)
        x = self._embed(pixels.to(self.device, self.dtype), grid)
        *trunk, last = self.visual.transformer.resblocks
        for block in trunk:
            x = _block(block, x, TRAINED, grid)
        x = _block(last, x, self.attention, grid)
        projected: Tensor = self.visual.ln_post(x) @ self.visual.proj
        return projected

    @torch.no_grad()
    def patch_features(self, pixels: Tensor) -> Tensor:
        """Unit-length features of the patches of every window, without CLS.

        Args:
            pixels: (B, 3, h, w), normalised.

        Returns:
            (B, h // patch, w // patch, D) float32.
        """
        features = normalize(self.tokens(pixels)[:, 1:].float(), dim=-1)
        gridded: Tensor = features.unflatten(1, self._grid(pixels))
        return gridded

    def _grid(self, pixels: Tensor) -> tuple[int, int]:
        """Patch rows and columns of windows (B, 3, h, w)."""
        shape = tuple(pixels.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < self.patch:
            raise UserError(
                f"pixels of shape {shape}: expected (B, 3, h, w), normalised, with at least one "
                f"patch of {self.patch}×{self.patch}"
            )
        return shape[2] // self.patch, shape[3] // self.patch

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
        return self._resized_positions(grid)


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


def resize_positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A position table for another patch grid: section 3 of the reference protocol.

    The 0.1 keeps the size from being rounded down, and enters the sampling coordinates: PyTorch is
    told the scale, not the size.

    Args:
        table: (1+rows·columns, width), CLS first, for the native grid.
        native: its rows and columns; the same number in all of OpenAI's models.
        grid: rows and columns that are wanted.

    Returns:
        (1+rows·columns, width) in the table's dtype, computed in float32.
    """
    planes = table[1:].float().reshape(1, *native, -1).permute(0, 3, 1, 2)
    scale = ((grid[0] + 0.1) / native[0], (grid[1] + 0.1) / native[1])
    resized = interpolate(planes, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
    if resized.shape[-2:] != grid:
        raise AssertionError(f"positions of {tuple(resized.shape[-2:])}, wanted {grid}")
    return torch.cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])


def check_tower(name: str, visual: nn.Module) -> None:
    """Refuse an image tower that gives no dense features.

    Args:
        name: of the model, for the error.
        visual: its image tower; on the ``meta`` device will do.

    Raises:
        UserError: not a plain ViT; says what is missing and what can be used.
    """
    tower: Any = visual
    kind = type(visual).__name__
    if kind != "VisionTransformer":
        reason = NOT_A_VIT.get(kind, f"is a {kind}")
    elif tower.attn_pool is not None:
        reason = "pools by attention"
    elif {type(block).__name__ for block in tower.transformer.resblocks} != PLAIN:
        reason = "has no plain attention blocks"
    elif len(set(tower.patch_size)) > 1:
        reason = f"has patches that are not square, {tower.patch_size}"
    else:
        return
    raise UserError(
        f"{name} cannot give dense features: its image tower {reason}. Take an open_clip model "
        "with a plain ViT tower, e.g. ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14"
    )
