"""Logits after PAMR, made in pieces between which a computation can be stopped, and kept.

Threshold, scale and classes are decided again from what is kept, and more steps go on from fewer:
PAMR is linear and takes each query by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.explore.desk import Task
from sclip_core.segmentation import Refiner, backends
from sclip_core.segmentation.pamr import pamr
from sclip_core.segmentation.refiners import is_whole

CHUNK = 32  # queries that are refined together
AT_ONCE = 2**21  # pixels, times steps, of a chunk between two looks at the task
WHAT = "PAMR"


class Logits(Protocol):
    """Refined logits of all queries at all pixels."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""

    def further(self, refiner: Refiner, steps: int, task: Task) -> Logits:
        """New ones (Q, H, W) after more steps."""

    def best_of(self, queries: Sequence[int]) -> NDArray[np.float32]:
        """The highest of some queries' logits (H, W)."""

    def at(self, row: int, column: int) -> NDArray[np.float32]:
        """Logits (Q,) of a pixel."""

    def tensor(self) -> Tensor:
        """All of them (Q, H, W)."""


def bytes_of(refiner: Refiner) -> int:
    """Bytes of the logits of an image."""
    height, width = refiner.geometry.original
    return 4 * (len(refiner.embeddings) + 7) * height * width


@contextmanager
def watching(refiner: Refiner, steps: int, task: Task) -> Iterator[None]:
    """Stop where a task is cancelled, between two passes of Numba's kernels over an image.

    Args:
        refiner: of the image.
        steps: of PAMR.
        task: is told how far PAMR is, about: queries that win nowhere take no time.
    """
    if not steps or not backends.decides_by_numba(refiner.features.device):
        yield
        return
    from sclip_core.segmentation.backends.numba_decision import passes
    from sclip_core.segmentation.backends.numba_jit import watched

    (height, width), dilations = refiner.geometry.original, refiner.protocol.pamr_dilations
    total = passes(height, width, steps, dilations, len(refiner.embeddings))
    done = count()

    def between() -> None:
        task.progress(min(next(done), total - 1), total, WHAT)

    with watched(between):
        yield


def gathered(sources: Sequence[tuple[Logits, int]]) -> Logits:
    """Logits of several queries, put together.

    Args:
        sources: for each query, which logits have it, and its place in them; all of one image.
    """
    kinds = {id(logits): logits for logits, _ in sources}
    first = sources[0][0]
    if not isinstance(first, Arrays):
        return _Tensors(torch.stack([logits.tensor()[place] for logits, place in sources]))
    found = Arrays.empty((first.values.shape[0], first.values.shape[1]), len(sources))
    for logits in kinds.values():
        assert isinstance(logits, Arrays)
        targets = [k for k, (each, _) in enumerate(sources) if each is logits]
        places = [sources[k][1] for k in targets]
        found.values[..., targets] = logits.values[..., places]
    return found


def refined(refiner: Refiner, steps: int, task: Task) -> Logits:
    """Logits after so many steps of PAMR.

    Args:
        refiner: of the image; its own number of steps does not count.
        steps: at least one.
        task: is told how far it is; asked between two pieces.
    """
    plain = replace(refiner, protocol=refiner.protocol.replace(pamr_steps=0))
    if not backends.decides_by_numba(refiner.features.device):
        return _Tensors(plain.logits()).further(refiner, steps, task)
    if is_whole(refiner.refining):
        return Arrays.of(plain.logits()).further(refiner, steps, task)
    if _takes_parts(refiner):
        return _by_parts(refiner, None, steps, task)
    return Arrays.stitched(plain).further(refiner, steps, task)


@dataclass(frozen=True)
class _Tensors:
    """On any device, by PyTorch."""

    values: Tensor  # (Q, H, W)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.values.nbytes

    def further(self, refiner: Refiner, steps: int, task: Task) -> _Tensors:
        """New ones (Q, H, W) after more steps, in pieces of queries and of steps."""
        image, found = refiner.image_at_original_size(), torch.empty_like(self.values)
        dilations, pixels = refiner.protocol.pamr_dilations, image.shape[1] * image.shape[2]
        together = max(1, AT_ONCE // pixels)
        pieces = range(0, steps, together)
        chunks = range(0, len(found), CHUNK)
        for number, first in enumerate(chunks):
            chunk = self.values[first : first + CHUNK]
            for done in pieces:
                task.progress(number * steps + done, len(chunks) * steps, WHAT)
                chunk = pamr(image, chunk, min(together, steps - done), dilations)
            found[first : first + CHUNK] = chunk
        return _Tensors(found)

    def best_of(self, queries: Sequence[int]) -> NDArray[np.float32]:
        """The highest of some queries' logits (H, W)."""
        best: NDArray[np.float32] = self.values[list(queries)].amax(dim=0).cpu().numpy()
        return best

    def at(self, row: int, column: int) -> NDArray[np.float32]:
        """Logits (Q,) of a pixel."""
        found: NDArray[np.float32] = self.values[:, row, column].cpu().numpy()
        return found

    def tensor(self) -> Tensor:
        """All of them (Q, H, W)."""
        return self.values


@dataclass(frozen=True)
class Arrays:
    """On a CPU with Numba: a pixel's queries lie side by side, as its kernels want them."""

    values: NDArray[np.float32]  # (H, W, at least Q), the rest 0
    queries: int

    @classmethod
    def empty(cls, size: tuple[int, int], queries: int) -> Arrays:
        """Room for the logits of an image, not yet filled."""
        from sclip_core.segmentation.backends.numba_decision_kernels import LANES

        padded = -(-queries // LANES) * LANES
        values = np.empty((*size, padded), np.float32)
        values[..., queries:] = 0
        return cls(values, queries)

    @classmethod
    def of(cls, logits: Tensor) -> Arrays:
        """Of logits (Q, H, W)."""
        found = cls.empty((logits.shape[1], logits.shape[2]), len(logits))
        found.values[..., : len(logits)] = logits.permute(1, 2, 0).numpy()
        return found

    @classmethod
    def stitched(cls, refiner: Refiner) -> Arrays:
        """The logits of an image before PAMR."""
        from sclip_core.segmentation.backends.numba_jit import on_rows
        from sclip_core.segmentation.backends.numba_stitch import stitch_rows

        found = cls.empty(refiner.geometry.original, len(refiner.embeddings))
        stitching = refiner.stitching()
        for first in range(0, found.queries, CHUNK):
            chunk = slice(first, min(first + CHUNK, found.queries))
            part = np.empty((*refiner.geometry.original, chunk.stop - first), np.float32)
            arguments = stitching.part(slice(0, None), chunk)
            on_rows(len(part), stitch_rows, *arguments, part, 0)
            found.values[..., chunk] = part
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.values.nbytes

    def further(self, refiner: Refiner, steps: int, task: Task) -> Arrays:
        """After more steps; new ones."""
        if _takes_parts(refiner):
            return _by_parts(refiner, self, steps, task)
        from sclip_core.segmentation.backends.numba_pamr import (
            WeightedImage,
            whole_at_once,
        )

        dilations = refiner.protocol.pamr_dilations
        height, width, _ = self.values.shape
        at_once = whole_at_once(height, width, dilations, self.queries)
        task.progress(0, 1, WHAT)
        image = refiner.image_at_original_size()
        weighted = WeightedImage.of(image.numpy(), dilations, at_once)
        found = Arrays.empty((height, width), self.queries)
        chunks = range(0, self.queries, at_once)
        for number, first in enumerate(chunks):
            chunk = slice(first, min(first + at_once, self.queries))
            buffers = weighted.filled(self.values[..., chunk])
            for done in range(steps):
                task.progress(number * steps + done, len(chunks) * steps, WHAT)
                buffers = weighted.iterate(buffers, 1)
            found.values[..., chunk] = buffers[0][:, weighted.inside]
        return found

    def best_of(self, queries: Sequence[int]) -> NDArray[np.float32]:
        """The highest of some queries' logits (H, W)."""
        best: NDArray[np.float32] = self.values[..., list(queries)].max(axis=-1)
        return best

    def at(self, row: int, column: int) -> NDArray[np.float32]:
        """Logits (Q,) of a pixel."""
        return self.values[row, column, : self.queries]

    def tensor(self) -> Tensor:
        """All of them (Q, H, W), a view."""
        return torch.from_numpy(self.values[..., : self.queries]).permute(2, 0, 1)


def _takes_parts(refiner: Refiner) -> bool:
    """Whether PAMR takes an image's lattice part by part."""
    from sclip_core.segmentation.backends.numba_lattice import suits

    return suits(refiner.protocol.pamr_dilations, *refiner.geometry.original)


def _by_parts(refiner: Refiner, before: Arrays | None, steps: int, task: Task) -> Arrays:
    """New logits after more steps, part by part.

    Args:
        refiner: of the image.
        before: the logits; None: those of the features, stitched.
        steps: that are made.
        task: asked between two passes over parts of the image.
    """
    from sclip_core.segmentation.backends.numba_decision import ALL, Candidates
    from sclip_core.segmentation.backends.numba_jit import watched
    from sclip_core.segmentation.backends.numba_lattice import (
        PHASES,
        WeightedLattice,
        task_of,
        words_at_once,
    )
    from sclip_core.segmentation.backends.numba_pamr import aligned

    dilations, queries = refiner.protocol.pamr_dilations, len(refiner.embeddings)
    height, width = refiner.geometry.original
    found = Arrays.empty((height, width), queries)
    padded = found.values.shape[2]
    at_once = words_at_once(height, width, dilations, padded)
    chunks = [slice(first, min(first + at_once, padded)) for first in range(0, padded, at_once)]
    passes = count()
    with watched(lambda: task.progress(next(passes), 1 + PHASES * len(chunks), WHAT)):
        image = refiner.image_at_original_size()
        weighted = WeightedLattice.of(image.numpy(), dilations)
        words = np.zeros(queries, np.int64)  # whatever classes they are of
        candidates = None if before else Candidates.of(refiner.stitching(), words)
        memory = aligned(height * width * at_once)
        for chunk in chunks:
            shape = height, width, chunk.stop - chunk.start
            values = memory[: math.prod(shape)].reshape(shape)
            if candidates:
                stitched, kept = candidates.stitching.part(ALL, chunk), ((steps,), values[None])
                of_chunk = task_of(steps, candidates.part(chunk), stitched=stitched, kept=kept)
                weighted.refine([of_chunk])
            elif before:
                values[:] = before.values[..., chunk]
                weighted.refine_given(values, steps)
            found.values[..., chunk] = values
    return found
