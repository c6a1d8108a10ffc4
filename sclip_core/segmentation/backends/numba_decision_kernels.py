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

LANES = 8  # queries that are compared side by side


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
    pixel = np.empty((1, cosines.shape[2]), np.float32)
    lanes, buffers = lanes_buffer(), power_buffers(queries)
    for y in range(first, last):
        mix_rows(cosines, rows, y, line)
        for x in range(running.labels.shape[1]):
            mix_columns(line, columns, x, pixel, 0)
            update_best(pixel, 0, classes, excluded, lanes, running, y, x)
            if running.top.shape[1] > 0:
                update_total(pixel, 0, queries, running, y, x, buffers)


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
    lanes, buffers = lanes_buffer(), power_buffers(queries)
    for y in range(first, last):
        step_row(source, weights, dilations, skipped + y, border, row, 0)
        for x in range(running.labels.shape[1]):
            update_best(row, x, classes, excluded, lanes, running, y, x)
            if running.top.shape[1] > 0:
                update_total(row, x, queries, running, y, x, buffers)


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
    lanes, buffers = lanes_buffer(), power_buffers(queries)
    for y in range(first, last):
        row = values[skipped + y]
        for x in range(running.labels.shape[1]):
            update_best(row, x, classes, excluded, lanes, running, y, x)
            if running.top.shape[1] > 0:
                update_total(row, x, queries, running, y, x, buffers)


@inlined
def lanes_buffer() -> Array:
    """Room for what is compared side by side."""
    return np.empty(LANES, np.float32)


@inlined
def update_best(
    row: Array,
    at: int,
    classes: Array,
    excluded: Array,
    lanes: Array,
    running: RunningArgmax,
    y: int,
    x: int,
) -> None:
    """Compare a pixel's logits ``row[at]`` with the best so far; of equal ones the first wins.

    In lanes, as a chain of comparisons would not be vectorised.
    """
    blocks = row.shape[1] // LANES
    for j in range(LANES):
        lanes[j] = row[at, j] + excluded[j]
    for block in range(1, blocks):
        for j in range(LANES):
            value, so_far = row[at, LANES * block + j] + excluded[LANES * block + j], lanes[j]
            lanes[j] = value if value > so_far else so_far
    highest = lanes[0]
    for j in range(1, LANES):
        highest = max(highest, lanes[j])
    if highest <= running.best[y, x]:
        return
    running.best[y, x] = highest
    for block in range(blocks):
        hits = 0
        for j in range(LANES):
            hits += 1 if row[at, LANES * block + j] + excluded[LANES * block + j] == highest else 0
        if hits > 0:
            for q in range(LANES * block, LANES * block + LANES):
                if row[at, q] + excluded[q] == highest:
                    running.labels[y, x] = classes[q]
                    return


@inlined
def update_total(
    row: Array,
    at: int,
    queries: int,
    running: RunningArgmax,
    y: int,
    x: int,
    buffers: tuple[Array, Array, Array],
) -> None:
    """Add a pixel's logits to the softmax's denominator, relative to the largest so far."""
    highest = running.top[y, x]
    for q in range(queries):
        highest = max(highest, row[at, q])
    earlier = running.total[y, x]
    if earlier > 0:
        earlier *= np.float32(2.0 ** (running.scale * (running.top[y, x] - highest)))
    running.top[y, x] = highest
    running.total[y, x] = earlier + _sum_of_powers(
        row, at, queries, highest, running.scale, buffers
    )


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
