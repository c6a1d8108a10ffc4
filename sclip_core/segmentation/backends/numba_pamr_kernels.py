"""PAMR on a CPU: the weights of an image's neighbours, and one iteration over its rows."""

from __future__ import annotations

import math

import numpy as np

from sclip_core.segmentation.backends.numba_jit import (
    Array,
    compiled,
    inlined,
    inlined_sum,
    power_buffers,
    split_power,
)
from sclip_core.segmentation.backends.numba_stitch import fill_borders

THIRD = np.float32(1 / (3 * math.log(2)))  # mean over the channels, and to powers of 2


@compiled
def weigh_rows(image: Array, dilations: Array, weights: Array, first: int, last: int) -> None:
    """Fill the weights of PAMR.

    Args:
        image: (H, W, 3) float32, normalised.
        dilations: (D,) distances in pixels.
        weights: (H, W, 8·D), to be filled; each pixel's sum to 1.
        first: row to begin with.
        last: row to stop before.
    """
    count = weights.shape[2]
    values = np.empty((3, count), np.float32)
    buffers = power_buffers(count)
    for y in range(first, last):
        for x in range(image.shape[1]):
            gather(image, dilations, y, x, values)
            weigh(image, len(dilations), y, x, values, weights[y], x, buffers)


@inlined
def gather(image: Array, dilations: Array, y: int, x: int, values: Array) -> None:
    """The colours of a pixel's neighbours (3, 8·D); the image's border is repeated beyond it."""
    bottom, right = image.shape[0] - 1, image.shape[1] - 1
    n = 0
    for d in dilations:
        for dy in range(-1, 2):
            row = min(max(y + dy * d, 0), bottom)
            for dx in range(-1, 2):
                if dy != 0 or dx != 0:
                    column = min(max(x + dx * d, 0), right)
                    for c in range(3):
                        values[c, n] = image[row, column, c]
                    n += 1


@inlined_sum
def weigh(
    image: Array,
    centres: int,
    y: int,
    x: int,
    values: Array,
    weights: Array,
    at: int,
    buffers: tuple[Array, Array, Array],
) -> None:
    """Softmax over the neighbours of how alike they are, each channel in units of its deviation."""
    mantissas, exponents, powers = buffers
    count = values.shape[1]
    samples = np.float32(count + centres)
    for n in range(count):
        weights[at, n] = 0.0
    for c in range(3):
        centre = image[y, x, c]
        total = centres * centre
        for n in range(count):
            total += values[c, n]
        mean = total / samples
        squares = centres * (centre - mean) * (centre - mean)
        for n in range(count):
            squares += (values[c, n] - mean) * (values[c, n] - mean)
        deviation = np.sqrt(np.float32(squares / (samples - np.float32(1))))
        share = np.float32(1) / (np.float32(1e-8) + np.float32(0.1) * deviation)
        for n in range(count):
            weights[at, n] -= abs(centre - values[c, n]) * share
    highest = weights[at, 0]
    for n in range(1, count):
        highest = max(highest, weights[at, n])
    for n in range(count):
        split_power((weights[at, n] - highest) * THIRD, n, mantissas, exponents)
    total = np.float32(0)
    for n in range(count):
        weights[at, n] = mantissas[n] * powers[n]
        total += weights[at, n]
    share = np.float32(1) / total
    for n in range(count):
        weights[at, n] *= share


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
