"""The decision on a CPU: queries of a pixel compared and summed as soon as their logits exist."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.segmentation.backends.numba_jit import (
    Array,
    Floats,
    compiled,
    inlined,
)
from sclip_core.segmentation.backends.numba_pamr_kernels import step_row
from sclip_core.segmentation.backends.numba_powers import sum_of_powers
from sclip_core.segmentation.backends.numba_stitch import Taps, mix_columns, mix_rows
from sclip_core.segmentation.backends.numba_winner import (
    winner_of_eight,
    winner_of_four,
    winner_of_logits,
)

LANES = 8  # of which the number of queries, with padding, is a multiple


class RunningArgmax(NamedTuple):
    """The best query of every pixel so far and, where it is asked for, the softmax's denominator.

    The denominator is that of all queries, so all may win where it is asked for. The probability of
    the best is ``1 / total``.
    """

    scale: np.float32  # logit_scale / ln 2
    best: Floats  # (H, W) largest logit of a query that may win
    labels: NDArray[np.unsignedinteger]  # (H, W) its class
    total: Floats  # (H, W) sum of 2**(scale · (logit - best)); (1, 0) where it is not asked for

    @classmethod
    def empty(
        cls, size: tuple[int, int], num_classes: int, logit_scale: float | None
    ) -> RunningArgmax:
        """Before the first query; without a scale no probabilities are asked for."""
        return cls(
            np.float32((logit_scale or 1) / math.log(2)),
            np.full(size, -np.inf, np.float32),
            np.zeros(size, np.uint8 if num_classes <= 256 else np.uint16),
            np.zeros((1, 0) if logit_scale is None else size, np.float32),
        )

    def part(self, rows: slice) -> RunningArgmax:
        """Views of some rows."""
        total = self.total[rows] if self.total.shape[1] else self.total
        return RunningArgmax(self.scale, self.best[rows], self.labels[rows], total)


@compiled
def decide_rows(
    cosines: Array,
    rows: Taps,
    columns: Taps,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    first: int,
    last: int,
) -> None:
    """Stitch and decide pixel by pixel; see ``stitch_rows`` and ``step_and_decide_rows``."""
    line = np.empty((cosines.shape[1], cosines.shape[2]), np.float32)
    taps, weights = columns.columns, columns.weights
    width, summed = running.labels.shape[1], running.total.shape[1] > 0
    there = summed or taps.shape[1] > 8  # the logits of a row, before they are compared
    row = np.empty((width if there else 0, cosines.shape[2]), np.float32)
    for y in range(first, last):
        mix_rows(cosines, rows, y, line)
        if there:
            for x in range(width):
                mix_columns(line, taps, weights, x, row, x)
        if summed:
            decide_row(row, 0, classes, excluded, running, y, 0, 1, width)
        else:
            decide_mixed_row(line, taps, weights, row, classes, excluded, running, y)


@compiled
def step_and_decide_rows(
    source: Array,
    weights: Array,
    dilations: Array,
    border: int,
    skipped: int,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    first: int,
    last: int,
) -> None:
    """The last iteration of PAMR for a chunk of queries, and at once the decision among them.

    Args:
        source: (H, border + W + border, C), the borders filled; C is a multiple of ``LANES``.
        weights: (H, W, 8·D).
        dilations: (D,) none above ``border``.
        border: columns beyond either side.
        skipped: rows of ``source`` above those that are decided.
        classes: (C,) of the queries, ascending.
        excluded: (C,) 0 for a query that may win, -inf for padding or one that may not.
        running: the decision among the chunks before; brought up to date.
        first: decided row to begin with.
        last: decided row to stop before.
    """
    row = np.empty((weights.shape[1], source.shape[2]), np.float32)
    for y in range(first, last):
        step_row(source, weights, dilations, skipped + y, border, row, 0)
        decide_row(row, 0, classes, excluded, running, y, 0, 1, row.shape[0])


@compiled
def decide_refined_rows(
    values: Array,
    skipped: int,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    first: int,
    last: int,
) -> None:
    """Decide among logits (H, W, C) that are there; see ``step_and_decide_rows``."""
    for y in range(first, last):
        row = values[skipped + y]
        decide_row(row, 0, classes, excluded, running, y, 0, 1, row.shape[0])


@inlined
def decide_row(
    row: Array,
    at: int,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    y: int,
    x: int,
    spacing: int,
    count: int,
) -> None:
    """Compare pixels' logits ``row[at:]`` with the best so far; of equal ones the first wins.

    Of a whole row at once, as arguments that are arrays count references. The pixels are ``x`` and
    those ``spacing`` apart.
    """
    best, labels, total, scale = running.best, running.labels, running.total, running.scale
    words, summed = row.shape[1], total.shape[1] > 0
    for k in range(count):
        place, here = (at + k) * words, x + k * spacing
        highest, word = winner_of_logits(row, classes, row, place, words, excluded)
        before = best[y, here]
        if highest > before:
            best[y, here] = highest
            labels[y, here] = classes[word]
        if summed:
            earlier = total[y, here]
            if highest > before and earlier > 0:
                earlier *= np.float32(2.0 ** (scale * (before - highest)))
            top = max(highest, before)
            total[y, here] = earlier + sum_of_powers(row, place, words, excluded, top, scale)


@inlined
def decide_mixed_row(
    line: Array,
    taps: Array,
    weights: Array,
    row: Array,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    y: int,
) -> None:
    """Do as ``decide_row`` with a whole row, whose logits are mixed from a line, without sums.

    Logits of more than eight taps are there, in ``row``.
    """
    best, labels = running.best, running.labels
    most, words = taps.shape[1], line.shape[1]
    for x in range(labels.shape[1]):
        if most == 4 or weights[x, 4] == 0.0:
            highest, word = winner_of_four(line, taps, weights, x * most, words, excluded)
        elif most == 8 or weights[x, 8] == 0.0:
            highest, word = winner_of_eight(line, taps, weights, x * most, words, excluded)
        else:
            highest, word = winner_of_logits(row, taps, weights, x * words, words, excluded)
        if highest > best[y, x]:
            best[y, x] = highest
            labels[y, x] = classes[word]


@compiled
def most_above(cosines: Array, rivals: Array, above: Array) -> None:
    """How far each query is above each rival where it is most.

    Args:
        cosines: (patches, Q).
        rivals: (patches, R).
        above: (R, Q) -inf, to be filled.
    """
    for patch in range(cosines.shape[0]):
        for r in range(rivals.shape[1]):
            rival, most = rivals[patch, r], above[r]
            for q in range(cosines.shape[1]):
                most[q] = max(most[q], cosines[patch, q] - rival)
