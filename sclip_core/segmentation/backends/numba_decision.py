"""From dense features to labels on a CPU: stitching, PAMR and the decision in one pass.

Without PAMR nothing of the size queries × height × width exists; with it, two buffers of one chunk
of queries do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol
from sclip_core.segmentation.backends.numba_decision_kernels import (
    LANES,
    RunningArgmax,
    decide_refined_rows,
    decide_rows,
    most_above,
    step_and_decide_rows,
)
from sclip_core.segmentation.backends.numba_jit import Floats, on_rows
from sclip_core.segmentation.backends.numba_lattice import (
    LEAST,
    PHASES,
    WeightedLattice,
    lattice_blocks,
    pamr,
    suits,
    task_of,
    words_at_once,
)
from sclip_core.segmentation.backends.numba_pamr import (
    WeightedImage,
    queries_at_once,
    row_blocks,
)
from sclip_core.segmentation.backends.numba_stitch import Stitching, Taps, stitch_rows
from sclip_core.segmentation.decision import Below, Labels

ALL = slice(0, None)
RIVALS = 8  # queries, the best on average, that others are compared with
PASS_BYTES = 2**30  # of the decisions that one pass makes, unless one number of steps needs more
MARGIN = 1e-5  # of a cosine: what rounding could make up for


def decisions(
    stitching: Stitching,
    image: Tensor | None,
    query_class: NDArray[np.int64],
    num_classes: int,
    protocols: Sequence[Protocol],
) -> Iterator[NumbaDecision]:
    """The decisions by several protocols, in one pass, or in as few as fit in ``PASS_BYTES``.

    Args:
        stitching: the logits.
        image: (3, H, W) float32, normalised, where any protocol has PAMR steps; else None.
        query_class: (Q,) class of each query, ascending.
        num_classes: C.
        protocols: by ascending ``pamr_steps``; they may differ in ``logit_scale``, ``prob_thd`` and
            ``area_thd`` too.

    Yields:
        A ``decision.Decision`` for each protocol; its arrays are freed as soon as it is dropped.
    """
    height, width = stitching.size
    for together in _passes(protocols, height * width):
        each = [
            NumbaDecision(stitching, image, query_class, num_classes, protocol)
            for protocol in together
        ]
        NumbaDecision.decide_together(each)
        each.reverse()
        while each:
            yield each.pop()


def _passes(protocols: Sequence[Protocol], pixels: int) -> Iterator[list[Protocol]]:
    """Groups of protocols whose decisions fit in memory; those with equal steps stay together."""
    together: list[Protocol] = []
    left = PASS_BYTES
    for _, group in groupby(protocols, key=lambda protocol: protocol.pamr_steps):
        alike = list(group)
        scales = {protocol.logit_scale for protocol in alike if protocol.prob_thd > 0}
        needed = pixels * (9 * len(scales) or 5)  # bytes of a RunningArgmax
        if together and needed > left:
            yield together
            together, left = [], PASS_BYTES
        together += alike
        left -= needed
    yield together


def compile_kernels() -> None:
    """Decide images of a few pixels, with and without PAMR: this compiles all kernels."""
    rows, columns = (Taps.of(torch.eye(size)) for size in (2, 3))
    stitching = Stitching(np.zeros((2, 3, 1), np.float32), rows, columns)
    for steps in (0, 2):
        protocol = Protocol(pamr_steps=steps, pamr_dilations=(1,))
        image = torch.zeros(3, 2, 3) if steps else None
        NumbaDecision(stitching, image, np.zeros(1, np.int64), 1, protocol)()
    least = Taps.of(torch.eye(2 * LEAST))
    stitching = Stitching(np.zeros((2 * LEAST, 2 * LEAST, 1), np.float32), least, least)
    protocols = [Protocol(pamr_steps=n, pamr_dilations=(LEAST, 2 * LEAST)) for n in (1, 2)]
    image = torch.zeros(3, 2 * LEAST, 2 * LEAST)
    for each in decisions(stitching, image, np.zeros(1, np.int64), 1, protocols):
        each()
    pamr(image, torch.zeros(1, 2 * LEAST, 2 * LEAST), 1, (LEAST, 2 * LEAST))


def passes(height: int, width: int, steps: int, dilations: Sequence[int], queries: int) -> int:
    """How many passes over rows or parts of an image PAMR takes at most, by one protocol."""
    if suits(dilations, height, width):
        blocks = len(list(lattice_blocks(height, width, steps, dilations, 0)))
        at_once = words_at_once(height, width, dilations, queries)
        return blocks * (-(-queries // at_once) + PHASES)
    at_once = queries_at_once(height, width, dilations, queries)
    blocks = len(list(row_blocks(height, width, steps, dilations, at_once)))
    return blocks * (1 + -(-queries // at_once) * (1 + steps))


class NumbaDecision:
    """The best class of every pixel of an image, decided again where classes are excluded."""

    def __init__(
        self,
        stitching: Stitching,
        image: Tensor | None,
        query_class: NDArray[np.int64],
        num_classes: int,
        protocol: Protocol,
    ) -> None:
        """Keep the arguments, which are those of ``decisions``, but for one protocol."""
        self._stitching, self._image = stitching, image
        self._query_class, self._num_classes = query_class, num_classes
        self._protocol = protocol
        self._with_probabilities = protocol.prob_thd > 0
        self._first: RunningArgmax | None = None  # of all classes, with the sums of all queries
        self._others: dict[bytes, RunningArgmax] = {}  # of the last set of excluded classes

    def __call__(self, excluded: NDArray[np.bool_] | None = None) -> tuple[Below, Labels]:
        """Decide.

        Args:
            excluded: (C,) bool, classes that may not win; their queries stay in the softmax.

        Returns:
            Where the best is less probable than ``prob_thd``, or None, and the best class (H, W).
        """
        if self._first is None and (excluded is None or self._with_probabilities):
            self.decide_together([self])
        running = self._first if excluded is None else self._without(excluded)
        assert running is not None
        if not self._with_probabilities:
            return None, running.labels
        assert self._first is not None
        gap = np.float32(self._protocol.logit_scale) * (running.best - self._first.best)
        below: NDArray[np.bool_] = np.exp(gap) / self._first.total < self._protocol.prob_thd
        return below, running.labels

    @staticmethod
    def decide_together(several: Sequence[NumbaDecision]) -> None:
        """Decide among all classes, in one pass for all of several decisions.

        Where one needs probabilities no query is left out for any: those that win nowhere count in
        its sums.

        Args:
            several: of one image and its queries, by protocols as ``decisions`` takes them.
        """
        stops: list[tuple[int, RunningArgmax]] = []
        asking = next((each for each in several if each._with_probabilities), several[0])
        ascending = sorted(several, key=_steps)
        for steps, group in groupby(ascending, key=_steps):
            alike = list(group)
            scales: set[float | None] = {
                each._protocol.logit_scale for each in alike if each._with_probabilities
            }
            by_scale = {scale: asking._empty(scale) for scale in scales or {None}}
            others: dict[bool, dict[bytes, RunningArgmax]] = {True: {}, False: {}}
            for each in alike:
                # labels are the same by every scale
                scale = each._protocol.logit_scale
                each._first = by_scale[scale if each._with_probabilities else next(iter(by_scale))]
                each._others = others[each._with_probabilities]
            stops += [(steps, running) for running in by_scale.values()]
        asking._accumulate(asking._candidates(None), stops)

    def _without(self, excluded: NDArray[np.bool_]) -> RunningArgmax:
        """The decision where some classes may not win; without probabilities."""
        which = excluded.tobytes()
        if which not in self._others:
            self._others.clear()
            running = self._empty(None)
            self._accumulate(self._candidates(excluded), [(self._protocol.pamr_steps, running)])
            self._others[which] = running
        return self._others[which]

    def _empty(self, logit_scale: float | None) -> RunningArgmax:
        return RunningArgmax.empty(self._stitching.size, self._num_classes, logit_scale)

    def _candidates(self, excluded: NDArray[np.bool_] | None) -> Candidates:
        """The queries of the classes that may win, without those that cannot."""
        stitching, classes = self._stitching, self._query_class
        kept = np.ones(len(classes), np.bool_) if excluded is None else ~excluded[classes]
        if self._image is not None and not self._with_probabilities:
            kept[kept] = ~dominated(stitching.cosines[:, :, kept])
        if not kept.all():
            cosines = stitching.cosines[:, :, kept]
            stitching = Stitching(cosines, stitching.rows, stitching.columns)
        return Candidates.of(stitching, classes[kept])

    def _accumulate(
        self, candidates: Candidates, stops: Sequence[tuple[int, RunningArgmax]]
    ) -> None:
        """Decide among candidates: at once, or after PAMR chunk by chunk.

        Args:
            candidates: the queries.
            stops: PAMR steps, ascending, and the decision after them, which is brought up to date.
        """
        refined = [(steps, running) for steps, running in stops if steps]
        for _, running in stops[: len(stops) - len(refined)]:
            arguments = (*candidates.stitching.part(ALL, ALL), *candidates.part(ALL), running)
            on_rows(len(running.labels), decide_rows, *arguments)
        if not refined or self._image is None:
            return
        dilations, size = self._protocol.pamr_dilations, self._stitching.size
        if suits(dilations, *size):
            _accumulate_by_parts(self._image, candidates, dilations, refined)
            return
        count = len(candidates.classes)
        at_once = queries_at_once(*size, dilations, count)
        for outer, inner in row_blocks(*size, refined[-1][0], dilations, at_once):
            weighted = WeightedImage.of(self._image[:, outer].numpy(), dilations, at_once)
            rows = slice(outer.start + inner.start, outer.start + inner.stop)
            parts = [(steps, running.part(rows)) for steps, running in refined]
            for first in range(0, count, at_once):
                chunk = slice(first, min(first + at_once, count))
                _accumulate_refined(weighted, candidates, outer, inner, chunk, parts)


@dataclass(frozen=True)
class Candidates:
    """Queries that may win, padded to a multiple of ``LANES``: C of them."""

    stitching: Stitching
    classes: NDArray[np.int64]  # (C,)
    excluded: Floats  # (C,) 0 for a query, -inf for padding

    @classmethod
    def of(cls, stitching: Stitching, query_class: NDArray[np.int64]) -> Candidates:
        """All queries of a stitching, each of a class; the classes ascend."""
        padding = 0, -len(query_class) % LANES
        cosines = np.pad(stitching.cosines, ((0, 0), (0, 0), padding))
        return cls(
            Stitching(cosines, stitching.rows, stitching.columns),
            np.pad(query_class, padding),
            np.pad(np.zeros(len(query_class), np.float32), padding, constant_values=-np.inf),
        )

    def part(self, chunk: slice) -> tuple[NDArray[np.int64], Floats]:
        """What the kernels take to decide among some of the C: classes, excluded."""
        return self.classes[chunk], self.excluded[chunk]


def _steps(decision: NumbaDecision) -> int:
    return decision._protocol.pamr_steps


def _accumulate_refined(
    weighted: WeightedImage,
    candidates: Candidates,
    outer: slice,
    inner: slice,
    chunk: slice,
    stops: Sequence[tuple[int, RunningArgmax]],
) -> None:
    """Stitch a chunk of queries on the rows ``outer``, refine it, decide its rows ``inner``."""
    buffers = weighted.buffers(chunk.stop - chunk.start)
    stitched: tuple[Any, ...] = candidates.stitching.part(outer, chunk)
    on_rows(outer.stop - outer.start, stitch_rows, *stitched, buffers[0], weighted.border)
    done = 0
    for steps, running in stops:
        # The last step decides as it goes, and leaves the buffers as they are.
        buffers = weighted.iterate(buffers, steps - 1 - done)
        done = steps - 1
        on_rows(
            inner.stop - inner.start,
            step_and_decide_rows,
            buffers[0],
            weighted.weights,
            weighted.dilations,
            weighted.border,
            inner.start,
            *candidates.part(chunk),
            running,
        )


def _accumulate_by_parts(
    image: Tensor,
    candidates: Candidates,
    dilations: Sequence[int],
    stops: Sequence[tuple[int, RunningArgmax]],
) -> None:
    """Refine and decide, an image's lattice part by part."""
    (height, width), count = candidates.stitching.size, len(candidates.classes)
    steps, at_once = stops[-1][0], words_at_once(height, width, dilations, count)
    kept = sorted({steps for steps, _ in stops}) if len(stops) > 1 else []
    for outer, inner in lattice_blocks(height, width, steps, dilations, len(kept) * at_once):
        rows = slice(outer.start + inner.start, outer.start + inner.stop)
        parts = [(steps, running.part(rows)) for steps, running in stops]
        chunks = [slice(k, min(k + at_once, count)) for k in range(0, count, at_once)]
        # freed before the weights of the next block are computed
        weighted = WeightedLattice.of(image[:, outer].numpy(), dilations)
        if kept:
            for chunk in chunks:
                _keep_and_decide(weighted, candidates, outer, inner, chunk, kept, parts)
        else:
            weighted.refine(
                [
                    task_of(
                        steps,
                        candidates.part(chunk),
                        stitched=candidates.stitching.part(outer, chunk),
                        decided=(inner.start, parts[0][1]),
                    )
                    for chunk in chunks
                ]
            )
        del weighted


def _keep_and_decide(
    weighted: WeightedLattice,
    candidates: Candidates,
    outer: slice,
    inner: slice,
    chunk: slice,
    kept: Sequence[int],
    stops: Sequence[tuple[int, RunningArgmax]],
) -> None:
    """Refine a chunk of queries, keep it after some steps, decide each of these."""
    part, shape = candidates.part(chunk), (outer.stop - outer.start, weighted.lattice.width)
    values = np.empty((len(kept), *shape, chunk.stop - chunk.start), np.float32)
    stitched = candidates.stitching.part(outer, chunk)
    weighted.refine([task_of(kept[-1], part, stitched=stitched, kept=(kept, values))])
    for steps, running in stops:
        rows = values[kept.index(steps)], inner.start
        on_rows(len(running.labels), decide_refined_rows, *rows, *part, running)


def dominated(cosines: Floats) -> NDArray[np.bool_]:
    """Which queries win nowhere, whatever PAMR does.

    A refined logit is a weighted mean of cosines, with the same weights for all queries. A query
    that is below a mixture of others on every patch stays below it, and so below one of them.

    Args:
        cosines: (h, w, Q), the windows side by side.

    Returns:
        (Q,) bool.
    """
    patches = torch.from_numpy(cosines).flatten(0, 1)
    best = patches[:, patches.mean(dim=0).argsort(descending=True)[:RIVALS]]
    mixtures = [best[:, :k].mean(dim=1) for k in range(2, best.shape[1] + 1)]
    rivals = torch.cat([best, *(mixture[:, None] for mixture in mixtures)], dim=1)
    above = np.full((rivals.shape[1], patches.shape[1]), -np.inf, np.float32)
    most_above(patches.contiguous().numpy(), rivals.numpy(), above)
    below: NDArray[np.bool_] = np.any(above <= -MARGIN, axis=0)
    return below
