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
    inlined_sum,
    power_buffers,
    split_power,
)
from sclip_core.segmentation.backends.numba_pamr_kernels import step_row
from sclip_core.segmentation.backends.numba_stitch import Taps, mix_columns, mix_rows
from sclip_core.segmentation.backends.numba_winner import (
    winner_of_eight,
    winner_of_four,
    winner_of_logits,
)

LANES = 8  # of which the number of queries, with padding, is a multiple


class RunningArgmax(NamedTuple):
    """The best query of every pixel so far and, where it is asked for, the softmax's denominator.

    A probability is ``2**(scale · (best - top)) / total``.
    """

    scale: np.float32  # logit_scale / ln 2
    best: Floats  # (H, W) largest logit of a query that may win
    labels: NDArray[np.unsignedinteger]  # (H, W) its class
    top: Floats  # (H, W) largest logit of all; (1, 0) where no probabilities are asked for
    total: Floats  # (H, W) sum of 2**(scale · (logit - top)) of all; (1, 0) likewise

    @classmethod
    def empty(
        cls, size: tuple[int, int], num_classes: int, logit_scale: float | None
    ) -> RunningArgmax:
        """Before the first query; without a scale no probabilities are asked for."""
        asked = (1, 0) if logit_scale is None else size
        return cls(
            np.float32((logit_scale or 1) / math.log(2)),
            np.full(size, -np.inf, np.float32),
            np.zeros(size, np.uint8 if num_classes <= 256 else np.uint16),
            np.full(asked, -np.inf, np.float32),
            np.zeros(asked, np.float32),
        )

    def part(self, rows: slice) -> RunningArgmax:
        """Views of some rows."""
        top, total = self.top, self.total
        if top.shape[1]:
            top, total = top[rows], total[rows]
        return RunningArgmax(self.scale, self.best[rows], self.labels[rows], top, total)


@compiled
def decide_rows(
    cosines: Array,
    rows: Taps,
    columns: Taps,
    queries: int,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    first: int,
    last: int,
) -> None:
    """Stitch and decide pixel by pixel; see ``stitch_rows`` and ``step_and_decide_rows``."""
    line = np.empty((cosines.shape[1], cosines.shape[2]), np.float32)
    buffers = power_buffers(queries)
    best, labels, top, total = running.best, running.labels, running.top, running.total
    taps, weights = columns.columns, columns.weights
    width, summed = labels.shape[1], top.shape[1] > 0
    there = summed or taps.shape[1] > 8  # the logits of a row, before they are compared
    row = np.empty((width if there else 0, cosines.shape[2]), np.float32)
    for y in range(first, last):
        mix_rows(cosines, rows, y, line)
        if there:
            for x in range(width):
                mix_columns(line, taps, weights, x, row, x)
        if summed:
            update_best(row, 0, classes, excluded, best, labels, y, 0, 1, width)
            for x in range(width):
                update_total(row, x, queries, running.scale, top, total, y, x, buffers)
        else:
            update_best_mixed(line, taps, weights, row, classes, excluded, best, labels, y)


@compiled
def step_and_decide_rows(
    source: Array,
    weights: Array,
    dilations: Array,
    border: int,
    skipped: int,
    queries: int,
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
        queries: how many of the C are queries; the others are padding.
        classes: (C,) of the queries, ascending.
        excluded: (C,) 0 for a query that may win, -inf for one that may not.
        running: the decision among the chunks before; brought up to date.
        first: decided row to begin with.
        last: decided row to stop before.
    """
    row = np.empty((weights.shape[1], source.shape[2]), np.float32)
    buffers = power_buffers(queries)
    best, labels, top, total = running.best, running.labels, running.top, running.total
    for y in range(first, last):
        step_row(source, weights, dilations, skipped + y, border, row, 0)
        update_best(row, 0, classes, excluded, best, labels, y, 0, 1, labels.shape[1])
        for x in range(top.shape[1]):  # none, where no probabilities are asked for
            update_total(row, x, queries, running.scale, top, total, y, x, buffers)


@compiled
def decide_refined_rows(
    values: Array,
    skipped: int,
    queries: int,
    classes: Array,
    excluded: Array,
    running: RunningArgmax,
    first: int,
    last: int,
) -> None:
    """Decide among logits (H, W, C) that are there; see ``step_and_decide_rows``."""
    buffers = power_buffers(queries)
    best, labels, top, total = running.best, running.labels, running.top, running.total
    for y in range(first, last):
        row = values[skipped + y]
        update_best(row, 0, classes, excluded, best, labels, y, 0, 1, labels.shape[1])
        for x in range(top.shape[1]):  # none, where no probabilities are asked for
            update_total(row, x, queries, running.scale, top, total, y, x, buffers)


@inlined
def update_best(
    row: Array,
    at: int,
    classes: Array,
    excluded: Array,
    best: Array,
    labels: Array,
    y: int,
    x: int,
    spacing: int,
    count: int,
) -> None:
    """Compare pixels' logits ``row[at:]`` with the best so far; of equal ones the first wins.

    Of a whole row at once, as arguments that are arrays count references. The pixels are ``x`` and
    those ``spacing`` apart.
    """
    words = row.shape[1]
    for k in range(count):
        place = (at + k) * words
        highest, word = winner_of_logits(row, classes, row, place, words, excluded)
        if highest > best[y, x + k * spacing]:
            best[y, x + k * spacing] = highest
            labels[y, x + k * spacing] = classes[word]


@inlined
def update_best_mixed(
    line: Array,
    taps: Array,
    weights: Array,
    row: Array,
    classes: Array,
    excluded: Array,
    best: Array,
    labels: Array,
    y: int,
) -> None:
    """Do as ``update_best`` with a whole row, whose logits are mixed from a line.

    Logits of more than eight taps are there, in ``row``.
    """
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


@inlined
def update_total(
    row: Array,
    at: int,
    queries: int,
    scale: np.float32,
    top: Array,
    total: Array,
    y: int,
    x: int,
    buffers: tuple[Array, Array, Array],
) -> None:
    """Add a pixel's logits to the softmax's denominator, relative to the largest so far."""
    highest = top[y, x]
    for q in range(queries):
        highest = max(highest, row[at, q])
    earlier = total[y, x]
    if earlier > 0:
        earlier *= np.float32(2.0 ** (scale * (top[y, x] - highest)))
    top[y, x] = highest
    total[y, x] = earlier + _sum_of_powers(row, at, queries, highest, scale, buffers)


@inlined_sum
def _sum_of_powers(
    row: Array,
    at: int,
    queries: int,
    highest: np.float32,
    scale: np.float32,
    buffers: tuple[Array, Array, Array],
) -> np.float32:
    """Sum of 2**(scale · (row[at] - highest)), with a relative error of 3e-7."""
    mantissas, exponents, powers = buffers
    for q in range(queries):
        split_power((row[at, q] - highest) * scale, q, mantissas, exponents)
    total = np.float32(0)
    for q in range(queries):
        total += mantissas[q] * powers[q]
    return total
