"""From logits of words to labels of pixels: section 6 of the reference protocol.

The reference takes a softmax over all words, the best word of each class, and the best class. The
best class of the softmax is the best class of the logits, so only the winner's probability is ever
computed, and only where ``prob_thd`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol

Blocks = Callable[[], Iterable[Tensor]]
Labels = NDArray[np.unsignedinteger]
Below = NDArray[np.bool_] | None  # where the winner is less probable than prob_thd
Shares = dict[float, NDArray[np.float32]]  # by logit_scale: the winner's probability (H, W)
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
    (winners,) = winners_of(blocks, query_class, num_classes, [protocol])
    return settle(winners, num_classes, protocol)


def winners_of(
    blocks: Blocks, query_class: Tensor, num_classes: int, protocols: Sequence[Protocol]
) -> list[Winners]:
    """What ``settle`` asks, for each of several protocols; one pass over the blocks for all.

    Args:
        blocks: see ``decide``.
        query_class: see ``decide``.
        num_classes: see ``decide``.
        protocols: which may differ in ``logit_scale``, ``prob_thd`` and ``area_thd``.
    """
    decisions = _Decisions(blocks, query_class, num_classes, protocols)
    return [partial(decisions.of, protocol) for protocol in protocols]


def settle(winners: Winners, num_classes: int, protocol: Protocol) -> Labels:
    """Labels of an image by the rules of ``area_thd`` and ``prob_thd``.

    Args:
        winners: gives, for the classes that may not win (C,) or None, where the best of the others
            is less probable than ``prob_thd``, and the best (H, W).
        num_classes: C.
        protocol: ``prob_thd``, ``area_thd``.

    Returns:
        (H, W), a new map: what ``winners`` gave with some pixels set to 0.
    """
    below, labels = winners(None)
    if protocol.area_thd > 0:
        areas = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
        small = areas <= protocol.area_thd * areas[1:].sum()
        small[0] = False
        if areas[small].any():
            below, labels = winners(small)
    labels = labels.copy()  # others may read the same
    if below is not None:
        labels[below] = 0
    return labels


class _Decisions:
    """The best class of every pixel, and how probable it is by each scale that is asked for it.

    Kept are those of all classes and those of the last set of classes that may not win.
    """

    def __init__(
        self, blocks: Blocks, query_class: Tensor, num_classes: int, protocols: Sequence[Protocol]
    ) -> None:
        """Take what decides; arguments as of ``winners_of``."""
        self._blocks, self._query_class, self._num_classes = blocks, query_class, num_classes
        self._protocols = protocols
        self._kept: dict[bytes | None, tuple[Shares, Labels]] = {}

    def of(self, protocol: Protocol, removed: NDArray[np.bool_] | None) -> tuple[Below, Labels]:
        """Where the best is less probable than ``prob_thd`` (None: nobody asks), and the best.

        Args:
            protocol: one of those given.
            removed: (C,) bool, classes that may not win; their words stay in the softmax.
        """
        which = None if removed is None else removed.tobytes()
        if which not in self._kept:
            self._kept = {key: kept for key, kept in self._kept.items() if key is None}
            self._kept[which] = self._decided(removed)
        shares, labels = self._kept[which]
        if protocol.prob_thd <= 0:
            return None, labels
        return shares[protocol.logit_scale] < protocol.prob_thd, labels

    def _decided(self, removed: NDArray[np.bool_] | None) -> tuple[Shares, Labels]:
        """Go through the blocks."""
        kind = np.uint8 if self._num_classes <= 256 else np.uint16
        asking = [p for p in self._protocols if p.prob_thd > 0 and (removed is None or p.area_thd)]
        shares: dict[float, list[NDArray[np.float32]]] = {p.logit_scale: [] for p in asking}
        labels: list[Labels] = []
        for logits in _parts(self._blocks()):
            classes = class_scores(logits, self._query_class, self._num_classes)
            if removed is not None:
                barred = torch.from_numpy(removed).to(classes.device)
                classes = classes.masked_fill(barred[:, None, None], -torch.inf)
            best, label = classes.max(dim=0)
            small = torch.uint8 if self._num_classes <= 256 else torch.int32  # of 64 bits few count
            labels.append(label.to(small).cpu().numpy().astype(kind, copy=False))
            for scale, parts in shares.items():
                total = torch.logsumexp(scale * logits, dim=0)
                parts.append((scale * best - total).exp().cpu().numpy())
        return {scale: np.concatenate(p) for scale, p in shares.items()}, np.concatenate(labels)


def _parts(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same rows in pieces that the caches hold."""
    for block in blocks:
        words, _, width = block.shape
        elements = PART_ELEMENTS.get(block.device.type, PART_ELEMENTS["cpu"])
        yield from block.split(max(1, elements // (words * width)), dim=1)
