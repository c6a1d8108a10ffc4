"""SAM's mask decoder for many points of one image (Segment Anything, arXiv 2304.02643, appendix A).

The weights stay in segment_anything's modules, whose forward pass copies the image's embedding for
every point and projects each copy. Here

- all points share the first layer's attention to the image, in products of two matrices;
- projections move to the side of the tokens, which are few against 4,096 patches:
  ``q · (W k) = (Wᵀ q) · k``, which halves the products;
- only masks that are wanted are upscaled, as their quality is known before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

ONE_BY_ONE = {"cpu"}  # whose caches hold what is drawn of one point
POINTS_TOGETHER = 64  # on a GPU, whose upscaled embeddings take 0.5 GB in float32


@dataclass(frozen=True)
class Prompted:
    """The decoder's state for P points with M masks each, before the masks are drawn."""

    quality: Tensor  # (P, M) float32, predicted IoU
    keys: Tensor  # (P, N, C), the image as each point sees it
    mask_tokens: Tensor  # (P, M, C)


class SamDecoder:
    """Decodes points to masks with the weights of segment_anything's decoder and prompt encoder."""

    def __init__(self, sam: Any) -> None:
        """Wrap the modules, on their device, in their dtypes.

        Args:
            sam: ``segment_anything.modeling.Sam``; the prompt encoder in fp32.
        """
        self.prompts = sam.prompt_encoder
        self.decoder = sam.mask_decoder
        self.transformer = sam.mask_decoder.transformer
        self.grid: tuple[int, int] = tuple(sam.prompt_encoder.image_embedding_size)

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's dtype."""
        dtype: torch.dtype = self.decoder.iou_token.weight.dtype
        return dtype

    @torch.no_grad()
    def prompt(self, embedding: Tensor, points: Tensor) -> Prompted:
        """Decode some points up to their masks' quality.

        Args:
            embedding: (C, h, w), of the image encoder.
            points: (P, 2) x, y in pixels of the encoder's input.
        """
        no_mask = self.prompts.no_mask_embed.weight.to(self.dtype)
        keys = embedding.to(self.dtype).flatten(1).T + no_mask  # of all points, at first
        given = torch.cat([self.decoder.iou_token.weight, self.decoder.mask_tokens.weight])
        labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
        sparse, _ = self.prompts(points=(points[:, None], labels), boxes=None, masks=None)
        prompt = torch.cat([given.expand(len(points), -1, -1), sparse.to(self.dtype)], dim=1)
        tokens = prompt
        for layer in self.transformer.layers:
            tokens = _among_tokens(layer, tokens, prompt)
            seen = _look(layer.cross_attn_token_to_image, tokens + prompt, keys, self._places)
            tokens = layer.norm2(tokens + seen)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            back = layer.cross_attn_image_to_token
            keys = _look_back(back, keys, self._places, tokens + prompt, tokens)
            keys = _normed(layer.norm4, keys)
        last = self.transformer.final_attn_token_to_image
        seen = _look(last, tokens + prompt, keys, self._places)
        tokens = self.transformer.norm_final_attn(tokens + seen)
        quality = self.decoder.iou_prediction_head(tokens[:, 0])[:, 1:]  # 0: of the single mask
        return Prompted(quality.float(), keys, tokens[:, 2 : 1 + self.decoder.num_mask_tokens])

    @torch.no_grad()
    def masks(self, prompted: Prompted, point: Tensor, which: Tensor) -> Tensor:
        """Draw some of the masks.

        Args:
            prompted: of ``prompt``.
            point: (n,) indices of points, ascending.
            which: (n,) indices of the points' masks, 0..M-1.

        Returns:
            (n, 4h, 4w) float32 logits.
        """
        needed, row = torch.unique_consecutive(point, return_inverse=True)
        height, width = self.grid
        heads = self.decoder.output_hypernetworks_mlps[1:]
        weights = torch.stack(
            [head(prompted.mask_tokens[:, mask]) for mask, head in enumerate(heads)], dim=1
        )
        if weights.device.type not in ONE_BY_ONE:
            return self._masks_together(prompted, needed, row, which, weights)
        drawn = []
        for place, number in enumerate(needed.tolist()):
            wanted = weights[number, which[row == place]]
            upscaled = self._upscaled(prompted.keys[number])
            logits = upscaled @ wanted.T  # rows: patch, its 2 x 2, each one's 2 x 2
            grid = logits.view(height, width, 2, 2, 2, 2, -1)
            drawn.append(grid.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * height, 4 * width))
        return torch.cat(drawn).float()

    def _masks_together(
        self, prompted: Prompted, needed: Tensor, row: Tensor, which: Tensor, weights: Tensor
    ) -> Tensor:
        """As ``masks``, of many points at a time, as a GPU is busy with many alone.

        Args:
            prompted: of ``prompt``.
            needed: (m,) the points that have masks, ascending.
            row: (n,) the place of each mask's point in ``needed``.
            which: (n,) indices of the points' masks.
            weights: (P, M, C / 8), what the masks of each point are products with.
        """
        height, width = self.grid
        drawn = []
        for start in range(0, len(needed), POINTS_TOGETHER):
            numbers = needed[start : start + POINTS_TOGETHER]
            here = ((row >= start) & (row < start + POINTS_TOGETHER)).nonzero()[:, 0]
            upscaled = self._upscaled(prompted.keys[numbers].flatten(0, 1))
            upscaled = upscaled.view(len(numbers), -1, upscaled.shape[-1])
            logits = torch.bmm(weights[numbers], upscaled.transpose(1, 2))  # (m, M, 16 N)
            chosen = logits[row[here] - start, which[here]]
            grid = chosen.view(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
            drawn.append(grid.reshape(-1, 4 * height, 4 * width))
        return torch.cat(drawn).float()

    def _upscaled(self, keys: Tensor) -> Tensor:
        """``output_upscaling``, channels last: (N, C) to (16 N, C / 8)."""
        first, norm, activation, second, last = self.decoder.output_upscaling
        x = torch.addmm(first.bias.repeat(4), keys, _as_matrix(first)).view(-1, first.out_channels)
        x = activation(_normed(norm, x))
        x = torch.addmm(second.bias.repeat(4), x, _as_matrix(second))
        upscaled: Tensor = last(x.view(-1, second.out_channels))
        return upscaled

    @cached_property
    @torch.no_grad()
    def _places(self) -> Tensor:
        """The positional encoding of the patches: (N, C)."""
        places: Tensor = self.prompts.get_dense_pe()[0].flatten(1).T
        return places.to(self.dtype)


def _among_tokens(layer: Any, tokens: Tensor, prompt: Tensor) -> Tensor:
    """A layer's self-attention of the tokens (P, T, C)."""
    if layer.skip_first_layer_pe:
        mixed: Tensor = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        return mixed
    placed = tokens + prompt
    mixed = layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))
    return mixed


def _look(attention: Any, tokens: Tensor, keys: Tensor, places: Tensor) -> Tensor:
    """Cross-attention of the tokens to the image.

    Args:
        attention: of the tokens to the image.
        tokens: (P, T, C), with the prompt added.
        keys: (N, C) the image for all points, or (P, N, C) for each.
        places: (N, C), the positional encoding of its patches.

    Returns:
        (P, T, C).
    """
    q = _of_tokens(attention, attention.q_proj(tokens)) * _scale(attention)
    folded = (q @ _by_head(attention, attention.k_proj)).flatten(1, 2)
    weights = _scores(folded, keys, places).softmax(dim=-1)  # its bias is the same for all keys
    mixed = (weights.flatten(0, 1) @ keys) if keys.ndim == 2 else torch.bmm(weights, keys)
    mixed = mixed.view(*q.shape[:3], -1)
    values = mixed @ _by_head(attention, attention.v_proj).transpose(1, 2)
    values += attention.v_proj.bias.view(attention.num_heads, 1, -1)  # the weights sum to one
    projected: Tensor = attention.out_proj(values.transpose(1, 2).flatten(2))
    return projected


def _look_back(
    attention: Any, keys: Tensor, places: Tensor, tokens: Tensor, values: Tensor
) -> Tensor:
    """The image plus its cross-attention to the tokens.

    Args:
        attention: of the image to the tokens.
        keys: (N, C) the image for all points, or (P, N, C) for each, which is overwritten.
        places: (N, C), the positional encoding of its patches.
        tokens: (P, T, C), with the prompt added.
        values: (P, T, C).

    Returns:
        (P, N, C).
    """
    heads = attention.num_heads
    k = _of_tokens(attention, attention.k_proj(tokens)) * _scale(attention)
    v = _of_tokens(attention, attention.v_proj(values))
    folded = (k @ _by_head(attention, attention.q_proj)).flatten(1, 2)
    scores = _scores(folded, keys, places).view(*k.shape[:3], -1)
    scores += (k * attention.q_proj.bias.view(heads, 1, -1)).sum(dim=-1, keepdim=True)
    weights = scores.softmax(dim=2).flatten(1, 2).transpose(1, 2)
    outward = attention.out_proj.weight.T.view(heads, -1, keys.shape[-1])
    out = (v @ outward + attention.out_proj.bias / heads).flatten(1, 2)  # once a head, sum to one
    if keys.ndim == 2:
        return torch.baddbmm(keys, weights, out)
    return keys.baddbmm_(weights, out)


def _scores(folded: Tensor, keys: Tensor, places: Tensor) -> Tensor:
    """Products of folded tokens (P, heads · T, C) with keys plus places: (P, heads · T, N)."""
    flat = folded.flatten(0, 1)
    where = keys + places if keys.ndim == 2 else places
    scores: Tensor = (flat @ where.T).view(*folded.shape[:2], -1)
    if keys.ndim == 3:
        scores.baddbmm_(folded, keys.transpose(1, 2))
    return scores


def _of_tokens(attention: Any, projected: Tensor) -> Tensor:
    """Split (P, T, heads · d) by heads: (P, heads, T, d)."""
    by_head: Tensor = projected.unflatten(2, (attention.num_heads, -1))
    return by_head.transpose(1, 2)


def _by_head(attention: Any, projection: Any) -> Tensor:
    """A projection's weight (heads · d, C) as (heads, d, C)."""
    weight: Tensor = projection.weight.view(attention.num_heads, -1, projection.in_features)
    return weight


def _scale(attention: Any) -> float:
    return 1 / math.sqrt(attention.internal_dim // attention.num_heads)


def _normed(norm: Any, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def _as_matrix(convolution: Any) -> Tensor:
    """A transposed convolution of stride 2 as a product: (in, 2 · 2 · out)."""
    weight: Tensor = convolution.weight  # (in, out, 2, 2)
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
