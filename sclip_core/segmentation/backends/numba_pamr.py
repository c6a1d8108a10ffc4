"""PAMR on a CPU: its weights once an image, then the queries chunk by chunk in two buffers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.segmentation.backends.numba_jit import Floats, on_rows
from sclip_core.segmentation.backends.numba_pamr_kernels import step_rows
from sclip_core.segmentation.backends.numba_weights import bordered, places_of, weigh_rows

_kept = threading.local()  # the buffers of the last image
KEPT_BYTES = 2**27  # that stay allocated between images
LINE = 16  # numbers in a cache line
CHUNK = 32  # queries that are refined together: as fast as more, in less memory
BUFFER_BYTES = 2**29  # for weights and buffers of a block of rows, unless its halo needs more


def pamr(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """Refine logits; see ``segmentation.pamr``.

    Args:
        image: (3, H, W), normalised.
        logits: (Q, H, W).
        steps: iterations.
        dilations: distances of the neighbours in pixels.

    Returns:
        (Q, H, W) float32, a new tensor.
    """
    refined = logits.to(torch.float32, copy=True)
    _, height, width = image.shape
    queries = whole_at_once(height, width, dilations, len(logits))
    weighted = WeightedImage.of(image.to(refined).numpy(), dilations, queries)
    for planes in refined.split(queries):
        buffers = weighted.filled(planes.permute(1, 2, 0).numpy())
        result = weighted.iterate(buffers, steps)[0][:, weighted.inside]
        planes.copy_(torch.from_numpy(result).permute(2, 0, 1))
    return refined


@dataclass(frozen=True)
class WeightedImage:
    """PAMR's weights of an image, or of some of its rows, and memory to iterate in."""

    weights: Floats  # (H, W, 8·D)
    dilations: NDArray[np.int64]  # (D,)
    memory: Floats  # (2, at least H · (border + W + border) · queries)

    @classmethod
    def of(cls, image: Floats, dilations: Sequence[int], queries: int = CHUNK) -> WeightedImage:
        """Compute the weights.

        Args:
            image: (3, H, W), normalised.
            dilations: distances of the neighbours in pixels.
            queries: the most that are refined together.
        """
        _, height, width = image.shape
        # Beyond the image its border is repeated: distances larger than the image are all alike.
        distances = np.minimum(np.array(dilations, np.int64), max(height, width))
        weights = aligned(height, width, 8 * len(dilations))
        border = int(distances.max())
        given = bordered(image, border), places_of(distances.tolist())
        on_rows(height, weigh_rows, *given, weights)
        size = height * (width + 2 * border) * queries
        return cls(weights, distances, _memory(size))

    @property
    def border(self) -> int:
        """Columns that a buffer has beyond either side."""
        return int(self.dilations.max())

    @property
    def inside(self) -> slice:
        """The columns of a buffer that are the image."""
        return slice(self.border, self.border + self.weights.shape[1])

    def filled(self, values: Floats) -> tuple[Floats, Floats]:
        """Two buffers, of which the first holds values (H, W, queries), its border repeated."""
        buffers, inside = self.buffers(values.shape[2]), self.inside
        first = buffers[0]
        first[:, inside] = values
        first[:, : inside.start] = first[:, inside.start : inside.start + 1]
        first[:, inside.stop :] = first[:, inside.stop - 1 : inside.stop]
        return buffers

    def buffers(self, queries: int) -> tuple[Floats, Floats]:
        """Two buffers (H, border + W + border, queries)."""
        height, width, _ = self.weights.shape
        shape = height, width + 2 * self.border, queries
        one, other = (part[: height * shape[1] * queries].reshape(shape) for part in self.memory)
        return one, other

    def iterate(self, buffers: tuple[Floats, Floats], steps: int) -> tuple[Floats, Floats]:
        """Iterate on the first of the buffers; returns both, the one with the result first."""
        source, target = buffers
        for _ in range(steps):
            fixed = (self.weights, self.dilations, target, self.border)
            on_rows(len(source), step_rows, source, *fixed)
            source, target = target, source
        return source, target


def _memory(size: int) -> Floats:
    """Two rows of at least ``size`` numbers, reused by the next image of this thread.

    To ask the system for fresh memory costs a seventh of PAMR's time.
    """
    kept: Floats | None = getattr(_kept, "memory", None)
    if kept is None or kept.shape[1] < size:
        kept = aligned(2, -(-size // LINE) * LINE)
        _kept.memory = kept if kept.nbytes <= KEPT_BYTES else None
    return kept


def aligned(*shape: int) -> Floats:
    """An uninitialised array that begins with a cache line, so that no vector lies in two."""
    size = int(np.prod(shape))
    memory = np.empty(size + LINE, np.float32)
    first = -(memory.ctypes.data // 4) % LINE
    return memory[first : first + size].reshape(shape)


def row_blocks(
    height: int, width: int, steps: int, dilations: Sequence[int], queries: int
) -> Iterator[tuple[slice, slice]]:
    """Split an image into blocks of rows that fit in ``BUFFER_BYTES``.

    Args:
        height: of the image.
        width: of the image.
        steps: iterations.
        dilations: distances of the neighbours in pixels.
        queries: that are refined together.

    Yields:
        Rows with all that their refined values depend on, and which of those the block refines.
    """
    reach = min(max(dilations), max(height, width))
    halo = min(steps * reach, height)
    fitting = BUFFER_BYTES // _row_bytes(width, reach, dilations, queries)
    useful = height if fitting >= height else max(fitting - 2 * halo, halo // 2, 16)
    for top in range(0, height, useful):
        bottom = min(top + useful, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        yield slice(first, last), slice(top - first, bottom - first)


def whole_at_once(height: int, width: int, dilations: Sequence[int], queries: int) -> int:
    """How many queries of a whole image to refine together."""
    reach = min(max(dilations), max(height, width))
    fitting = BUFFER_BYTES // (8 * height * (width + 2 * reach))
    return max(1, min(CHUNK, fitting, queries))


def queries_at_once(height: int, width: int, dilations: Sequence[int], queries: int) -> int:
    """How many queries to refine together: half a chunk where a whole one would not fit."""
    reach = min(max(dilations), max(height, width))
    needed = height * _row_bytes(width, reach, dilations, CHUNK)
    return min(CHUNK if needed <= BUFFER_BYTES else CHUNK // 2, queries)


def _row_bytes(width: int, reach: int, dilations: Sequence[int], queries: int) -> int:
    """Bytes that a row of pixels takes: two buffers and the weights."""
    return 4 * (2 * queries * (width + 2 * reach) + 8 * len(dilations) * width)
