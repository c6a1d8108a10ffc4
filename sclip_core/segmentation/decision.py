"""From logits of words to labels of pixels: section 6 of the reference protocol.

The reference takes a softmax over all words, the best word of each class, and the best class. The
best class of the softmax is the best class of the logits, so only the winner's probability is ever
computed, and only where ``prob_thd`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol

Blocks = Callable[[], Iterable[Tensor]]

PART_ELEMENTS = 2**22  # of logits in work at once: 16 MB; the softmax makes several copies of them


def class_scores(logits: Tensor, query_class: Tensor, num_classes: int) -> Tensor:
    """The best word of each class.

    Args:
        logits: (Q, h, w).
        query_class: (Q,) int64, the class of each word, in ascending order.
        num_classes: C.

    Returns:
        (C, h, w); the logits themselves where each class has one word.
    """
    if num_classes == len(query_class):
        return logits
    sizes = torch.bincount(query_class, minlength=num_classes).tolist()
    return torch.stack([words.amax(dim=0) for words in logits.split(sizes)])


def decide(
    blocks: Blocks, query_class: Tensor, num_classes: int, protocol: Protocol
) -> NDArray[np.unsignedinteger]:
    """Labels of an image whose logits come in blocks of rows.

    Args:
        blocks: gives an iterable of logits (Q, rows, W), from the top row down; called again
            where ``area_thd`` takes a class away that had pixels.
        query_class: (Q,) int64, ascending.
        num_classes: C.
        protocol: ``logit_scale``, ``prob_thd``, ``area_thd``.

    Returns:
        (H, W), uint8 where C is at most 256, else uint16.
    """
    scores, labels = _winners(blocks, query_class, num_classes, protocol, None)
    if protocol.area_thd > 0:
        areas = np.bincount(labels.ravel(), minlength=num_classes)
        small = areas <= protocol.area_thd * areas[1:].sum()
        small[0] = False
        if areas[small].any():
            removed = torch.from_numpy(small)
            scores, labels = _winners(blocks, query_class, num_classes, protocol, removed)
    if scores is not None:
        labels[scores < protocol.prob_thd] = 0
    return labels


def _winners(
    blocks: Blocks,
    query_class: Tensor,
    num_classes: int,
    protocol: Protocol,
    removed: Tensor | None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.unsignedinteger]]:
    """Probability (only with ``prob_thd``) and label of the best class of every pixel.

    Args:
        blocks: see ``decide``.
        query_class: see ``decide``.
        num_classes: see ``decide``.
        protocol: see ``decide``.
        removed: (C,) bool, classes that may not win; their words stay in the softmax.
    """
    kind = np.uint8 if num_classes <= 256 else np.uint16
    scores: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.unsignedinteger]] = []
    for logits in _parts(blocks()):
        classes = class_scores(logits, query_class, num_classes)
        if removed is not None:
            classes = classes.masked_fill(removed.to(classes.device)[:, None, None], -torch.inf)
        best, label = classes.max(dim=0)
        labels.append(label.cpu().numpy().astype(kind))
        if protocol.prob_thd > 0:
            total = torch.logsumexp(protocol.logit_scale * logits, dim=0)
            scores.append((protocol.logit_scale * best - total).exp().cpu().numpy())
    return (np.concatenate(scores) if scores else None), np.concatenate(labels)


def _parts(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same rows in pieces that the caches hold."""
    for block in blocks:
        words, _, width = block.shape
        yield from block.split(max(1, PART_ELEMENTS // (words * width)), dim=1)
