"""PAMR at distances d and 2d on a CPU: an image as d² parts, of which most take all steps alone.

A pixel's neighbours at distances d and 2d have the remainders of row and column by d that it has.
The pixels of equal remainders are a small image with neighbours at 1 and 2, which stays in a core's
cache through all steps. Only beyond the border, where the outermost rows and columns are repeated,
parts depend on others: on those with outermost pixels. These come first and leave their edges after
every step behind.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.segmentation.backends import numba_pamr
from sclip_core.segmentation.backends.numba_decision_kernels import LANES, RunningArgmax
from sclip_core.segmentation.backends.numba_jit import Floats, all_of, on_rows
from sclip_core.segmentation.backends.numba_lattice_kernels import (
    HALO,
    Edges,
    Lattice,
    Task,
    refine_parts,
    to_pixels,
    to_planes,
    weigh_lattice_rows,
)
from sclip_core.segmentation.backends.numba_pamr import CHUNK, aligned, row_blocks
from sclip_core.segmentation.backends.numba_stencil import BLOCK
from sclip_core.segmentation.backends.numba_stitch import Taps
from sclip_core.segmentation.backends.numba_weights import bordered, places_of

LEAST = 4  # distance; parts of smaller ones are too few and too large
BATCHES = 4  # of parts, a thread and chunk: few calls, evenly spread
PHASES = 3  # of a chunk, each of which needs the edges of the one before
PART_BYTES = 2**25  # of a part's two buffers, of which outer parts have four at once
KEPT_BYTES = 2**25  # that a thread keeps for its next parts

Group = tuple[tuple[int, int], ...]  # remainders of row and column of each part

NO_LOGITS = np.zeros((0, 0, 0), np.float32)
NO_TAPS = Taps(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.float32))
NOT_STITCHED = NO_LOGITS, NO_TAPS, NO_TAPS
NOTHING_KEPT: tuple[Sequence[int], Floats] = (), np.zeros((0, 0, 0, 0), np.float32)
NOT_DECIDED = 0, RunningArgmax.empty((0, 0), 1, None)

_kept = threading.local()


def suits(dilations: Sequence[int], height: int, width: int) -> bool:
    """Whether distances are d and 2d, with a d that gives parts of a good size."""
    near = dilations[0]
    twice = len(dilations) == 2 and dilations[1] == 2 * near
    return twice and LEAST <= near <= min(height, width) // 2


def pamr(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """Refine logits; see ``segmentation.pamr``."""
    if not suits(dilations, *image.shape[1:]):
        return numba_pamr.pamr(image, logits, steps, dilations)
    refined = logits.to(torch.float32, copy=True)
    weighted = WeightedLattice.of(image.to(refined).numpy(), dilations)
    _, height, width = image.shape
    at_once = -(-words_at_once(height, width, dilations, len(refined)) // LANES) * LANES
    memory = aligned(height * width * at_once)
    for part in refined.split(at_once):
        planes, words = part.numpy(), -(-len(part) // LANES) * LANES
        values = memory[: height * width * words].reshape(height, width, words)
        on_rows(height, to_pixels, planes, values)
        weighted.refine_given(values, steps)
        on_rows(height, to_planes, values, planes)
    return refined


def words_at_once(height: int, width: int, dilations: Sequence[int], words: int) -> int:
    """How many words to refine together: half a chunk where parts of the image are large."""
    part = -(-height // dilations[0]) * -(-width // dilations[0])
    return min(CHUNK if 8 * part * CHUNK <= PART_BYTES else CHUNK // 2, words)


def lattice_blocks(
    height: int, width: int, steps: int, dilations: Sequence[int], kept: int
) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows, as ``row_blocks``, whose weights and ``kept`` numbers a pixel fit."""
    return row_blocks(height, width, steps, dilations, -(-kept // 2))


@dataclass(frozen=True)
class WeightedLattice:
    """PAMR's weights of an image, or of some of its rows, and the order of its parts."""

    lattice: Lattice
    phases: tuple[list[Group], ...]  # of each, the groups of parts

    @classmethod
    def of(cls, image: Floats, dilations: Sequence[int]) -> WeightedLattice:
        """Compute the weights.

        Args:
            image: (3, H, W), normalised.
            dilations: two distances that ``suits`` takes.
        """
        _, height, width = image.shape
        g = dilations[0]
        columns = -(-width // (g * BLOCK)) * BLOCK
        weights = aligned(g, g, -(-height // g), columns, 16)
        weights[:, :, :, width // g :] = 0  # what lies beyond a part counts nothing
        lattice = Lattice(g, height, width, weights)
        given = bordered(image, max(dilations)), places_of(dilations)
        on_rows(height, weigh_lattice_rows, *given, lattice)
        return cls(lattice, _phases(height, width, g))

    def refine(self, tasks: Sequence[Task]) -> None:
        """Do tasks, in order where they concern the same pixels.

        While some threads are at the inner parts of a chunk, others are at the outer parts of the
        next ones: those of a chunk are few, and must be done before the inner ones.
        """
        room = max(self._edge_numbers(task) for task in tasks)
        memory = np.empty((min(PHASES, len(tasks)), room), np.float32)
        edges = [self._edges(task, memory[k % PHASES]) for k, task in enumerate(tasks)]
        for turn in range(len(tasks) + PHASES - 1):
            calls = [
                partial(_refine, self.lattice, edges[number], tasks[number], groups)
                for phase, number in zip(self.phases, range(turn, turn - PHASES, -1), strict=True)
                if 0 <= number < len(tasks)
                for groups in _batches(phase, self.lattice.spacing)
            ]
            all_of(calls)

    def refine_given(self, values: Floats, steps: int) -> None:
        """Refine logits (H, W, C) where they are; C is a multiple of ``LANES``."""
        # a part's pixels are its own: it has read those that it overwrites
        words = values.shape[2]
        nothing = np.zeros(words, np.int64), np.zeros(words, np.float32)
        self.refine([task_of(steps, nothing, given=values, kept=((steps,), values[None]))])

    def _edge_numbers(self, task: Task) -> int:
        return 2 * task.steps * (self.lattice.width + self.lattice.height) * len(task.classes)

    def _edges(self, task: Task, memory: Floats) -> Edges:
        width, height = self.lattice.width, self.lattice.height
        ends = np.cumsum([0, width, width, height, height]) * task.steps * len(task.classes)
        shape = task.steps, -1, len(task.classes)
        return Edges(*(memory[slice(*each)].reshape(shape) for each in pairwise(ends)))


def task_of(
    steps: int,
    classes: tuple[NDArray[np.int64], Floats],
    *,
    given: Floats = NO_LOGITS,
    stitched: tuple[Floats, Taps, Taps] = NOT_STITCHED,
    kept: tuple[Sequence[int], Floats] = NOTHING_KEPT,
    decided: tuple[int, RunningArgmax] = NOT_DECIDED,
) -> Task:
    """What happens to a chunk of C words: whence the logits come, and where results go.

    Args:
        steps: at least 1.
        classes: as of ``Candidates.part``.
        given: (H, W, C) the logits, or
        stitched: what they are stitched from, as of ``Stitching.part``.
        kept: steps whose results are kept, and where (K, H, W, C), or
        decided: rows above those that are decided, and the decision that is brought up to date.
    """
    stops = np.array(kept[0], np.int64)
    return Task(steps, given, *stitched, stops, kept[1], decided[0], *classes, decided[1])


def _phases(height: int, width: int, g: int) -> tuple[list[Group], list[Group], list[Group]]:
    """The groups of parts of an image: corners, other outer ones, inner ones."""
    outer_rows, outer_columns = ({0, (size - 1) % g} for size in (height, width))
    corners = tuple(product(sorted(outer_rows), sorted(outer_columns)))
    inner_rows, inner_columns = (
        sorted(set(range(g)) - outer) for outer in (outer_rows, outer_columns)
    )
    sides = [tuple((row, column) for row in sorted(outer_rows)) for column in inner_columns]
    sides += [tuple((row, column) for column in sorted(outer_columns)) for row in inner_rows]
    return [corners], sides, [(part,) for part in product(inner_rows, inner_columns)]


def _batches(groups: Sequence[Group], g: int) -> Iterator[list[Group]]:
    """The groups of a phase, as many together as make one call."""
    threads = torch.get_num_threads()
    most = g * g if threads == 1 else max(1, g * g // (BATCHES * threads))
    batch: list[Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > most:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _refine(lattice: Lattice, edges: Edges, task: Task, groups: Sequence[Group]) -> None:
    """All steps of some groups, in memory of this thread."""
    parts = np.array([part for group in groups for part in group], np.int64)
    starts = np.cumsum([0, *(len(group) for group in groups)])
    rows, columns = (size + 2 * HALO for size in lattice.weights.shape[2:4])
    needed = 2 * max(map(len, groups)) * rows * columns * len(task.classes)
    refine_parts(parts, starts, lattice, edges, task, _memory(needed))


def _memory(size: int) -> Floats:
    """At least ``size`` numbers, of which a thread keeps some."""
    memory: Floats | None = getattr(_kept, "memory", None)
    if memory is None or len(memory) < size:
        memory = aligned(size)
        _kept.memory = memory if memory.nbytes <= KEPT_BYTES else None
    return memory
