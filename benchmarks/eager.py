"""The baseline: docs/protocol.md in plain eager PyTorch, as research code does it.

It follows sections 4 to 6 there and has the structure of the public code (SCLIP with
MMSegmentation's ``slide_inference``, the ``PAMR`` module of 1-stage-wseg). It is not made slower
than that code: every intermediate array exists there too. It shares no code with
``sclip_core.segmentation``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sclip_core.config import Geometry


@torch.no_grad()
def slide_logits(window_features: Tensor, embeddings: Tensor, geometry: Geometry) -> Tensor:
    """Section 4: at each pixel, the mean of the logits of all windows that cover it.

    Args:
        window_features: (windows, rows, columns, D), unit length, windows row by row.
        embeddings: (Q, D), unit length.
        geometry: the windows of the image.

    Returns:
        (Q, H, W) float32 cosines at the original size.
    """
    if geometry.whole:
        logits = _window_logits(window_features[0], embeddings)
        return functional.interpolate(logits, size=geometry.original, mode="bilinear")[0]
    (height, width), (tall, wide) = geometry.resized, geometry.window
    preds = window_features.new_zeros(1, len(embeddings), height, width)
    count = window_features.new_zeros(1, 1, height, width)
    starts = [(top, left) for top in geometry.tops for left in geometry.lefts]
    for features, (top, left) in zip(window_features, starts, strict=True):
        logits = _window_logits(features, embeddings)
        logits = functional.interpolate(logits, size=geometry.window, mode="bilinear")
        preds += functional.pad(logits, (left, width - left - wide, top, height - top - tall))
        count[:, :, top : top + tall, left : left + wide] += 1
    preds = preds / count
    return functional.interpolate(preds, size=geometry.original, mode="bilinear")[0]


def _window_logits(features: Tensor, embeddings: Tensor) -> Tensor:
    """Cosines (1, Q, rows, columns) of the patches (rows, columns, D) of a window."""
    return (features @ embeddings.T).permute(2, 0, 1)[None]


@torch.no_grad()
def pamr(image: Tensor, mask: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """Section 5: PAMR by convolutions with fixed kernels.

    Args:
        image: (3, H, W), normalised, at the mask's size.
        mask: (Q, H, W), logits before scale and softmax.
        steps: iterations.
        dilations: distances of the neighbours in pixels.

    Returns:
        (Q, H, W) float32.
    """
    every_point = torch.eye(9).view(9, 1, 3, 3)
    neighbours = every_point[[0, 1, 2, 3, 5, 6, 7, 8]]
    differences = every_point[4] - neighbours
    deviation = _dilated(image, every_point, dilations).std(dim=1, keepdim=True)
    affinity = -_dilated(image, differences, dilations).abs() / (1e-8 + 0.1 * deviation)
    weights = affinity.mean(dim=0, keepdim=True).softmax(dim=1)
    for _ in range(steps):
        mask = (_dilated(mask, neighbours, dilations) * weights).sum(dim=1)
    return mask


def _dilated(planes: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Convolve every channel with fixed kernels at several dilations.

    Args:
        planes: (C, H, W).
        kernels: (K, 1, 3, 3).
        dilations: distances in pixels.

    Returns:
        (C, K·len(dilations), H, W), dilation by dilation.
    """
    batch = planes[:, None]
    seen = []
    for dilation in dilations:
        padded = functional.pad(batch, [dilation] * 4, mode="replicate")
        seen.append(functional.conv2d(padded, kernels, dilation=dilation))
    return torch.cat(seen, dim=1)


@torch.no_grad()
def decide(
    logits: Tensor,
    query_idx: Tensor,
    num_classes: int,
    logit_scale: float,
    prob_thd: float,
    area_thd: float = 0.0,
) -> Tensor:
    """Section 6: softmax, the best word of each class by a one-hot product, the best class.

    Args:
        logits: (Q, H, W).
        query_idx: (Q,) int64, the class of each word.
        num_classes: C.
        logit_scale: factor before the softmax.
        prob_thd: pixels whose best class is less probable become class 0.
        area_thd: classes of at most this share of the foreground are dropped; 0: none.

    Returns:
        (H, W) int64.
    """
    scores = (logits * logit_scale).softmax(dim=0)
    if num_classes != len(query_idx):
        members = functional.one_hot(query_idx, num_classes).T[:, :, None, None]
        scores = (scores[None] * members).max(dim=1)[0]
    if area_thd > 0:
        winners = functional.one_hot(scores.argmax(dim=0), num_classes)
        areas = winners[..., 1:].sum(dim=(0, 1))
        kept = areas > area_thd * areas.sum()
        scores[1:] *= kept[:, None, None]
    labels = scores.argmax(dim=0)
    labels[scores.max(dim=0)[0] < prob_thd] = 0
    return labels
