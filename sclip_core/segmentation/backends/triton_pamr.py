"""PAMR on a CUDA device: two Triton kernels, float32.

The same as ``pamr.portable_pamr``; docs/protocol.md, section 5. A step is bound by memory traffic,
one read and one write of queries × height × width: 4.2 GB in all for 171 queries, 480×640 pixels,
10 steps; 0.9 ms at 4.8 TB/s. Every other read of a neighbour has to be served by the caches, so a
program takes a tile of pixels, two-dimensional to share the neighbours among them, and its weights
stay in registers for a group of queries. Coordinates are clamped instead of planes padded, and only
two buffers of the logits' size exist.

Triton comes with PyTorch's CUDA wheels; this file can be imported without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
    from triton.language import constexpr
except (ImportError, OSError, RuntimeError) as error:  # missing, or built for another Python
    triton, MISSING = None, str(error)

GROUP = 16  # queries that share a tile's weights
# Two pixels a thread: the registers hold no more weights.
TILE = {"ROWS": 16, "COLUMNS": 64, "num_warps": 16}
SMALL_TILE = {"ROWS": 4, "COLUMNS": 32, "num_warps": 4}  # where all neighbours are held at once
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}  # the latter as Triton's default changes


def _jit(kernel: Callable[..., None]) -> Any:
    """Compile a kernel or a part of one, once for all sizes of images."""
    sizes = ["queries", "height", "width"]
    return triton.jit(kernel, do_not_specialize=sizes) if triton else kernel


@cache
def available(device: torch.device) -> bool:
    """Whether the kernels run on a device; warns once where they do not run on a CUDA device.

    They are tried on one pixel, as Triton also needs a C compiler and a GPU that it supports.
    """
    if device.type != "cuda":
        return False
    try:
        if triton is None:
            raise ImportError(MISSING)
        pixel = torch.zeros(3, 1, 1, device=device)
        pamr(pixel, pixel, 1, (1,)).cpu()
    except Exception as error:  # a compiler's, a driver's: Triton has no class for them
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"Triton cannot be used ({reason}); without it PAMR is slower", stacklevel=2)
        return False
    return True


@torch.no_grad()
def weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """The weights of a pixel's neighbours, as ``segmentation.pamr.pamr_weights`` computes them.

    Args:
        image: (3, H, W), normalised.
        dilations: distances of the neighbours in pixels.

    Returns:
        (8·len(dilations), H, W) float32, dilation by dilation; those of a pixel sum to 1.
    """
    image = image.float().contiguous()
    _, height, width = image.shape
    count = 8 * len(dilations)
    result = image.new_empty(count, height, width)
    neighbours = 1 << (count - 1).bit_length()
    with torch.cuda.device_of(image):
        _weigh[_tiles(height, width, SMALL_TILE),](
            image,
            result,
            _on_device(image, dilations),
            height,
            width,
            DILATIONS=len(dilations),
            NEIGHBOURS=neighbours,
            **SMALL_TILE,
            **OPTIONS,
        )
    return result


@torch.no_grad()
def pamr(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """Refine logits, one launch a step; see ``segmentation.pamr``.

    Args:
        image: (3, H, W), normalised.
        logits: (Q, H, W), on the same device.
        steps: iterations; 0 returns a copy of the logits.
        dilations: distances of the neighbours in pixels; 8 neighbours each.

    Returns:
        (Q, H, W) float32, a new tensor.
    """
    if steps == 0:
        return logits.to(torch.float32, copy=True)
    neighbours = weights(image, dilations)
    source = logits.float().contiguous()
    buffers = [torch.empty_like(source) for _ in range(min(steps, 2))]
    queries, height, width = source.shape
    distances, count = _on_device(image, dilations), len(dilations)
    grid = (_tiles(height, width, TILE) * -(-queries // GROUP),)
    with torch.cuda.device_of(source):
        for step in range(steps):
            target = buffers[step % 2]
            arguments = source, target, neighbours, distances, queries, height, width
            _step[grid](*arguments, DILATIONS=count, GROUP=GROUP, **TILE, **OPTIONS)
            source = target
    return source


def _on_device(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """The distances (D,) int32 on the image's device."""
    # Beyond the image its border is repeated: distances larger than the image are all alike.
    return _copied(tuple(min(d, max(image.shape)) for d in dilations), image.device)


@lru_cache(maxsize=64)
def _copied(distances: tuple[int, ...], device: torch.device) -> Tensor:
    """The distances on a device; cached, as a copy waits for all work that is queued there."""
    return torch.tensor(distances, dtype=torch.int32, device=device)


def _tiles(height: int, width: int, tile: dict[str, int]) -> int:
    return -(-height // tile["ROWS"]) * -(-width // tile["COLUMNS"])


@_jit
def _weigh(
    image: tl.tensor,
    weights: tl.tensor,
    dilations: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
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
    around, here, plane = rows * width + columns, y * width + x, height * width
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
        image += plane
    affinity = tl.where(real, affinity / 3, float("-inf"))
    powers = tl.exp(affinity - tl.max(affinity, axis=0)[None, :])
    shares = powers / tl.sum(powers, axis=0)[None, :]
    planes = neighbour.to(tl.int64) * plane
    tl.store(weights + planes[:, None] + here[None, :], shares, mask=real & inside[None, :])


@_jit
def _step(
    source: tl.tensor,
    target: tl.tensor,
    weights: tl.tensor,
    dilations: tl.tensor,
    queries: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    DILATIONS: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
    GROUP: constexpr,
) -> None:
    """One iteration on (Q, H, W); each program computes a tile of a group of queries.

    A tile's groups follow each other, so that the weights they share are still in the cache.
    Two dilations at a time, as the weights of more do not fit in the registers.
    """
    groups = (queries + GROUP - 1) // GROUP
    first = tl.program_id(0) % groups * GROUP
    y, x, inside = _pixels(tl.program_id(0) // groups, height, width, ROWS, COLUMNS)
    here, plane = y * width + x, (height * width).to(tl.int64)
    for k in tl.static_range(0, DILATIONS, 2):
        near = tl.load(dilations + k)
        n0, n1, n2, n3, n4, n5, n6, n7 = _eight(weights + 8 * k * plane + here, plane)
        if k + 1 < DILATIONS:
            far = tl.load(dilations + k + 1)
            f0, f1, f2, f3, f4, f5, f6, f7 = _eight(weights + 8 * (k + 1) * plane + here, plane)
        if k > 0:
            tl.debug_barrier()  # what was stored is read below
        for query in range(GROUP):
            if first + query < queries:
                start = (first + query).to(tl.int64) * plane
                read, write = source + start, target + start + here
                mixed = _mix(read, y, x, near, height, width, n0, n1, n2, n3, n4, n5, n6, n7)
                if k + 1 < DILATIONS:
                    mixed += _mix(read, y, x, far, height, width, f0, f1, f2, f3, f4, f5, f6, f7)
                if k > 0:
                    mixed += tl.load(write)
                tl.store(write, mixed, mask=inside)


@_jit
def _eight(weights: tl.tensor, plane: tl.tensor) -> Any:
    """The weights of eight neighbours, each (P,), from consecutive planes."""
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
    plane: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    distance: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    w0: tl.tensor,
    w1: tl.tensor,
    w2: tl.tensor,
    w3: tl.tensor,
    w4: tl.tensor,
    w5: tl.tensor,
    w6: tl.tensor,
    w7: tl.tensor,
) -> Any:
    """The weighted sum (P,) of the eight neighbours at a distance."""
    above, below = tl.maximum(y - distance, 0) * width, tl.minimum(y + distance, height - 1) * width
    left, right = tl.maximum(x - distance, 0), tl.minimum(x + distance, width - 1)
    level = y * width
    mixed = w0 * tl.load(plane + (above + left)) + w1 * tl.load(plane + (above + x))
    mixed += w2 * tl.load(plane + (above + right)) + w3 * tl.load(plane + (level + left))
    mixed += w4 * tl.load(plane + (level + right)) + w5 * tl.load(plane + (below + left))
    return mixed + (w6 * tl.load(plane + (below + x)) + w7 * tl.load(plane + (below + right)))


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
