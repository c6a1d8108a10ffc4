"""SAM's image encoder up to its last block, and the attention of the last: what Trident reads.

docs/methods.md, Trident. The matrices of the last block are never built as a whole: for all heads
of ViT-B/16 they take 805 MB each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.masks.sam.encoder import SamEncoder, relative
from sclip_core.masks.sam.frames import framed, parts, valid_grid
from sclip_core.tensors import linear
from sclip_core.tensors.half import normed, stream_dtype


@dataclass(frozen=True)
class SamAttention:
    """The last block's attention of one input, in float32."""

    queries: Tensor  # (heads, S, S, d), S the side of the grid
    keys: Tensor  # (heads, S, S, d)
    values: Tensor  # (heads, S, S, d)
    by_row: Tensor  # (heads, S, S, S), what relative positions add, by the key's row
    by_column: Tensor  # (heads, S, S, S), by the key's column
    scale: float

    def weights(self, head: int, rows: slice, columns: int) -> Tensor:
        """Softmax over all keys, those of the padding included, for some rows of queries.

        Args:
            head: its number.
            rows: of the grid.
            columns: how many of each row, from the left.

        Returns:
            (rows, columns, S, S).
        """
        queries, keys = self.queries[head, rows, :columns], self.keys[head]
        side = keys.shape[0]
        scores = (queries.flatten(0, 1) * self.scale) @ keys.flatten(0, 1).T
        scores = scores.view(*queries.shape[:2], side, side)
        scores += self.by_row[head, rows, :columns, :, None]
        scores += self.by_column[head, rows, :columns, None, :]
        return scores.flatten(2).softmax(dim=-1).view_as(scores)


class SamTrunk:
    """SAM's image encoder, read at its last block."""

    def __init__(self, encoder: Any) -> None:
        """Wrap ``segment_anything.modeling.ImageEncoderViT``; see ``trunk_loading.load_trunk``."""
        self.network = encoder
        self._encoder = SamEncoder(encoder.eval().requires_grad_(False))
        self._last = encoder.blocks[-1]

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self._encoder.image_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._last.attn.qkv.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self._last.attn.qkv.weight.dtype
        return dtype

    def valid(self, size: tuple[int, int], halves: bool = False) -> tuple[int, int]:
        """Rows and columns of the grid that are not padding, of an image of (height, width)."""
        return valid_grid(*size, halves=halves, side=self.image_size)

    @torch.no_grad()
    def input(self, image: NDArray[np.uint8], halves: bool = False) -> Tensor:
        """What the last block reads.

        Args:
            image: (H, W, 3) uint8 RGB, as the file has it.
            halves: encode the left and the right half, each by itself.

        Returns:
            (1, S, S, C), of halves (2, S, S, C), in the dtype of the weights,
            or float32 of bf16 on a CPU; S is 64 in Meta's.
        """
        return torch.cat(
            [
                self._encoder.last_input(framed(part, self.image_size)[None])
                for part in parts(image, halves)
            ]
        )

    @torch.no_grad()
    def attention(self, x: Tensor) -> SamAttention:
        """The last block's attention.

        Args:
            x: (S, S, C), one of what ``input`` gives.
        """
        attn = self._last.attn
        x = x.to(self.device, stream_dtype(attn.qkv.weight))
        qkv = linear(
            normed(self._last.norm1, x, self.dtype), attn.qkv.weight, attn.qkv.bias
        ).float()
        q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 3, 0, 1, 4).contiguous()
        by_row, by_column = relative(attn, q)
        return SamAttention(q, k, v, by_row, by_column, float(attn.scale))
