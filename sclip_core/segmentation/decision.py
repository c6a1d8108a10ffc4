"""From logits of words to labels of pixels: section 6 of the reference protocol.

The reference takes a softmax over all words, the best word of each class, and the best class. The
best class of the softmax is the best class of the logits, so only the winner's probability is ever
computed, and only where ``prob_thd`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol

Blocks = Callable[[], Iterable[Tensor]]
Labels = NDArray[np.unsignedinteger]
Below = NDArray[np.bool_] | None  # where the winner is less probable than prob_thd
Winners = Callable[[NDArray[np.bool_] | None], tuple[Below, Labels]]

# Logits in work at once, of which the softmax makes several copies: 16 MB, or a GPU's 1 GB.
PART_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}


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
    return settle(winners_of(blocks, query_class, num_classes, protocol), num_classes, protocol)


def winners_of(
    blocks: Blocks, query_class: Tensor, num_classes: int, protocol: Protocol
) -> Winners:
    """What ``settle`` asks; arguments as of ``decide``."""
    return partial(_winners, blocks, query_class, num_classes, protocol)


def settle(winners: Winners, num_classes: int, protocol: Protocol) -> Labels:
    """Labels of an image by the rules of ``area_thd`` and ``prob_thd``.

    Args:
        winners: gives, for the classes that may not win (C,) or None, where the best of the others
            is less probable than ``prob_thd``, and the best (H, W).
        num_classes: C.
        protocol: ``prob_thd``, ``area_thd``.

    Returns:
        (H, W), what ``winners`` gave with some pixels set to 0.
    """
    below, labels = winners(None)
    if protocol.area_thd > 0:
        areas = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
        small = areas <= protocol.area_thd * areas[1:].sum()
        small[0] = False
        if areas[small].any():
            below, labels = winners(small)
    if below is not None:
        labels[below] = 0
    return labels


def _winners(
    blocks: Blocks,
    query_class: Tensor,
    num_classes: int,
    protocol: Protocol,
    removed: NDArray[np.bool_] | None,
) -> tuple[Below, Labels]:
    """Where the best class is less probable than ``prob_thd``, and the best class of every pixel.

    Args:
        blocks: see ``decide``.
        query_class: see ``decide``.
        num_classes: see ``decide``.
        protocol: see ``decide``.
        removed: (C,) bool, classes that may not win; their words stay in the softmax.
    """
    kind = np.uint8 if num_classes <= 256 else np.uint16
    below: list[NDArray[np.bool_]] = []
    labels: list[Labels] = []
    for logits in _parts(blocks()):
        classes = class_scores(logits, query_class, num_classes)
        if removed is not None:
            barred = torch.from_numpy(removed).to(classes.device)
            classes = classes.masked_fill(barred[:, None, None], -torch.inf)
        best, label = classes.max(dim=0)
        small = torch.uint8 if num_classes <= 256 else torch.int32  # of 64 bits few are needed
        labels.append(label.to(small).cpu().numpy().astype(kind, copy=False))
        if protocol.prob_thd > 0:
            total = torch.logsumexp(protocol.logit_scale * logits, dim=0)
            share = (protocol.logit_scale * best - total).exp()
            below.append((share < protocol.prob_thd).cpu().numpy())
    return (np.concatenate(below) if below else None), np.concatenate(labels)


def _parts(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same rows in pieces that the caches hold."""
    for block in blocks:
        words, _, width = block.shape
        elements = PART_ELEMENTS.get(block.device.type, PART_ELEMENTS["cpu"])
        yield from block.split(max(1, elements // (words * width)), dim=1)
