"""What an image tower can be asked for, whichever library built it.

Blocks are numbered from 0; -1 is the last. Tokens are (B, prefix + N, width): the tokens that
belong to no patch, such as CLS, and then the N patches row by row. All of it is in the tower's
dtype; where that of ``outer`` is another, what is before the blocks' products and after them is in
that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sclip_core.encoder.blocks import Heads
from sclip_core.encoder.positions import PositionTable
from sclip_core.tensors import Buffers, linear
from sclip_core.tensors.half import normed, stream_dtype


class Facts(NamedTuple):
    """What is known of a tower without its weights."""

    patch: int  # side in pixels
    layers: int
    width: int  # of a token
    prefix: int  # tokens before the patches
    cls: str  # "" where the image's embedding is that of a CLS token, else why it is not

    @property
    def has_cls(self) -> bool:
        """Whether the tower has a CLS token that methods can use as the image's embedding."""
        return not self.cls


class Backbone(ABC):
    """An image tower, taken apart."""

    prefix: int
    cls: str
    layers: int
    width: int
    output: int  # D, the width of the embedding
    patch: int
    native: tuple[int, int]  # rows and columns of patches that it was trained on
    positions: PositionTable | None

    def __init__(self, visual: nn.Module) -> None:
        """Wrap a tower that ``why_not`` has nothing against."""
        self.visual: Any = visual

    @staticmethod
    @abstractmethod
    def why_not(visual: Any) -> str | None:
        """Why a tower of this family gives no dense features: a verb and the rest; None: it does.

        Args:
            visual: on any device; ``meta`` suffices.
        """

    @property
    def facts(self) -> Facts:
        """What is known of the tower without its weights."""
        return Facts(self.patch, self.layers, self.width, self.prefix, self.cls)

    @property
    @abstractmethod
    def blocks(self) -> nn.Module:
        """The transformer's blocks."""

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """A matrix of a block: device and dtype of the products of all."""

    @property
    @abstractmethod
    def outer(self) -> Tensor:
        """Of the first convolution: device and dtype of what is before and after the blocks."""

    @property
    def stream(self) -> torch.dtype:
        """Of the tokens between blocks: that of the weights, or float32 (``tensors.half``)."""
        return stream_dtype(self.weight)

    @property
    @abstractmethod
    def num_heads(self) -> int:
        """Heads of an attention."""

    @abstractmethod
    def embed(self, pixels: Tensor, grid: tuple[int, int], rule: str) -> Tensor:
        """What the first block reads.

        Args:
            pixels: (B, 3, h, w), normalised, in the dtype of ``outer``; those beyond whole patches
                are ignored.
            grid: patch rows and columns.
            rule: how positions are resized, of ``positions.POSITIONS``.
        """

    def _normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        """A norm of the stream, in the dtype of the blocks' products."""
        return normed(norm, x, self.weight.dtype)

    def _last_norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        """A norm of the stream, in the dtype of what comes after the blocks."""
        return normed(norm, x, self.outer.dtype)

    @abstractmethod
    def norm_1(self, block: int, x: Tensor) -> Tensor:
        """What a block's attention reads, of what the block reads: (..., width)."""

    @abstractmethod
    def heads(
        self, block: int, x: Tensor, grid: tuple[int, int], buffers: Buffers, prefix: int
    ) -> Heads:
        """The queries, keys and values of a block's attention, as they meet: turned, normed.

        Args:
            block: whose.
            x: (B, T, width), what the block reads.
            grid: of the patches among them, for positions that turn queries and keys.
            buffers: for the products; the result is valid until the next block.
            prefix: tokens of ``x`` before its patches; T where it has none.
        """

    def some_heads(
        self,
        block: int,
        x: Tensor,
        grid: tuple[int, int],
        buffers: Buffers,
        prefix: int,
        names: Literal["qk", "kv"],
    ) -> tuple[Tensor, Tensor]:
        """Two of the three of ``heads``; arguments as there, and which."""
        found = self.heads(block, x, grid, buffers, prefix)
        return (found.q, found.k) if names == "qk" else (found.k, found.v)

    @abstractmethod
    def values(self, block: int, x: Tensor) -> Tensor:
        """The values of a block's attention, heads side by side, of what the block reads."""

    @abstractmethod
    def out(self, block: int, rows: Tensor, buffers: Buffers) -> Tensor:
        """What a block's attention adds to the tokens, of mixed values side by side: (R, width)."""

    @abstractmethod
    def mlp(self, block: int, x: Tensor, buffers: Buffers) -> Tensor:
        """What a block's MLP adds to the tokens: (..., width)."""

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """The norm after the last block, where it is one of single tokens: (..., width)."""

    @abstractmethod
    def embedding(self, x: Tensor) -> Tensor:
        """Each token, after ``norm``, in the space of the words: (..., width) to (..., D).

        It is what the tower's pooling makes of the token if there is no other one.
        """

    @abstractmethod
    def pooled(self, x: Tensor) -> Tensor:
        """The image's embedding (B, D), pooled as in training, of the last block's output."""

    @property
    @abstractmethod
    def first(self) -> Tensor:
        """The tokens before the patches that the first block reads: (prefix, width)."""

    def project(self, block: int, mixed: Tensor, buffers: Buffers) -> Tensor:
        """What a block's attention adds to the tokens.

        Args:
            block: whose.
            mixed: (B, heads, T, d_head), values as the attention mixed them.
            buffers: for the product.

        Returns:
            (B, T, width), before residual and MLP.
        """
        batch, _, length, _ = mixed.shape
        rows = mixed.transpose(1, 2).reshape(batch * length, -1)
        return self.out(block, rows, buffers).view(batch, length, -1)

    def complete(self, block: int, x: Tensor, projected: Tensor, buffers: Buffers) -> Tensor:
        """Add the residual, then the MLP.

        Args:
            block: whose.
            x: (B, T, width), the block's input; overwritten.
            projected: (B, T, width), as of ``project``.
            buffers: for the products.

        Returns:
            (B, T, width), the block's output, in ``x``.
        """
        x += projected
        x += self.mlp(block, x, buffers)
        return x


def stacked(patches: Tensor, prefix: Tensor) -> Tensor:
    """Tokens (B, prefix + N, width) of patches (B, N, width) and of (1, prefix, width)."""
    return torch.cat([prefix.to(patches.dtype).expand(len(patches), -1, -1), patches], dim=1)


def patches_of(convolution: Any, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The embedding of patches (B, N, width), by a convolution whose stride is its size.

    On a GPU it is a product, which takes a tenth of cuDNN's time there.

    Args:
        convolution: of square patches.
        pixels: (B, 3, h, w); those beyond whole patches are ignored.
        grid: patch rows and columns.
    """
    if pixels.device.type != "cuda":
        embedded: Tensor = convolution(pixels).flatten(2).transpose(1, 2)
        return embedded
    weight, (rows, columns) = convolution.weight, grid
    patch = weight.shape[-1]
    whole = pixels[..., : rows * patch, : columns * patch]
    parts = whole.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    flat = parts.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), rows * columns, -1)
    return linear(flat, weight.flatten(1), convolution.bias)
