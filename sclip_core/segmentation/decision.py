"""From logits of queries to labels of pixels: docs/protocol.md, section 6.

The reference takes a softmax over all queries, the best query of each class, and the best class.
The best class of the softmax is the best class of the logits, so only the winner's probability is
ever computed, and only where ``prob_thd`` needs it.
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
# Takes the classes (C,) that may not win, or None. Returns where the best of the others is less
# probable than prob_thd, and that best class, both (H, W).
Decision = Callable[[NDArray[np.bool_] | None], tuple[Below, Labels]]
Probabilities = dict[float, NDArray[np.float32]]  # by logit_scale: the winner's (H, W)

# Logits in work at once, of which the softmax makes several copies: 16 MB, or a GPU's 1 GB.
PART_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}


def class_scores(logits: Tensor, query_class: Tensor, num_classes: int) -> Tensor:
    """The logit of the best query of each class.

    Args:
        logits: (Q, h, w).
        query_class: (Q,) int64, the class of each query, in ascending order.
        num_classes: C.

    Returns:
        (C, h, w); the logits themselves where each class has one query.
    """
    if num_classes == len(query_class):
        return logits
    sizes = torch.bincount(query_class, minlength=num_classes).tolist()
    return torch.stack([queries.amax(dim=0) for queries in logits.split(sizes)])


def decide(
    blocks: Blocks, query_class: Tensor, num_classes: int, protocol: Protocol
) -> NDArray[np.unsignedinteger]:
    """Label an image whose logits come in blocks of rows.

    Args:
        blocks: returns an iterable of logits (Q, rows, W), from the top row down; called again
            where ``area_thd`` excludes a class that had pixels.
        query_class: (Q,) int64, ascending.
        num_classes: C.
        protocol: ``logit_scale``, ``prob_thd``, ``area_thd``.

    Returns:
        (H, W), uint8 where C is at most 256, else uint16.
    """
    (decision,) = decisions(blocks, query_class, num_classes, [protocol])
    return apply_thresholds(decision, num_classes, protocol)


def decisions(
    blocks: Blocks, query_class: Tensor, num_classes: int, protocols: Sequence[Protocol]
) -> list[Decision]:
    """The decisions by several protocols, which share the passes over the blocks.

    Arguments as of ``decide``; the protocols may differ in ``logit_scale``, ``prob_thd`` and
    ``area_thd``.
    """
    shared = _SharedDecisions(blocks, query_class, num_classes, protocols)
    return [partial(shared.by, protocol) for protocol in protocols]


def apply_thresholds(decision: Decision, num_classes: int, protocol: Protocol) -> Labels:
    """Label an image by the rules of ``area_thd`` and ``prob_thd``.

    Args:
        decision: of every pixel; made again where ``area_thd`` excludes a class that had pixels.
        num_classes: C.
        protocol: ``prob_thd``, ``area_thd``.

    Returns:
        (H, W), a new map: the best classes, and 0 where the best is not probable enough.
    """
    below, labels = decision(None)
    if protocol.area_thd > 0:
        areas = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
        small = areas <= protocol.area_thd * areas[1:].sum()
        small[0] = False
        if areas[small].any():
            below, labels = decision(small)
    labels = labels.copy()  # other protocols may share it
    if below is not None:
        labels[below] = 0
    return labels


def without(decision: Decision, barred: NDArray[np.bool_]) -> Decision:
    """A decision among fewer classes: the queries of the others stay in the softmax.

    Args:
        decision: among all classes.
        barred: (C,) classes that may not win.
    """
    return lambda excluded: decision(barred if excluded is None else barred | excluded)


class _SharedDecisions:
    """The best class of every pixel, and its probability by each ``logit_scale`` that needs it.

    What was decided among all classes is kept, and for the last set of excluded classes.
    """

    def __init__(
        self, blocks: Blocks, query_class: Tensor, num_classes: int, protocols: Sequence[Protocol]
    ) -> None:
        """Keep the arguments, which are those of ``decisions``."""
        self._blocks, self._query_class, self._num_classes = blocks, query_class, num_classes
        self._protocols = protocols
        self._kept: dict[bytes | None, tuple[Probabilities, Labels]] = {}

    def by(self, protocol: Protocol, excluded: NDArray[np.bool_] | None) -> tuple[Below, Labels]:
        """Decide by one of the protocols; see ``Decision``.

        Args:
            protocol: one of those given.
            excluded: (C,) bool, classes that may not win; their queries stay in the softmax.
        """
        which = None if excluded is None else excluded.tobytes()
        if which not in self._kept:
            self._kept = {key: kept for key, kept in self._kept.items() if key is None}
            self._kept[which] = self._decided(excluded)
        probabilities, labels = self._kept[which]
        if protocol.prob_thd <= 0:
            return None, labels
        return probabilities[protocol.logit_scale] < protocol.prob_thd, labels

    def _decided(self, excluded: NDArray[np.bool_] | None) -> tuple[Probabilities, Labels]:
        """Decide all blocks, in one pass."""
        kind = np.uint8 if self._num_classes <= 256 else np.uint16
        asking = [p for p in self._protocols if p.prob_thd > 0]
        by_scale: dict[float, list[NDArray[np.float32]]] = {p.logit_scale: [] for p in asking}
        labels: list[Labels] = []
        for logits in _parts(self._blocks()):
            classes = class_scores(logits, self._query_class, self._num_classes)
            if excluded is not None:
                mask = torch.from_numpy(excluded).to(classes.device)
                classes = classes.masked_fill(mask[:, None, None], -torch.inf)
            best, label = classes.max(dim=0)
            narrow = torch.uint8 if self._num_classes <= 256 else torch.int32
            labels.append(label.to(narrow).cpu().numpy().astype(kind, copy=False))
            for scale, parts in by_scale.items():
                total = torch.logsumexp(scale * logits, dim=0)
                parts.append((scale * best - total).exp().cpu().numpy())
        probabilities = {scale: np.concatenate(parts) for scale, parts in by_scale.items()}
        return probabilities, np.concatenate(labels)


def _parts(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Split blocks into parts of at most ``PART_ELEMENTS``, or of one row."""
    for block in blocks:
        queries, _, width = block.shape
        elements = PART_ELEMENTS.get(block.device.type, PART_ELEMENTS["cpu"])
        yield from block.split(max(1, elements // (queries * width)), dim=1)
