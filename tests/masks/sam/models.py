"""Small SAMs of segment_anything's own classes, whose masks are as varied as a trained one's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor

SIDE, PATCH, WIDTH, CHANNELS = 128, 16, 48, 64


def build(depth: int = 2, heads: int = 4, **encoder: Any) -> Sam:
    """A SAM as segment_anything initialises it.

    Args:
        depth: of the two-way transformer.
        heads: of its attentions.
        encoder: what differs in the image encoder.
    """
    given = {
        "img_size": SIDE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "depth": 4,
        "num_heads": 4,
        "norm_layer": partial(torch.nn.LayerNorm, eps=1e-6),
        "use_rel_pos": True,
        "window_size": 3,
        "global_attn_indexes": (1, 3),
        "out_chans": CHANNELS,
        **encoder,
    }
    side = given["img_size"]
    grid = side // given["patch_size"]
    return Sam(
        image_encoder=ImageEncoderViT(**given),
        prompt_encoder=PromptEncoder(
            embed_dim=CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer=TwoWayTransformer(
                depth=depth, embedding_dim=CHANNELS, num_heads=heads, mlp_dim=96
            ),
            transformer_dim=CHANNELS,
            iou_head_hidden_dim=32,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )


@torch.no_grad()
def make(seed: int = 0, level: float = 3.0, **shape: Any) -> Sam:
    """A SAM with random weights.

    Args:
        seed: of the weights.
        level: that the logits of masks lie below zero, on average.
        shape: see ``build``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = build(**shape).eval().requires_grad_(False)
        for name, weight in sam.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                weight.normal_(std=0.3)
            elif name.endswith("bias"):
                weight.normal_(std=0.05)
        vary(sam, level)
    return sam


@torch.no_grad()
def vary(sam: Sam, level: float) -> None:
    """Let masks depend on their points and places: as initialised, all are alike.

    Args:
        sam: with random weights.
        level: see ``make``.
    """
    _sharpen(sam.mask_decoder)
    _centre(sam, level)


def _sharpen(decoder: MaskDecoder) -> None:
    """Tell points and places apart."""
    for weight in decoder.transformer.parameters():
        if weight.ndim > 1:
            weight.mul_(3)
    for layer in decoder.transformer.layers:
        look_back = layer.cross_attn_image_to_token
        look_back.k_proj.weight.copy_(look_back.q_proj.weight)  # patches look for their point
    first, *_, second, _ = decoder.output_upscaling
    for convolution in (first, second):  # smooth, where it would draw the same tile everywhere
        weight = convolution.weight
        weight.copy_(8 * weight.mean(dim=(2, 3), keepdim=True) + 0.1 * weight)
    decoder.iou_prediction_head.layers[-1].weight.mul_(3)
    decoder.iou_prediction_head.layers[-1].bias.fill_(0.7)


def _centre(sam: Sam, level: float) -> None:
    """Give the logits a mean of their own: the last upscaled channel is made a constant."""
    decoder, second = sam.mask_decoder, sam.mask_decoder.output_upscaling[-2]
    second.weight[:, -1] = 0
    second.bias[-1] = 3
    upscaled: list[Tensor] = []
    hook = decoder.output_upscaling.register_forward_hook(lambda *a: upscaled.append(a[2]))
    grid = sam.prompt_encoder.image_embedding_size
    embedding = torch.randn(1, decoder.transformer_dim, *grid)
    decode(sam, embedding, torch.rand(8, 2) * sam.image_encoder.img_size)
    hook.remove()
    mean = upscaled[0].mean(dim=(0, 2, 3))
    for head in decoder.output_hypernetworks_mlps:
        last = head.layers[-1]
        last.weight.mul_(60)
        last.weight[-1] = -(mean[:-1] @ last.weight[:-1]) / mean[-1]
        last.bias[-1] = -(mean[:-1] @ last.bias[:-1] + level) / mean[-1]


def decode(sam: Sam, embedding: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """segment_anything's own masks (P, 3, 4h, 4w) and their quality (P, 3) at points (P, 2)."""
    labels = torch.ones(len(points), 1, dtype=torch.int)
    prompts = sam.prompt_encoder
    sparse, dense = prompts(points=(points[:, None], labels), boxes=None, masks=None)
    dtype = embedding.dtype
    masks, quality = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=prompts.get_dense_pe().to(dtype),
        sparse_prompt_embeddings=sparse.to(dtype),
        dense_prompt_embeddings=dense.to(dtype),
        multimask_output=True,
    )
    return masks, quality
