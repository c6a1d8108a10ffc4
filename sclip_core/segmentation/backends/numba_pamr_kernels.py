"""PAMR on a CPU: one iteration over the rows of an image."""

from __future__ import annotations

import numpy as np

from sclip_core.segmentation.backends.numba_jit import Array, compiled, inlined
from sclip_core.segmentation.backends.numba_stitch import fill_borders


@compiled
def step_rows(
    source: Array,
    weights: Array,
    dilations: Array,
    target: Array,
    border: int,
    first: int,
    last: int,
) -> None:
    """One iteration of PAMR: the weighted mean of the neighbours, without the pixel itself.

    Args:
        source: (H, border + W + border, C), the borders filled.
        weights: (H, W, 8·D).
        dilations: (D,) none above ``border``.
        target: like ``source``, to be filled.
        border: columns beyond either side.
        first: row to begin with.
        last: row to stop before.
    """
    for y in range(first, last):
        step_row(source, weights, dilations, y, border, target[y], border)
        fill_borders(target[y], border)


@inlined
def step_row(
    source: Array, weights: Array, dilations: Array, y: int, border: int, row: Array, at: int
) -> None:
    """One iteration for the pixels of row ``y``, into ``row[at:]``.

    The first two distances at once, as most protocols have two: a pixel's fixed cost is paid once,
    and nothing is written in between.
    """
    bottom, level, queries = source.shape[0] - 1, source[y], source.shape[2]
    d = dilations[0]
    above, below = source[max(y - d, 0)], source[min(y + d, bottom)]
    if len(dilations) == 1:
        for x in range(weights.shape[1]):
            w, here = _eight(weights, y, x, 0), x + border
            for q in range(queries):
                row[at + x, q] = _mean(above, level, below, here, d, q, w)
        return
    e = dilations[1]
    higher, lower = source[max(y - e, 0)], source[min(y + e, bottom)]
    for x in range(weights.shape[1]):
        w, v, here = _eight(weights, y, x, 0), _eight(weights, y, x, 8), x + border
        for q in range(queries):
            near = _mean(above, level, below, here, d, q, w)
            row[at + x, q] = near + _mean(higher, level, lower, here, e, q, v)
    for k in range(2, len(dilations)):
        f = dilations[k]
        top, low = source[max(y - f, 0)], source[min(y + f, bottom)]
        for x in range(weights.shape[1]):
            w, here = _eight(weights, y, x, 8 * k), x + border
            for q in range(queries):
                row[at + x, q] += _mean(top, level, low, here, f, q, w)


@inlined
def _mean(
    above: Array,
    level: Array,
    below: Array,
    here: int,
    d: int,
    q: int,
    w: tuple[np.float32, ...],
) -> np.float32:
    """The weighted sum of the eight neighbours of pixel ``here`` at a distance, for one query."""
    mean: np.float32 = (
        w[0] * above[here - d, q]
        + w[1] * above[here, q]
        + w[2] * above[here + d, q]
        + w[3] * level[here - d, q]
        + w[4] * level[here + d, q]
        + w[5] * below[here - d, q]
        + w[6] * below[here, q]
        + w[7] * below[here + d, q]
    )
    return mean


@inlined
def _eight(weights: Array, y: int, x: int, n: int) -> tuple[np.float32, ...]:
    """The weights of the eight neighbours at one distance, from the n-th on."""
    return (
        weights[y, x, n],
        weights[y, x, n + 1],
        weights[y, x, n + 2],
        weights[y, x, n + 3],
        weights[y, x, n + 4],
        weights[y, x, n + 5],
        weights[y, x, n + 6],
        weights[y, x, n + 7],
    )
