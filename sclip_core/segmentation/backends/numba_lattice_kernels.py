"""PAMR on a lattice of pixels: all steps of a part of an image while it stays in a core's cache.

See ``numba_lattice.py`` for the parts. Within one, the neighbours at both distances lie one and two
pixels away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.segmentation.backends.numba_decision_kernels import RunningArgmax, decide_row
from sclip_core.segmentation.backends.numba_jit import (
    Array,
    Floats,
    compiled,
    inlined,
)
from sclip_core.segmentation.backends.numba_stencil import (
    AT_ONCE,
    BLOCK,
    stencil_eight,
    stencil_one,
    stencil_pair,
)
from sclip_core.segmentation.backends.numba_stitch import Taps, mix_columns, mix_rows
from sclip_core.segmentation.backends.numba_vectors import LANES, LINE, prefetch
from sclip_core.segmentation.backends.numba_weights import PIXELS, strip_memory, weigh_strip

HALO = 2  # pixels of a part's buffer on every side
BAND = 16  # rows that a step goes through before the next step
STRIP = 40  # columns of these rows that a core's first cache holds


class Lattice(NamedTuple):
    """An image in ``spacing``² parts, each the pixels of equal remainders of row and column."""

    spacing: int
    height: int
    width: int
    weights: Floats  # (spacing, spacing, rows, columns, 16), by part


class Edges(NamedTuple):
    """The outermost rows and columns of the image after every step but the last."""

    top: Floats  # (steps, W, C)
    bottom: Floats  # (steps, W, C)
    left: Floats  # (steps, H, C)
    right: Floats  # (steps, H, C)


class Task(NamedTuple):
    """What happens to a chunk of C words."""

    steps: int
    given: Floats  # (H, W, C) the logits; (0, 0, 0): stitched from ``cosines``
    cosines: Floats  # (h, w, C)
    rows: Taps  # of the H pixel rows
    columns: Taps  # of the W pixel columns
    stops: NDArray[np.int64]  # (K,) steps whose result is kept, ascending
    kept: Floats  # (K, H, W, C); (0, 0, 0, 0): the last result is decided at once
    skipped: int  # rows above those that are decided
    classes: NDArray[np.int64]  # (C,) of the queries, ascending
    excluded: Floats  # (C,) 0 for a query that may win, -inf for padding or one that may not
    running: RunningArgmax  # the decision among the chunks before; brought up to date


@compiled
def weigh_lattice_rows(
    image: Array, places: Array, lattice: Lattice, first: int, last: int
) -> None:
    """Fill the weights of a lattice; see ``weigh_rows``."""
    found, memory = np.empty((16, PIXELS), np.float32), strip_memory()
    g = lattice.spacing
    for y in range(first, last):
        for x in range(0, lattice.width, PIXELS):
            pixels = min(PIXELS, lattice.width - x)
            weigh_strip(image, places, y, x, pixels, found, memory)
            for begin in range(min(g, pixels)):
                of_part = lattice.weights[y % g, (x + begin) % g, y // g]
                at = (x + begin) // g
                for k in range(begin, pixels, g):
                    for n in range(16):
                        of_part[at, n] = found[n, k]
                    at += 1


@compiled
def to_pixels(planes: Array, values: Array, first: int, last: int) -> None:
    """Copy rows of planes (Q, H, W) to pixels (H, W, at least Q), the rest of which becomes 0."""
    for y in range(first, last):
        for x in range(planes.shape[2]):
            for q in range(planes.shape[0]):
                values[y, x, q] = planes[q, y, x]
            for q in range(planes.shape[0], values.shape[2]):
                values[y, x, q] = 0.0


@compiled
def to_planes(values: Array, planes: Array, first: int, last: int) -> None:
    """Copy rows of pixels (H, W, at least Q) to planes (Q, H, W)."""
    for y in range(first, last):
        for q in range(planes.shape[0]):
            for x in range(planes.shape[2]):
                planes[q, y, x] = values[y, x, q]


@compiled
def refine_parts(
    parts: Array, groups: Array, lattice: Lattice, edges: Edges, task: Task, memory: Array
) -> None:
    """All steps of some parts of an image.

    Args:
        parts: (N, 2) remainders of row and column.
        groups: (n + 1,) first parts of groups whose edges depend on one another, and N. Parts of a
            group are equally large.
        lattice: the image.
        edges: those of the groups are filled, the others have been.
        task: what happens.
        memory: (at least ``numbers_needed``,).
    """
    g, c = lattice.spacing, edges.top.shape[2]
    line = np.empty((task.cosines.shape[1], c), np.float32)
    for n in range(len(groups) - 1):
        members = parts[groups[n] : groups[n + 1]]
        height = (lattice.height - members[0, 0] + g - 1) // g
        width = (lattice.width - members[0, 1] + g - 1) // g
        padded = (width + BLOCK - 1) // BLOCK * BLOCK
        shape = (len(members), 2, height + 2 * HALO, padded + 2 * HALO, c)
        buffers = memory[: shape[0] * shape[1] * shape[2] * shape[3] * c].reshape(shape)
        # A step is two rows behind the one before, whose rows it needs and whose source it
        # overwrites.
        for begin in range(0, height + HALO * task.steps, BAND):
            for step in range(task.steps + 1):
                first = max(begin - HALO * step, 0)
                last = min(begin - HALO * step + BAND, height)
                if first >= last:
                    continue
                for m in range(len(members)):
                    part, to = members[m], buffers[m, step % 2]
                    if step == 0:
                        _fill(lattice, task, part, first, last, width, to, line)
                    else:
                        weights = lattice.weights[part[0], part[1]]
                        _step(buffers[m, 1 - step % 2], weights, first, last, padded, to)
                    if step < task.steps:
                        _record(lattice, edges, part, step, first, last, width, to)
                    _keep(lattice, task, part, step, first, last, width, to)
                    if step == task.steps and task.kept.shape[0] == 0:
                        _decide(lattice, task, part, first, last, width, to)
                if step < task.steps:
                    for m in range(len(members)):
                        to = buffers[m, step % 2]
                        _surround(lattice, edges, members[m], step, first, last, width, to)


@inlined
def _fill(
    lattice: Lattice,
    task: Task,
    part: Array,
    first: int,
    last: int,
    width: int,
    to: Array,
    line: Array,
) -> None:
    """Logits before the first step."""
    g, given = lattice.spacing, task.given
    columns, weights = task.columns.columns, task.columns.weights
    for y in range(first, last):
        row, here = to[y + HALO], part[0] + g * y
        if given.shape[0] > 0:
            below = min(here + g, given.shape[0] - 1)
            for x in range(width):
                column = part[1] + g * x
                # a part's pixels are too far apart for a CPU to foresee the next one
                place = (below * given.shape[1] + column) * given.shape[2]
                for q in range(0, row.shape[1], LINE):
                    prefetch(given, place + q)
                for q in range(row.shape[1]):
                    row[x + HALO, q] = given[here, column, q]
        else:
            mix_rows(task.cosines, task.rows, here, line)
            for x in range(width):
                mix_columns(line, columns, weights, part[1] + g * x, row, x + HALO)


@inlined
def _step(source: Array, weights: Array, first: int, last: int, padded: int, target: Array) -> None:
    """One step of some rows; columns beyond the part's get numbers that nothing reads."""
    c = source.shape[2]
    pitch, whole, single = source.shape[1] * c, c // AT_ONCE * AT_ONCE, c // LANES * LANES
    for begin in range(0, padded, STRIP):
        end = min(begin + STRIP, padded)
        for y in range(first, last):
            row, weighed = (y + HALO) * pitch + HALO * c, y * weights.shape[1] * 16
            for q in range(0, whole, AT_ONCE):
                for x in range(begin, end, BLOCK):
                    at, w = row + x * c + q, weighed + x * 16
                    stencil_pair(source, at, pitch, c, weights, w, target, at)
            for q in range(whole, single, LANES):
                for x in range(begin, end, BLOCK):
                    at, w = row + x * c + q, weighed + x * 16
                    stencil_one(source, at, pitch, c, weights, w, target, at)
            for q in range(single, c, 8):
                for x in range(begin, end, BLOCK):
                    at, w = row + x * c + q, weighed + x * 16
                    stencil_eight(source, at, pitch, c, weights, w, target, at)


@inlined
def _record(
    lattice: Lattice,
    edges: Edges,
    part: Array,
    step: int,
    first: int,
    last: int,
    width: int,
    values: Array,
) -> None:
    """Copy what is an edge of the image."""
    g = lattice.spacing
    for y in range(first, last):
        row, column = part[0] + g * y, part[1] + g * (width - 1)
        if part[1] == 0:
            copy(values[y + HALO], HALO, edges.left[step], row)
        if column == lattice.width - 1:
            copy(values[y + HALO], HALO + width - 1, edges.right[step], row)
        if row == 0:
            for x in range(width):
                copy(values[HALO], HALO + x, edges.top[step], part[1] + g * x)
        if row == lattice.height - 1:
            for x in range(width):
                copy(values[y + HALO], HALO + x, edges.bottom[step], part[1] + g * x)


@inlined
def _surround(
    lattice: Lattice,
    edges: Edges,
    part: Array,
    step: int,
    first: int,
    last: int,
    width: int,
    values: Array,
) -> None:
    """Repeat the image's edges around some rows of a part."""
    g, height = lattice.spacing, values.shape[0] - 2 * HALO
    for y in range(first, last):
        row, here = part[0] + g * y, values[y + HALO]
        for k in range(HALO):
            copy(edges.left[step], row, here, k)
            copy(edges.right[step], row, here, HALO + width + k)
    if first > 0 and last < height:
        return
    for x in range(-HALO, width + HALO):
        column = min(max(part[1] + g * x, 0), lattice.width - 1)
        for k in range(HALO):
            if first == 0:
                copy(edges.top[step], column, values[k], x + HALO)
            if last == height:
                copy(edges.bottom[step], column, values[HALO + height + k], x + HALO)


@inlined
def copy(row: Array, at: int, target: Array, to: int) -> None:
    """Copy a pixel's words."""
    for q in range(row.shape[1]):
        target[to, q] = row[at, q]


@inlined
def _keep(
    lattice: Lattice,
    task: Task,
    part: Array,
    step: int,
    first: int,
    last: int,
    width: int,
    values: Array,
) -> None:
    """Copy the result of a step that is asked for."""
    g, kept = lattice.spacing, task.kept
    for k in range(kept.shape[0]):
        if task.stops[k] == step:
            for y in range(first, last):
                for x in range(width):
                    for q in range(values.shape[2]):
                        number = values[y + HALO, x + HALO, q]
                        kept[k, part[0] + g * y, part[1] + g * x, q] = number


@inlined
def _decide(
    lattice: Lattice,
    task: Task,
    part: Array,
    first: int,
    last: int,
    width: int,
    values: Array,
) -> None:
    """Decide pixels of the last step."""
    g, x = lattice.spacing, part[1]
    for k in range(first, last):
        y = part[0] + g * k - task.skipped
        if 0 <= y < task.running.labels.shape[0]:
            row = values[k + HALO]
            decide_row(row, HALO, task.classes, task.excluded, task.running, y, x, g, width)
