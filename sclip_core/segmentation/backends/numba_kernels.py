"""The CPU's own kernels: stitch, PAMR and decision with the words innermost, compiled by Numba.

What the portable path does in planes of one word after the other is done here for all words of a
pixel, or for a chunk of them, at once: a pixel's words lie side by side, so that every load,
product and comparison is a vector. Nothing of size words × height × width exists without PAMR, and
with it only two buffers of one chunk.

All kernels work on a range of rows and hold no lock; ``on_rows`` spreads them over threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

LANES = 8  # words that are compared side by side; here, as Numba's cache knows this file's age only
# No NaN comes out of a cosine; products may be contracted to FMA, sums keep their order.
EXACT = ("contract", "nsz", "nnan")
THIRD = np.float32(1 / (3 * math.log(2)))  # mean over the channels, and to powers of 2


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel at its first call, and remember that on disk."""
    try:
        return cast(Kernel, njit(nogil=True, cache=True, fastmath=set(EXACT))(kernel))
    except RuntimeError:  # no folder for it can be written to: compiled anew in every process
        return cast(Kernel, njit(nogil=True, fastmath=set(EXACT))(kernel))


def inlined(kernel: Kernel) -> Kernel:
    """The same for a part of a kernel: called for every pixel, a call would cost more than it."""
    return cast(Kernel, njit(forceinline=True, fastmath=set(EXACT))(kernel))


def inlined_sum(kernel: Kernel) -> Kernel:
    """The same for a part whose sum may be taken in another order."""
    return cast(Kernel, njit(forceinline=True, fastmath={*EXACT, "reassoc"})(kernel))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sclip-rows")


def on_rows(height: int, kernel: Callable[..., None], *arguments: Any) -> None:
    """Run a kernel on all rows, a range of them on each of PyTorch's threads."""
    threads = min(torch.get_num_threads(), height)
    if threads == 1:
        kernel(*arguments, 0, height)
        return
    edges = [height * k // threads for k in range(threads + 1)]
    futures = [_pool(threads).submit(kernel, *arguments, *rows) for rows in pairwise(edges)]
    for future in futures:
        future.result()


@compiled
def stitch_rows(
    laid: Array,
    row_taps: Array,
    row_shares: Array,
    column_taps: Array,
    column_shares: Array,
    out: Array,
    border: int,
    first: int,
    last: int,
) -> None:
    """Logits of a chunk of words: ``My · L[q] · Mxᵀ``, both matrices sparse.

    Args:
        laid: (h, w, C) cosines, the windows side by side.
        row_taps: (H, K) rows of ``laid`` that a pixel row is made of.
        row_shares: (H, K) their shares.
        column_taps: (W, K') the same for columns.
        column_shares: (W, K').
        out: (H, border + W + border, C); the borders get the outermost columns.
        border: columns beyond either side.
        first: row to begin with.
        last: row to stop before.
    """
    width, words = column_taps.shape[0], laid.shape[2]
    line = np.empty((laid.shape[1], words), np.float32)
    for y in range(first, last):
        _mix_rows(laid, row_taps[y], row_shares[y], line)
        for x in range(width):
            _mix_columns(line, column_taps, column_shares, x, out[y], border + x)
        _fill_borders(out[y], border)


@inlined
def _mix_rows(laid: Array, taps: Array, shares: Array, line: Array) -> None:
    """The rows of ``laid`` (h, w, C) that a pixel row is made of, mixed: (w, C)."""
    line[:] = 0.0
    for k in range(taps.shape[0]):
        share = shares[k]
        if share != 0.0:
            source = laid[taps[k]]
            for x in range(line.shape[0]):
                for q in range(line.shape[1]):
                    line[x, q] += share * source[x, q]


@inlined
def _mix_columns(line: Array, taps: Array, shares: Array, x: int, row: Array, at: int) -> None:
    """The same of columns, for pixel ``x``, into ``row[at]`` (C,); four taps at a time."""
    for k in range(0, taps.shape[1], 4):
        s0, s1, s2, s3 = shares[x, k], shares[x, k + 1], shares[x, k + 2], shares[x, k + 3]
        if k > 0 and s0 == 0.0:  # the shares that are there come first
            break
        a, b, c, d = taps[x, k], taps[x, k + 1], taps[x, k + 2], taps[x, k + 3]
        if k == 0:
            for q in range(line.shape[1]):
                row[at, q] = s0 * line[a, q] + s1 * line[b, q] + s2 * line[c, q] + s3 * line[d, q]
        else:
            for q in range(line.shape[1]):
                row[at, q] += s0 * line[a, q] + s1 * line[b, q] + s2 * line[c, q] + s3 * line[d, q]


@inlined
def _fill_borders(row: Array, border: int) -> None:
    end = row.shape[0] - border
    for x in range(border):
        for q in range(row.shape[1]):
            row[x, q] = row[border, q]
            row[end + x, q] = row[end - 1, q]


@compiled
def weigh_rows(image: Array, dilations: Array, weights: Array, first: int, last: int) -> None:
    """PAMR's weights.

    Args:
        image: (H, W, 3) float32, normalised.
        dilations: (D,) distances in pixels.
        weights: (H, W, 8·D), to be filled; they sum to 1.
        first: row to begin with.
        last: row to stop before.
    """
    count = weights.shape[2]
    values = np.empty((3, count), np.float32)
    _, mantissas, exponents, powers = _scratch(count)
    for y in range(first, last):
        for x in range(image.shape[1]):
            _gather(image, dilations, y, x, values)
            _weigh(image, len(dilations), y, x, values, weights, mantissas, exponents, powers)


@inlined
def _gather(image: Array, dilations: Array, y: int, x: int, values: Array) -> None:
    """The colours of a pixel's neighbours (3, 8·D); beyond the border its own pixel is repeated."""
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
def _weigh(
    image: Array,
    centres: int,
    y: int,
    x: int,
    values: Array,
    weights: Array,
    mantissas: Array,
    exponents: Array,
    powers: Array,
) -> None:
    """Softmax over the neighbours of how alike they are, each channel by its own deviation."""
    count = values.shape[1]
    samples = np.float32(count + centres)
    for n in range(count):
        weights[y, x, n] = 0.0
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
            weights[y, x, n] -= abs(centre - values[c, n]) * share
    highest = weights[y, x, 0]
    for n in range(1, count):
        highest = max(highest, weights[y, x, n])
    for n in range(count):
        _split((weights[y, x, n] - highest) * THIRD, n, mantissas, exponents)
    total = np.float32(0)
    for n in range(count):
        weights[y, x, n] = mantissas[n] * powers[n]
        total += weights[y, x, n]
    share = np.float32(1) / total
    for n in range(count):
        weights[y, x, n] *= share


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
    """One iteration of PAMR: the weighted mean of the neighbours, without the centre.

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
        _step(source, weights, dilations, y, border, target[y], border)
        _fill_borders(target[y], border)


@inlined
def _step(
    source: Array, weights: Array, dilations: Array, y: int, border: int, row: Array, at: int
) -> None:
    """One iteration for the pixels of row ``y``, into ``row[at:]``.

    The first two distances at once, which is what most use: a pixel's fixed cost counts once, and
    nothing is written in between.
    """
    bottom, level, words = source.shape[0] - 1, source[y], source.shape[2]
    d = dilations[0]
    above, below = source[max(y - d, 0)], source[min(y + d, bottom)]
    if len(dilations) == 1:
        for x in range(weights.shape[1]):
            w, here = _eight(weights, y, x, 0), x + border
            for q in range(words):
                row[at + x, q] = _mean(above, level, below, here, d, q, w)
        return
    e = dilations[1]
    higher, lower = source[max(y - e, 0)], source[min(y + e, bottom)]
    for x in range(weights.shape[1]):
        w, v, here = _eight(weights, y, x, 0), _eight(weights, y, x, 8), x + border
        for q in range(words):
            near = _mean(above, level, below, here, d, q, w)
            row[at + x, q] = near + _mean(higher, level, lower, here, e, q, v)
    for k in range(2, len(dilations)):
        f = dilations[k]
        top, low = source[max(y - f, 0)], source[min(y + f, bottom)]
        for x in range(weights.shape[1]):
            w, here = _eight(weights, y, x, 8 * k), x + border
            for q in range(words):
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
    """The weighted eight neighbours of pixel ``here`` at a distance, for one word."""
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
    """The weights of the neighbours at one distance."""
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


@compiled
def step_and_vote_rows(
    source: Array,
    weights: Array,
    dilations: Array,
    border: int,
    skipped: int,
    words: int,
    classes: Array,
    barred: Array,
    scale: np.float32,
    best: Array,
    labels: Array,
    top: Array,
    total: Array,
    first: int,
    last: int,
) -> None:
    """The last iteration of PAMR, and at once a chunk of words in the running decision.

    Args:
        source: see ``step_rows``; C is a multiple of ``LANES``.
        weights: see ``step_rows``.
        dilations: see ``step_rows``.
        border: columns beyond either side.
        skipped: rows of ``source`` above those that are decided.
        words: how many of the C are words; the others fill up.
        classes: (C,) of the words, ascending.
        barred: (C,) 0 for a word that may win, -inf for one that may not.
        scale: ``logit_scale / ln 2``.
        best: (H, W) largest logit of a word that may win so far; -inf at first.
        labels: (H, W) its class.
        top: (H, W) largest logit of all words so far, -inf at first; (1, 0) where no
            probabilities are asked for.
        total: (H, W) sum of 2**(scale · (logit - top)) so far, 0 at first; (1, 0) likewise.
        first: decided row to begin with.
        last: decided row to stop before.
    """
    row = np.empty((weights.shape[1], source.shape[2]), np.float32)
    lanes, mantissas, exponents, powers = _scratch(words)
    for y in range(first, last):
        _step(source, weights, dilations, skipped + y, border, row, 0)
        for x in range(labels.shape[1]):
            _vote(row, x, classes, barred, lanes, best, labels, y, x)
            if top.shape[1] > 0:
                _add(row, x, words, scale, top, total, y, x, mantissas, exponents, powers)


@compiled
def label_rows(
    laid: Array,
    row_taps: Array,
    row_shares: Array,
    column_taps: Array,
    column_shares: Array,
    words: int,
    classes: Array,
    barred: Array,
    scale: np.float32,
    best: Array,
    labels: Array,
    top: Array,
    total: Array,
    first: int,
    last: int,
) -> None:
    """Stitch and decide pixel by pixel; arguments as of ``stitch_rows``, ``step_and_vote_rows``."""
    line = np.empty((laid.shape[1], laid.shape[2]), np.float32)
    pixel = np.empty((1, laid.shape[2]), np.float32)
    lanes, mantissas, exponents, powers = _scratch(words)
    for y in range(first, last):
        _mix_rows(laid, row_taps[y], row_shares[y], line)
        for x in range(labels.shape[1]):
            _mix_columns(line, column_taps, column_shares, x, pixel, 0)
            _vote(pixel, 0, classes, barred, lanes, best, labels, y, x)
            if top.shape[1] > 0:
                _add(pixel, 0, words, scale, top, total, y, x, mantissas, exponents, powers)


@inlined
def _vote(
    row: Array,
    at: int,
    classes: Array,
    barred: Array,
    lanes: Array,
    best: Array,
    labels: Array,
    y: int,
    x: int,
) -> None:
    """The first of the largest of ``row[at]`` wins, and an earlier chunk before a later one.

    In lanes, as a chain of comparisons would not become vectors.
    """
    blocks = row.shape[1] // LANES
    for j in range(LANES):
        lanes[j] = row[at, j] + barred[j]
    for block in range(1, blocks):
        for j in range(LANES):
            value, so_far = row[at, LANES * block + j] + barred[LANES * block + j], lanes[j]
            lanes[j] = value if value > so_far else so_far
    highest = lanes[0]
    for j in range(1, LANES):
        highest = max(highest, lanes[j])
    if highest <= best[y, x]:
        return
    best[y, x] = highest
    for block in range(blocks):
        hits = 0
        for j in range(LANES):
            hits += 1 if row[at, LANES * block + j] + barred[LANES * block + j] == highest else 0
        if hits > 0:
            for q in range(LANES * block, LANES * block + LANES):
                if row[at, q] + barred[q] == highest:
                    labels[y, x] = classes[q]
                    return


@inlined
def _add(
    row: Array,
    at: int,
    words: int,
    scale: np.float32,
    top: Array,
    total: Array,
    y: int,
    x: int,
    mantissas: Array,
    exponents: Array,
    powers: Array,
) -> None:
    """Add a chunk's words to the softmax's denominator, relative to the largest logit so far."""
    highest = top[y, x]
    for q in range(words):
        highest = max(highest, row[at, q])
    earlier = total[y, x]
    if earlier > 0:
        earlier *= np.float32(2.0 ** (scale * (top[y, x] - highest)))
    top[y, x] = highest
    total[y, x] = earlier + _sum_of_powers(
        row, at, words, highest, scale, mantissas, exponents, powers
    )


@inlined
def _scratch(words: int) -> tuple[Array, Array, Array, Array]:
    """Room for the work on one pixel; ``powers`` are the exponents' bits read as floats."""
    exponents = np.empty(words, np.int32)
    lanes, mantissas = np.empty(LANES, np.float32), np.empty(words, np.float32)
    return lanes, mantissas, exponents, exponents.view(np.float32)


@inlined_sum
def _sum_of_powers(
    row: Array,
    at: int,
    words: int,
    highest: np.float32,
    scale: np.float32,
    mantissas: Array,
    exponents: Array,
    powers: Array,
) -> np.float32:
    """Sum of 2**(scale · (row[at] - highest)), to 3e-7 of it; as vectors, which exp is not."""
    for q in range(words):
        _split((row[at, q] - highest) * scale, q, mantissas, exponents)
    total = np.float32(0)
    for q in range(words):
        total += mantissas[q] * powers[q]
    return total


@inlined
def _split(x: np.float32, at: int, mantissas: Array, exponents: Array) -> None:
    """2**x of an x of at most 0 as a product: the rounded x in a float's bits, 2**rest beside it.

    The rest, at most half, by the Taylor polynomial; what is below 2**-100 counts as that.
    """
    x = max(x, np.float32(-100.0))
    whole = np.int32(x - np.float32(0.5))  # x <= 0: rounds to the nearest
    rest = x - np.float32(whole)
    value = np.float32(1.5403530e-4)
    value = value * rest + np.float32(1.3333558e-3)
    value = value * rest + np.float32(9.6181291e-3)
    value = value * rest + np.float32(5.5504109e-2)
    value = value * rest + np.float32(2.4022651e-1)
    value = value * rest + np.float32(6.9314718e-1)
    mantissas[at] = value * rest + np.float32(1.0)
    exponents[at] = (whole + np.int32(127)) << np.int32(23)
