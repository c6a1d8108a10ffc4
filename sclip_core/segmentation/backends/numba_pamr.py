"""PAMR by the compiled kernels: its weights once an image, then chunk after chunk of the words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

_kept = threading.local()  # the buffers of the last image
KEPT_BYTES = 2**27  # that stay allocated between images
LINE = 16  # numbers in a cache line
CHUNK = 32  # words that are refined together: as fast as more, in less memory
BUFFER_BYTES = 2**29  # for weights and buffers of a block of rows, unless its halo needs more


@dataclass(frozen=True)
class Refinement:
    """PAMR's weights of an image, or of some of its rows, and room to iterate in."""

    weights: Floats  # (H, W, 8·D)
    dilations: NDArray[np.int64]
    room: Floats  # (2, at least H · (border + W + border) · words)

    @classmethod
    def of(cls, colours: Floats, dilations: Sequence[int], words: int = CHUNK) -> Refinement:
        """Of an image.

        Args:
            colours: (H, W, 3), normalised.
            dilations: distances of the neighbours in pixels.
            words: the most that are refined together.
        """
        from sclip_core.segmentation.backends import numba_kernels as kernels

        height, width, _ = colours.shape
        # beyond the image all is its border: a larger distance than the image is no other
        distances = np.minimum(np.array(dilations, np.int64), max(height, width))
        weights = aligned(height, width, 8 * len(dilations))
        kernels.on_rows(height, kernels.weigh_rows, colours, distances, weights)
        size = height * (width + 2 * int(distances.max())) * words
        return cls(weights, distances, _room(size))

    @property
    def border(self) -> int:
        """Columns that a buffer has beyond either side."""
        return int(self.dilations.max())

    def buffers(self, words: int) -> tuple[Floats, Floats]:
        """Two buffers (H, border + W + border, words)."""
        height, width, _ = self.weights.shape
        shape = height, width + 2 * self.border, words
        one, other = (part[: height * shape[1] * words].reshape(shape) for part in self.room)
        return one, other

    def run(self, buffers: tuple[Floats, Floats], steps: int) -> tuple[Floats, Floats]:
        """Iterate on the first of the buffers; gives them with the result in the first."""
        from sclip_core.segmentation.backends import numba_kernels as kernels

        source, target = buffers
        for _ in range(steps):
            fixed = (self.weights, self.dilations, target, self.border)
            kernels.on_rows(len(source), kernels.step_rows, source, *fixed)
            source, target = target, source
        return source, target


def _room(size: int) -> Floats:
    """Two rows of ``size`` numbers: of the last image of this thread where they are large enough.

    To ask the system for fresh memory costs a seventh of PAMR's time.
    """
    kept: Floats | None = getattr(_kept, "room", None)
    if kept is None or kept.shape[1] < size:
        kept = aligned(2, -(-size // LINE) * LINE)
        _kept.room = kept if kept.nbytes <= KEPT_BYTES else None
    return kept


def aligned(*shape: int) -> Floats:
    """Uninitialised, from the beginning of a cache line on: no vector of it lies in two lines."""
    size = int(np.prod(shape))
    room = np.empty(size + LINE, np.float32)
    first = -(room.ctypes.data // 4) % LINE
    return room[first : first + size].reshape(shape)


def refine(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> None:
    """PAMR of logits in place.

    Args:
        image: (3, H, W) float32.
        logits: (Q, H, W) float32.
        steps: iterations.
        dilations: distances of the neighbours in pixels.
    """
    _, height, width = image.shape
    reach = min(max(dilations), max(height, width))
    fitting = BUFFER_BYTES // (8 * height * (width + 2 * reach))
    words = max(1, min(CHUNK, fitting, len(logits)))
    refinement = Refinement.of(colours_of(image), dilations, words)
    inside = slice(refinement.border, refinement.border + width)
    for planes in logits.split(words):
        buffers = refinement.buffers(len(planes))
        filled = buffers[0]
        filled[:, inside] = planes.permute(1, 2, 0).numpy()
        filled[:, : inside.start] = filled[:, inside.start : inside.start + 1]
        filled[:, inside.stop :] = filled[:, inside.stop - 1 : inside.stop]
        refined = refinement.run(buffers, steps)[0][:, inside]
        planes.copy_(torch.from_numpy(refined).permute(2, 0, 1))


def row_blocks(
    height: int, width: int, steps: int, dilations: Sequence[int], words: int
) -> Iterator[tuple[slice, slice]]:
    """Rows with all that their refined values look at, and where in those they lie.

    Args:
        height: of the image.
        width: of the image.
        steps: iterations.
        dilations: distances of the neighbours in pixels.
        words: that are refined together.
    """
    reach = min(max(dilations), max(height, width))
    halo = min(steps * reach, height)
    row_bytes = 4 * (2 * words * (width + 2 * reach) + 8 * len(dilations) * width)
    fitting = BUFFER_BYTES // row_bytes
    useful = height if fitting >= height else max(fitting - 2 * halo, halo // 2, 16)
    for top in range(0, height, useful):
        bottom = min(top + useful, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        yield slice(first, last), slice(top - first, bottom - first)


def words_at_once(height: int, width: int, dilations: Sequence[int], words: int) -> int:
    """How many of the words to refine together: fewer where an image is too large for a chunk."""
    reach = min(max(dilations), max(height, width))
    row_bytes = 4 * (2 * CHUNK * (width + 2 * reach) + 8 * len(dilations) * width)
    return min(CHUNK if height * row_bytes <= BUFFER_BYTES else CHUNK // 2, words)


def colours_of(image: Tensor) -> Floats:
    """(H, W, 3) of (3, H, W), side by side in memory."""
    colours: Floats = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return colours
