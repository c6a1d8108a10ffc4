"""PAMR on a CUDA device: two Triton kernels, float32.

The same as ``pamr.portable_pamr``; docs/protocol.md, section 5. A step is bound by memory traffic,
one read and one write of queries × height × width: 4.2 GB in all for 171 queries, 480×640 pixels,
10 steps; 0.9 ms at 4.8 TB/s. The 16 reads of neighbours have to be served by the first cache, and
that is what takes the time. So

- a program takes a tile of pixels, two-dimensional to share the neighbours among them, whose
  weights stay in registers for a group of queries;
- distances are constants of the kernel and rows begin at multiples of 16 numbers, so that a thread
  reads four neighbours at once where distances are multiples of four;
- coordinates are clamped in the tiles at the image's border alone, and only two buffers of the
  logits' size exist.

Triton comes with PyTorch's CUDA wheels; this file can be imported without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
    from triton.language import constexpr
except (ImportError, OSError, RuntimeError) as error:  # missing, or built for another Python
    triton, MISSING = None, str(error)

GROUP = 16  # queries that share a tile's weights
# Four pixels a thread: the registers hold no more weights.
TILE = {"ROWS": 16, "COLUMNS": 64, "num_warps": 8}
SMALL_TILE = {"ROWS": 4, "COLUMNS": 32, "num_warps": 4}  # where all neighbours are held at once
ALIGNED = 16  # numbers: rows begin at multiples of it
BORDER = 1024  # pixels of a border that a program copies
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
    return _weights(image, dilations)[:, : image.shape[1], : image.shape[2]]


def _weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """As ``weights``, up to whole tiles: what is beyond the image is not set."""
    image = image.float().contiguous()
    _, height, width = image.shape
    count = 8 * len(dilations)
    rows, columns = (-(-side // TILE[name]) * TILE[name]
                     for side, name in ((height, "ROWS"), (width, "COLUMNS")))  # fmt: skip
    result = image.new_empty(count, rows, columns)
    neighbours = 1 << (count - 1).bit_length()
    with torch.cuda.device_of(image):
        _weigh[_tiles(height, width, SMALL_TILE),](
            image,
            result,
            _on_device(image, dilations),
            height,
            width,
            result.stride(0),
            result.stride(1),
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
    neighbours = _weights(image, dilations)
    queries, height, width = logits.shape
    distances = _bounded(image, dilations)
    frame = Frame.of(height, width, max(distances))
    planes, rows, pitch = queries, frame.rows, frame.pitch
    buffers = [logits.new_empty(planes, rows, pitch, dtype=torch.float32) for _ in range(2)]
    source, target = buffers
    frame.inside(source).copy_(logits)
    pairs = [distances[first : first + 2] for first in range(0, len(distances), 2)]
    grid = (_tiles(height, width, TILE) * -(-queries // GROUP),)
    with torch.cuda.device_of(source):
        for _ in range(steps):
            frame.surround(source)
            for number, pair in enumerate(pairs):
                _step[grid](
                    frame.inside(source),
                    frame.inside(target),
                    neighbours[16 * number :],
                    queries,
                    height,
                    width,
                    rows * pitch,
                    pitch,
                    neighbours.stride(0),
                    neighbours.stride(1),
                    NEAR=pair[0],
                    FAR=pair[1] if len(pair) > 1 else 0,
                    MORE=number > 0,
                    GROUP=GROUP,
                    **TILE,
                    **OPTIONS,
                )
            source, target = target, source
    return frame.inside(source).contiguous()


class Frame(NamedTuple):
    """How planes lie in memory: with room around them for copies of their border.

    Tiles and the neighbours of all their pixels lie within, so that nothing is clamped, and rows of
    pixels begin at multiples of ``ALIGNED``.
    """

    height: int
    width: int
    reach: int  # the largest distance: rows above and below
    before: int  # columns on the left
    rows: int  # in all
    pitch: int  # columns in all

    @classmethod
    def of(cls, height: int, width: int, reach: int) -> Frame:
        """The frame of images of a size, for distances up to ``reach``."""
        before = _aligned(reach)
        rows = -(-height // TILE["ROWS"]) * TILE["ROWS"] + 2 * reach
        pitch = before + _aligned(-(-width // TILE["COLUMNS"]) * TILE["COLUMNS"] + reach)
        return cls(height, width, reach, before, rows, pitch)

    def inside(self, planes: Tensor) -> Tensor:
        """The pixels (Q, H, W) of planes (Q, rows, pitch)."""
        rows = slice(self.reach, self.reach + self.height)
        return planes[:, rows, self.before : self.before + self.width]

    def surround(self, planes: Tensor) -> None:
        """Copy the border of (Q, rows, pitch) outwards, as far as the distances reach."""
        around = 2 * self.reach * (self.width + 2 * self.reach + self.height)
        blocks = -(-around // BORDER)
        _surround[len(planes) * blocks,](
            self.inside(planes),
            self.height,
            self.width,
            self.rows * self.pitch,
            self.pitch,
            self.reach,
            blocks,
            SIZE=BORDER,
        )


def _aligned(width: int) -> int:
    """The length of a row in memory."""
    return -(-width // ALIGNED) * ALIGNED


def _bounded(image: Tensor, dilations: Sequence[int]) -> tuple[int, ...]:
    """The distances, none larger than the image: beyond it the border is repeated."""
    return tuple(min(d, max(image.shape)) for d in dilations)


def _on_device(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """The distances (D,) int32 on the image's device."""
    return _copied(_bounded(image, dilations), image.device)


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
def _surround(
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
def _step(
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
