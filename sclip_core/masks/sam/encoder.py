"""SAM's image encoder (Segment Anything, arXiv 2304.02643, appendix A), faster.

The weights stay in segment_anything's module; only the forward pass is replaced. Its own writes
4096 × 4096 scores for every head at once and adds the relative positions to them twice. Here the
queries go through fused attention a few rows at a time, so that scores and positions never leave
the cache; the padding of windows is not multiplied, as its keys and values are the biases.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.tensors import Buffers, attend
from sclip_core.tensors.half import normed, stream_dtype

QUERIES_AT_ONCE = {"cpu": 512, "cuda": 4096}  # of a head; the scores of 512 take 8 MB
# A CPU's cache holds a part of one head's scores; a GPU has to be given enough to do at once.
POSITION_BYTES = {"cpu": 0, "cuda": 2**30}
WINDOW_ROWS = {"cpu": 1}  # rows of windows; elsewhere all


class SamEncoder:
    """Encodes images with the weights of segment_anything's ``ImageEncoderViT``."""

    def __init__(self, encoder: Any) -> None:
        """Wrap the module, on its device, in its dtype.

        Args:
            encoder: ``segment_anything.modeling.ImageEncoderViT``.
        """
        self.encoder = encoder
        self.image_size = int(encoder.img_size)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels: (B, 3, S, S), normalised and padded; S is ``image_size``.

        Returns:
            (B, C, h, w) in the dtype of its neck, C = 256 and h = w = 64 for SAM's own.
        """
        x = _through(self.encoder.blocks[-1], self.last_input(pixels))
        neck = self.encoder.neck  # in fp32 where the rest is not: it squares
        embedding: Tensor = neck(x.permute(0, 3, 1, 2).to(neck[0].weight.dtype))
        return embedding

    @torch.no_grad()
    def last_input(self, pixels: Tensor) -> Tensor:
        """What the last block reads: (B, h, w, width) of pixels as of a call."""
        weight = self.encoder.patch_embed.proj.weight
        x: Tensor = self.encoder.patch_embed(pixels.to(weight.device, weight.dtype))
        if self.encoder.pos_embed is not None:
            x = x + self.encoder.pos_embed
        x = x.to(stream_dtype(weight)).contiguous()
        for block in self.encoder.blocks[:-1]:
            x = _through(block, x)
        return x


def _through(block: Any, x: Tensor) -> Tensor:
    """Run a block on ``x`` (B, h, w, width), which is overwritten with the result."""
    attention, width, dtype = block.attn, x.shape[-1], block.attn.qkv.weight.dtype
    buffers = Buffers.of(attention.qkv.weight)
    rows = normed(block.norm1, x, dtype).view(-1, width)
    qkv = buffers.linear("qkv", rows, attention.qkv.weight, attention.qkv.bias)
    qkv = qkv.view(*x.shape[:3], 3, attention.num_heads, width // attention.num_heads)
    if block.window_size > 0:
        mixed = _in_windows(attention, qkv, block.window_size)
    else:
        mixed = _everywhere(attention, qkv)
    out = buffers.linear("out", mixed.view(-1, width), attention.proj.weight, attention.proj.bias)
    x += out.view_as(x)
    up, down = block.mlp.lin1, block.mlp.lin2
    x += buffers.mlp(
        normed(block.norm2, x, dtype).view(-1, width), up, block.mlp.act, down
    ).view_as(x)
    return x


def _everywhere(attention: Any, qkv: Tensor) -> Tensor:
    """Attention of every token to all tokens of its image.

    Args:
        attention: the block's.
        qkv: (B, h, w, 3, heads, d).

    Returns:
        (B, h, w, heads, d).
    """
    batch, height, width, _, heads, depth = qkv.shape
    mixed = qkv.new_empty(batch, height, width, heads, depth)
    kind = qkv.device.type
    step = max(1, QUERIES_AT_ONCE.get(kind, 512) // width)  # rows of the image
    bytes_of_head = (height * width) ** 2 * qkv.element_size()
    group = max(1, POSITION_BYTES.get(kind, 0) // bytes_of_head)
    for image in range(batch):
        for first in range(0, heads, group):
            some = slice(first, first + group)
            q, k, v = qkv[image, :, :, :, some].permute(2, 3, 0, 1, 4)
            by_row, by_column = relative(attention, q)
            k, v = (part.reshape(1, len(q), -1, depth) for part in (k, v))
            for top in range(0, height, step):
                rows = slice(top, top + step)
                part = attend(
                    q[:, rows].reshape(1, len(q), -1, depth),
                    k,
                    v,
                    attn_mask=_bias(by_row[:, rows], by_column[:, rows])[None],
                    scale=attention.scale,
                )
                mixed[image, rows, :, some] = part[0].unflatten(1, (-1, width)).permute(1, 2, 0, 3)
    return mixed


def _in_windows(attention: Any, qkv: Tensor, side: int) -> Tensor:
    """Attention of every token to its window of ``side`` × ``side`` tokens; as ``_everywhere``.

    SAM pads the image with zeros before the projection, and attends to the padding.
    """
    batch, height, width, _, heads, depth = qkv.shape
    below, beside = -height % side, -width % side
    padded = pad(qkv.flatten(3), (0, 0, 0, beside, 0, below))
    if below or beside:
        padding = _projected_zero(attention, padded)
        padded[:, height:] = padding
        padded[:, :, width:] = padding
    rows, columns = (height + below) // side, (width + beside) // side
    windows = padded.view(batch, rows, side, columns, side, 3, heads, depth)
    mixed = qkv.new_empty(batch, rows, side, columns, side, heads, depth)
    at_once = WINDOW_ROWS.get(qkv.device.type, rows)
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        # 3, B, rows, columns, heads, h, w, d
        of_rows = windows[:, some].permute(5, 0, 1, 3, 6, 2, 4, 7)
        of_rows = of_rows.reshape(3, -1, heads, side, side, depth)
        bias = _bias(*relative(attention, of_rows[0]))
        q, k, v = of_rows.flatten(3, 4)
        part = attend(q, k, v, attn_mask=bias, scale=attention.scale)
        part = part.view(batch, -1, columns, heads, side, side, depth)
        mixed[:, some] = part.permute(0, 1, 4, 2, 5, 3, 6)
    whole = mixed.view(batch, height + below, width + beside, heads, depth)
    return whole[:, :height, :width].contiguous()


def relative(attention: Any, q: Tensor) -> tuple[Tensor, Tensor]:
    """What relative positions add to the scores of queries (..., h, w, d), for each axis.

    Returns:
        (..., h, w, h) by the key's row, and (..., h, w, w) by its column.
    """
    height, width = q.shape[-3:-1]
    if not attention.use_rel_pos:
        return q.new_zeros(*q.shape[:-1], height), q.new_zeros(*q.shape[:-1], width)
    rows = _positions(height, attention.rel_pos_h).to(q.dtype)
    columns = _positions(width, attention.rel_pos_w).to(q.dtype)
    by_row = torch.einsum("...hwc,hkc->...hwk", q, rows)
    by_column = torch.einsum("...hwc,wkc->...hwk", q, columns)
    return by_row, by_column


def _positions(side: int, table: Tensor) -> Tensor:
    """The positions (side, side, d) of keys relative to queries, from a table of SAM's."""
    if len(table) != 2 * side - 1:  # which is resized
        resized: Tensor = get_rel_pos(side, side, table)
        return resized
    return table[_distances(side, table.device)]


@lru_cache(maxsize=16)
def _distances(side: int, device: torch.device) -> Tensor:
    """Places in that table; kept on the device, as each copy waits for all work there."""
    places = torch.arange(side)
    return (places[:, None] - places + side - 1).to(device)


def _bias(by_row: Tensor, by_column: Tensor) -> Tensor:
    """The sum of both for every pair of query and key: (..., queries, keys)."""
    if by_row.device.type == "cuda" and by_row.element_size() == 2:
        # A product with ones is exact, and takes a sixth of the time of a sum that is broadcast.
        both = torch.cat([by_row, by_column], dim=-1).flatten(-3, -2)
        sides = by_row.shape[-1], by_column.shape[-1]
        return both @ _places_of_keys(*sides, by_row.device, by_row.dtype)
    both = by_row[..., :, None] + by_column[..., None, :]
    return both.flatten(-2).flatten(-3, -2)


@lru_cache(maxsize=16)
def _places_of_keys(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """For each key (rows + columns, rows · columns) a one at its row and one at its column."""
    of_row = torch.eye(rows).repeat_interleave(columns, dim=1)
    return torch.cat([of_row, torch.eye(columns).repeat(1, rows)]).to(device, dtype)


def _projected_zero(attention: Any, like: Tensor) -> Tensor | float:
    """The query, key and value of a token that is zero."""
    bias = attention.qkv.bias
    return 0.0 if bias is None else bias.to(like.dtype)
