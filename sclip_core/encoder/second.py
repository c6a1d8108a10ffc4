"""The second network of methods such as ProxyCLIP: a DINO or DINOv2 ViT, and what is read of it.

docs/methods.md, "What they share": the network sees the window that CLIP sees, in ImageNet's
normalisation, and its position table is resized by DINO's own rule (Caron et al., arXiv
2104.14294), which is not timm's.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from sclip_core.config import UserError
from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.positions import REMEMBERED, resize_positions
from sclip_core.tensors import Buffers, attend, linear
from sclip_core.tensors.half import normed, stream_dtype

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's models, on the 0–1 scale
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MEAN = (0.485, 0.456, 0.406)  # ImageNet's, which DINO was trained with
STD = (0.229, 0.224, 0.225)
TOKENS = "tokens"
QUERIES_KEYS = "queries+keys"
PENULTIMATE = "penultimate"
TAPS = (TOKENS, QUERIES_KEYS, PENULTIMATE)


class LastBlock:
    """The parts of the last block, for methods that compute it anew, in float32."""

    def __init__(self, vit: Any) -> None:
        """Wrap the last block and the final norm of timm's ``VisionTransformer``."""
        self._block = vit.blocks[-1]
        self._final_norm = vit.norm
        weight = self._block.attn.proj.weight
        self._dtype, self._stream = weight.dtype, stream_dtype(weight)

    @property
    def num_heads(self) -> int:
        """Heads of its attention."""
        return int(self._block.attn.num_heads)

    def qkv(self, penultimate: Tensor) -> Heads:
        """Queries, keys and values, heads side by side, bias included, not scaled.

        Args:
            penultimate: (..., C), what the block reads, before norm1.

        Returns:
            Each (..., C).
        """
        attn = self._block.attn
        read = normed(self._block.norm1, penultimate.to(self._stream), self._dtype)
        return Heads(*linear(read, attn.qkv.weight, attn.qkv.bias).float().chunk(3, dim=-1))

    def norm(self, x: Tensor) -> Tensor:
        """The final norm, which follows the block: (..., C)."""
        return normed(self._final_norm, x.to(self._stream), self._dtype).float()

    def project(self, mixed: Tensor) -> Tensor:
        """The attention's projection of mixed values, heads side by side, with its LayerScale."""
        projected: Tensor = self._block.ls1(self._block.attn.proj(mixed.to(self._dtype))).float()
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        """``x + MLP(norm2(x))``; x (..., C) has the attention's residual already."""
        x = x.to(self._stream)
        complete: Tensor = x + self._block.ls2(
            self._block.mlp(normed(self._block.norm2, x, self._dtype))
        )
        return complete.float()


class SecondNetwork:
    """A frozen timm ``VisionTransformer`` that is read at its last block."""

    def __init__(
        self, vit: Any, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
    ) -> None:
        """Wrap a network; see ``second_loading.load_second``.

        Args:
            vit: timm's, on its device, in its dtype.
            mean: of its training images, for each channel, on the 0–1 scale.
            std: of them.
        """
        self.vit = vit.eval().requires_grad_(False)
        self.patch = int(vit.patch_embed.patch_size[0])
        self.width = int(vit.embed_dim)
        self.last = LastBlock(vit)
        self._mean, self._std = mean, std
        self._prefix = int(vit.num_prefix_tokens)  # CLS and registers
        self._native: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self._in_table = 0 if vit.no_embed_class else self._prefix  # prefix rows with a position
        patches = vit.pos_embed[0, self._in_table :]
        filled = torch.cat([patches[:1], patches])  # the resize keeps a first row, for CLS
        self._resized_positions = lru_cache(maxsize=REMEMBERED)(
            partial(resize_positions, filled, self._native)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.vit.pos_embed.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products in its blocks."""
        dtype: torch.dtype = self.vit.blocks[-1].attn.proj.weight.dtype
        return dtype

    def prepare(
        self,
        pixels: Tensor,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
    ) -> Tensor:
        """From CLIP's normalisation to the network's own.

        The padding of a window, 0 for CLIP, is CLIP's mean colour here too, and so not 0.

        Args:
            pixels: (B, 3, h, w), normalised for CLIP.
            mean: that they were normalised with, on the 0–1 scale.
            std: that they were normalised with.

        Returns:
            (B, 3, h, w) float32.
        """
        was, now = (
            pixels.new_tensor(values, dtype=torch.float32)[:, :, None, None]
            for values in ((mean, std), (self._mean, self._std))
        )
        return (pixels.float() * was[1] + was[0] - now[0]) / now[1]

    @torch.no_grad()
    def taps(self, pixels: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """What methods read, in one pass; CLS and registers are dropped.

        Args:
            pixels: (B, 3, h, w), as of ``prepare``; those beyond whole patches are ignored.
            names: of ``TAPS``: ``tokens`` (the last block's output after the final norm),
                ``queries+keys`` (the sum of both in the last block, bias included, heads side by
                side, not scaled), ``penultimate`` (what the last block reads, before any norm).

        Returns:
            Each (B, rows, columns, C) float32, not normalised.

        Raises:
            UserError: the pixels have another shape, or are smaller than a patch.
        """
        grid = self.grid(pixels)
        x = self._embed(pixels.to(self.device, self.vit.pos_embed.dtype), grid)
        for block in self.vit.blocks[:-1]:
            x = _through(block, x)
        found = {}
        for name in names:
            found[name] = self._tap(name, x)[:, self._prefix :].float().unflatten(1, grid)
        return found

    def _tap(self, name: str, penultimate: Tensor) -> Tensor:
        """One tap of all tokens (B, T, C), from what the last block reads."""
        if name == TOKENS:
            tokens = _through(self.vit.blocks[-1], penultimate.clone())
            return normed(self.vit.norm, tokens, self.dtype)
        if name == QUERIES_KEYS:
            heads = self.last.qkv(penultimate)
            return heads.q + heads.k
        if name == PENULTIMATE:
            return penultimate
        raise ValueError(f"no tap '{name}' of a second network: there are {', '.join(TAPS)}")

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Patch rows and columns of windows (B, 3, h, w)."""
        shape = tuple(pixels.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < self.patch:
            raise UserError(
                f"pixels of shape {shape}: expected (B, 3, h, w), normalised, with at least one "
                f"patch of {self.patch}×{self.patch}"
            )
        return shape[2] // self.patch, shape[3] // self.patch

    def _embed(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """CLS, registers and patches with their positions: what the first block reads."""
        vit, table = self.vit, self.vit.pos_embed
        square = pixels.shape[2] == pixels.shape[3]
        own = self._native == grid and (square or self._native[0] != self._native[1])
        positions = table[0, self._in_table :] if own else self._resized_positions(grid)[1:]
        # Not patch_embed itself, which refuses other sizes than the native one.
        patches = vit.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        first = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
        prefix = torch.cat([patches[:, :0], *(t.expand(len(patches), -1, -1) for t in first)], 1)
        if self._in_table:
            prefix = prefix + table[:, : self._in_table]
        x = torch.cat([prefix, vit.patch_embed.norm(patches) + positions], dim=1)
        return normed(vit.norm_pre, x, stream_dtype(vit.blocks[-1].attn.proj.weight))


def _through(block: Any, x: Tensor) -> Tensor:
    """Run one of timm's plain blocks on ``x`` (B, T, C), which is overwritten with the result."""
    attn, mlp = block.attn, block.mlp
    buffers, dtype = Buffers.of(attn.qkv.weight), attn.qkv.weight.dtype
    batch, length, width = x.shape
    rows = normed(block.norm1, x, dtype).view(-1, width)
    qkv = buffers.linear("qkv", rows, attn.qkv.weight, attn.qkv.bias)
    q, k, v = qkv.view(batch, length, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = attend(attn.q_norm(q), attn.k_norm(k), v).transpose(1, 2).reshape(-1, width)
    out = buffers.linear("out", mixed, attn.proj.weight, attn.proj.bias)
    x += block.ls1(out).view_as(x)
    rows = normed(block.norm2, x, dtype).view(-1, width)
    plain = type(mlp).__name__ == "Mlp" and isinstance(mlp.norm, nn.Identity)
    added = buffers.mlp(rows, mlp.fc1, mlp.act, mlp.fc2) if plain else mlp(rows)
    x += block.ls2(added).view_as(x)
    return x
