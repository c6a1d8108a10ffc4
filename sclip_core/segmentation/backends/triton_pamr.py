"""PAMR on a CUDA device: two Triton kernels, float32.

The same as ``pamr.portable_pamr``; docs/protocol.md, section 5. A step is bound by memory traffic,
one read and one write of queries × height × width: 4.2 GB in all for 171 queries, 480×640 pixels,
10 steps; 0.9 ms at 4.8 TB/s. The 16 reads of neighbours have to be served by the first cache, and
that is what takes the time. So

- a program takes a tile of pixels, two-dimensional to share the neighbours among them, whose
  weights stay in registers for a group of queries;
- distances are constants of the kernel and rows begin at multiples of 16 numbers, so that a thread
  reads four neighbours at once where distances are multiples of four;
- planes have room around them for copies of their border, so that no coordinate is clamped; there
  are two of each, and nothing else of their size until the result is cut out.

Triton comes with PyTorch's CUDA wheels; this file can be imported without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sclip_core.segmentation.backends.triton_pamr_kernels import (
    MISSING,
    step_kernel,
    surround_kernel,
    weigh_kernel,
)

GROUP = 16  # queries that share a tile's weights
# Four pixels a thread: the registers hold no more weights.
TILE = {"ROWS": 8, "COLUMNS": 128, "num_warps": 8}
SMALL_TILE = {"ROWS": 4, "COLUMNS": 32, "num_warps": 4}  # where all neighbours are held at once
ALIGNED = 16  # numbers: rows begin at multiples of it
BORDER = 1024  # pixels of a border that a program copies
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}  # the latter as Triton's default changes


@cache
def available(device: torch.device) -> bool:
    """Whether the kernels run on a device; warns once where they do not run on a CUDA device.

    They are tried on one pixel, as Triton also needs a C compiler and a GPU that it supports.
    """
    if device.type != "cuda":
        return False
    try:
        if MISSING is not None:
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
    result = image.new_empty(count, *_whole_tiles(height, width))
    neighbours = 1 << (count - 1).bit_length()
    with torch.cuda.device_of(image):
        weigh_kernel[_tiles(height, width, SMALL_TILE),](
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
    framed = queries, frame.rows, frame.pitch
    source, target = (logits.new_empty(framed, dtype=torch.float32) for _ in range(2))
    frame.inside(source).copy_(logits)
    pairs = [distances[first : first + 2] for first in range(0, len(distances), 2)]
    grid = (_tiles(height, width, TILE) * -(-queries // GROUP),)
    with torch.cuda.device_of(source):
        for _ in range(steps):
            frame.surround(source)
            for number, pair in enumerate(pairs):
                step_kernel[grid](
                    frame.inside(source),
                    frame.inside(target),
                    neighbours[16 * number :],
                    queries,
                    height,
                    width,
                    source.stride(0),
                    source.stride(1),
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
    del target  # before the result, which is as large, is made
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
        before = _rounded_up(reach, ALIGNED)
        rows, columns = _whole_tiles(height, width)
        pitch = before + _rounded_up(columns + reach, ALIGNED)
        return cls(height, width, reach, before, rows + 2 * reach, pitch)

    def inside(self, planes: Tensor) -> Tensor:
        """The pixels (Q, H, W) of planes (Q, rows, pitch)."""
        rows = slice(self.reach, self.reach + self.height)
        return planes[:, rows, self.before : self.before + self.width]

    def surround(self, planes: Tensor) -> None:
        """Copy the border of (Q, rows, pitch) outwards, as far as the distances reach."""
        around = 2 * self.reach * (self.width + 2 * self.reach + self.height)
        blocks = -(-around // BORDER)
        surround_kernel[len(planes) * blocks,](
            self.inside(planes),
            self.height,
            self.width,
            self.rows * self.pitch,
            self.pitch,
            self.reach,
            blocks,
            SIZE=BORDER,
        )


def _whole_tiles(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the tiles that cover an image."""
    return _rounded_up(height, TILE["ROWS"]), _rounded_up(width, TILE["COLUMNS"])


def _rounded_up(size: int, step: int) -> int:
    return -(-size // step) * step


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
