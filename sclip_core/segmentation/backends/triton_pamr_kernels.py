"""The Triton kernels of ``triton_pamr``; this file can be imported without Triton."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import triton
    from triton import language as tl
    from triton.language import constexpr

    MISSING: str | None = None
except (ImportError, OSError, RuntimeError) as error:  # missing, or built for another Python
    triton, MISSING = None, str(error)


def _jit(kernel: Callable[..., None]) -> Any:
    """Compile a kernel or a part of one, once for all sizes of images."""
    sizes = ["queries", "height", "width"]
    return triton.jit(kernel, do_not_specialize=sizes) if triton else kernel


@_jit
def weigh_kernel(
    image: tl.tensor,
    weights: tl.tensor,
    dilations: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    plane: tl.tensor,
    pitch: tl.tensor,
    DILATIONS: constexpr,
    NEIGHBOURS: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
) -> None:
    """Weights (8·D, H, W) of an image (3, H, W); each program computes a tile."""
    y, x, inside = _pixels(tl.program_id(0), height, width, ROWS, COLUMNS)
    neighbour = tl.arange(0, NEIGHBOURS)
    real = (neighbour < 8 * DILATIONS)[:, None]  # their number is a power of 2 here
    distance = tl.load(dilations + neighbour // 8, mask=neighbour < 8 * DILATIONS, other=0)
    place = neighbour % 8
    place += place // 4  # in the square of 9, whose middle is left out
    dy, dx = (place // 3 - 1) * distance, (place % 3 - 1) * distance
    rows = tl.minimum(tl.maximum(y[None, :] + dy[:, None], 0), height - 1)
    columns = tl.minimum(tl.maximum(x[None, :] + dx[:, None], 0), width - 1)
    around, here = rows * width + columns, y * width + x
    affinity = tl.zeros([NEIGHBOURS, ROWS * COLUMNS], tl.float32)
    for _ in tl.static_range(3):
        centre = tl.load(image + here)
        values = tl.load(image + around, mask=real, other=0.0)
        # the centre is a sample of its own deviation once a dilation
        mean = (tl.sum(values, axis=0) + DILATIONS * centre) / (9 * DILATIONS)
        apart = tl.where(real, values - mean[None, :], 0.0)
        squares = tl.sum(apart * apart, axis=0) + DILATIONS * (centre - mean) * (centre - mean)
        scale = 1e-8 + 0.1 * tl.sqrt(squares / (9 * DILATIONS - 1))
        affinity -= tl.abs(values - centre[None, :]) / scale[None, :]
        image += height * width
    affinity = tl.where(real, affinity / 3, float("-inf"))
    powers = tl.exp(affinity - tl.max(affinity, axis=0)[None, :])
    shares = powers / tl.sum(powers, axis=0)[None, :]
    planes = neighbour.to(tl.int64) * plane
    there = y * pitch + x
    tl.store(weights + planes[:, None] + there[None, :], shares, mask=real & inside[None, :])


@_jit
def surround_kernel(
    planes: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    plane: tl.tensor,
    pitch: tl.tensor,
    reach: tl.tensor,
    blocks: tl.tensor,
    SIZE: constexpr,
) -> None:
    """Copy the border of planes to the pixels around it; each program copies a part of one's."""
    number = tl.program_id(0) % blocks * SIZE + tl.arange(0, SIZE)
    across = width + 2 * reach
    flat = 2 * reach * across  # pixels above and below, then those beside
    beside = number - flat
    above = number // across
    is_flat = number < flat
    y = tl.where(is_flat, tl.where(above < reach, above - reach, above - reach + height),
                 beside // (2 * reach))  # fmt: skip
    column = beside % (2 * reach)
    x = tl.where(is_flat, number % across - reach,
                 tl.where(column < reach, column - reach, column - reach + width))  # fmt: skip
    nearest = tl.minimum(tl.maximum(y, 0), height - 1) * pitch
    nearest += tl.minimum(tl.maximum(x, 0), width - 1)
    planes += (tl.program_id(0) // blocks).to(tl.int64) * plane
    there = number < flat + 2 * reach * height
    tl.store(planes + y * pitch + x, tl.load(planes + nearest, mask=there), mask=there)


@_jit
def step_kernel(
    source: tl.tensor,
    target: tl.tensor,
    weights: tl.tensor,
    queries: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    plane: tl.tensor,
    pitch: tl.tensor,
    weights_plane: tl.tensor,
    weights_pitch: tl.tensor,
    NEAR: constexpr,
    FAR: constexpr,
    MORE: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
    GROUP: constexpr,
) -> None:
    """One iteration on the pixels of Q planes; each program computes a tile of a group of queries.

    A tile's groups follow each other, so that the weights they share are still in the cache.
    Two dilations at a time, or one where ``FAR`` is 0, as the weights of more do not fit in the
    registers; ``MORE`` adds to what the target holds of those before.
    """
    groups = (queries + GROUP - 1) // GROUP
    first = tl.program_id(0) % groups * GROUP
    tile = tl.program_id(0) // groups
    across = (width + COLUMNS - 1) // COLUMNS
    y = tile // across * ROWS + tl.arange(0, ROWS)[:, None]
    x = tile % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    weights += y * weights_pitch + x
    n0, n1, n2, n3, n4, n5, n6, n7 = _eight(weights, weights_plane)
    if FAR > 0:
        weights += 8 * weights_plane.to(tl.int64)
        f0, f1, f2, f3, f4, f5, f6, f7 = _eight(weights, weights_plane)
    source += first.to(tl.int64) * plane + y * pitch + x
    target += first.to(tl.int64) * plane + y * pitch + x
    for query in range(GROUP):
        if first + query < queries:
            mixed = _mix(source, NEAR, NEAR * pitch, n0, n1, n2, n3, n4, n5, n6, n7)
            if FAR > 0:
                mixed += _mix(source, FAR, FAR * pitch, f0, f1, f2, f3, f4, f5, f6, f7)
            if MORE:
                mixed += tl.load(target)
            tl.store(target, mixed)
        source += plane
        target += plane


@_jit
def _eight(weights: tl.tensor, plane: tl.tensor) -> Any:
    """The weights of eight neighbours, each (ROWS, COLUMNS), from consecutive planes."""
    return (
        tl.load(weights),
        tl.load(weights + plane),
        tl.load(weights + 2 * plane),
        tl.load(weights + 3 * plane),
        tl.load(weights + 4 * plane),
        tl.load(weights + 5 * plane),
        tl.load(weights + 6 * plane),
        tl.load(weights + 7 * plane),
    )


@_jit
def _mix(
    here: tl.tensor,
    DISTANCE: constexpr,
    down: tl.tensor,
    w0: tl.tensor,
    w1: tl.tensor,
    w2: tl.tensor,
    w3: tl.tensor,
    w4: tl.tensor,
    w5: tl.tensor,
    w6: tl.tensor,
    w7: tl.tensor,
) -> Any:
    """The weighted sum (ROWS, COLUMNS) of the eight neighbours at a distance."""
    above, below = here - down, here + down
    mixed = w0 * tl.load(above - DISTANCE) + w1 * tl.load(above) + w2 * tl.load(above + DISTANCE)
    mixed += w3 * tl.load(here - DISTANCE) + w4 * tl.load(here + DISTANCE)
    mixed += w5 * tl.load(below - DISTANCE) + w6 * tl.load(below) + w7 * tl.load(below + DISTANCE)
    return mixed


@_jit
def _pixels(
    tile: tl.tensor, height: tl.tensor, width: tl.tensor, ROWS: constexpr, COLUMNS: constexpr
) -> Any:
    """Coordinates (P,) of a tile's pixels, clamped to the image, and which lie inside it.

    One-dimensional and clamped, so that Triton arranges every load and store alike: the threads of
    a warp along a row.
    """
    across = (width + COLUMNS - 1) // COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS)
    y = tile // across * ROWS + pixel // COLUMNS
    x = tile % across * COLUMNS + pixel % COLUMNS
    inside = (y < height) & (x < width)
    return tl.minimum(y, height - 1), tl.minimum(x, width - 1), inside
