"""From dense features to labels by the compiled kernels, on a CPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol
from sclip_core.segmentation.backends.candidates import Candidates, Stitching, Tally, Taps
from sclip_core.segmentation.backends.numba_pamr import (
    Floats,
    Refinement,
    colours_of,
    row_blocks,
    words_at_once,
)

ALL = slice(0, None)
RIVALS = 8  # words, the best on average, that others are compared with
TALLY_BYTES = 2**30  # of the decisions that one pass makes, unless one number of steps needs more
MARGIN = 1e-5  # of a cosine: what rounding could make up for


@cache
def available() -> bool:
    """Whether the kernels can be had; where they cannot, that is said once."""
    try:
        from sclip_core.segmentation.backends import numba_kernels as kernels  # noqa: F401
    except ModuleNotFoundError:
        reason = "is not installed: pip install 'sclip-benchmark[fast]'"
    except (ImportError, OSError, RuntimeError) as error:  # another NumPy, a broken LLVM
        reason = f"cannot be used ({' '.join(str(error).split())[:200]})"
    else:
        return True
    slower = "PAMR and the decision take some ten times longer on a CPU"
    warnings.warn(f"Numba {reason}; without it {slower}", stacklevel=2)
    return False


def warm_up() -> None:
    """Compile, or load what was compiled before, in the background; what needs it waits for it."""

    def compile_all() -> None:
        rows, columns = (Taps.of(torch.eye(size)) for size in (2, 3))
        stitching = Stitching(np.zeros((2, 3, 1), np.float32), rows, columns)
        for steps in (0, 2):
            protocol = Protocol(pamr_steps=steps, pamr_dilations=(1,))
            image = torch.zeros(3, 2, 3) if steps else None
            Winners(stitching, image, np.zeros(1, np.int64), 1, protocol)(None)

    if available():
        threading.Thread(target=compile_all, name="sclip-compile", daemon=True).start()


class Winners:
    """The best class of every pixel of an image; asked again where classes may not win."""

    def __init__(
        self,
        stitching: Stitching,
        image: Tensor | None,
        query_class: NDArray[np.int64],
        num_classes: int,
        protocol: Protocol,
    ) -> None:
        """Take what decides.

        Args:
            stitching: the logits.
            image: (3, H, W) float32, normalised, where the protocol has PAMR steps; else None.
            query_class: (Q,) class of each word, ascending.
            num_classes: C.
            protocol: PAMR, ``logit_scale``, ``prob_thd``.
        """
        self._stitching, self._image = stitching, image
        self._query_class, self._num_classes = query_class, num_classes
        self._protocol = protocol
        self._asked = protocol.prob_thd > 0
        self._first: Tally | None = None  # of all classes: its sums are over all words
        self._others: dict[bytes, Tally] = {}  # of the last set of classes that may not win

    def __call__(
        self, removed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_] | None, NDArray[np.unsignedinteger]]:
        """Decide.

        Args:
            removed: (C,) bool, classes that may not win; their words stay in the softmax.

        Returns:
            Where the best is less probable than ``prob_thd``, or None, and the best class (H, W).
        """
        if self._first is None and (removed is None or self._asked):
            self.hear_at([self])
        tally = self._first if removed is None else self._without(removed)
        assert tally is not None
        if not self._asked:
            return None, tally.labels
        assert self._first is not None
        gap = np.float32(self._protocol.logit_scale) * (tally.best - self._first.top)
        below: NDArray[np.bool_] = np.exp(gap) / self._first.total < self._protocol.prob_thd
        return below, tally.labels

    @staticmethod
    def hear_at(several: Sequence[Winners]) -> None:
        """Let all words take part, once for all of these.

        Args:
            several: of one image and its words, by protocols that differ in ``pamr_steps``,
                ``logit_scale`` and thresholds alone. Where one asks for probabilities no word is
                left out for any: those that win nowhere count in its sums.
        """
        stops: list[tuple[int, Tally]] = []
        asking = next((winners for winners in several if winners._asked), several[0])
        ascending = sorted(several, key=_steps)
        for steps, group in groupby(ascending, key=_steps):
            alike = list(group)
            scales: set[float | None] = {w._protocol.logit_scale for w in alike if w._asked}
            tallies = {scale: asking._tally(scale) for scale in scales or {None}}
            others: dict[bool, dict[bytes, Tally]] = {True: {}, False: {}}
            for winners in alike:
                # labels are the same by every scale
                scale = winners._protocol.logit_scale if winners._asked else next(iter(tallies))
                winners._first, winners._others = tallies[scale], others[winners._asked]
            stops += [(steps, tally) for tally in tallies.values()]
        asking._hear(asking._candidates(None), stops)

    def _without(self, removed: NDArray[np.bool_]) -> Tally:
        """The decision where some classes may not win; without probabilities."""
        which = removed.tobytes()
        if which not in self._others:
            self._others.clear()
            tally = self._tally(None)
            self._hear(self._candidates(removed), [(self._protocol.pamr_steps, tally)])
            self._others[which] = tally
        return self._others[which]

    def _tally(self, logit_scale: float | None) -> Tally:
        return Tally.empty(self._stitching.size, self._num_classes, logit_scale)

    def _candidates(self, removed: NDArray[np.bool_] | None) -> Candidates:
        """The words of the classes that may win, but those that cannot."""
        stitching, classes = self._stitching, self._query_class
        kept = np.ones(len(classes), np.bool_) if removed is None else ~removed[classes]
        if self._image is not None and not self._asked:
            kept[kept] = ~hopeless(stitching.cosines[:, :, kept])
        if not kept.all():
            cosines = stitching.cosines[:, :, kept]
            stitching = Stitching(cosines, stitching.rows, stitching.columns)
        return Candidates.of(stitching, classes[kept])

    def _hear(self, candidates: Candidates, stops: Sequence[tuple[int, Tally]]) -> None:
        """Let all candidates take part: at once, or after PAMR chunk by chunk.

        Args:
            candidates: the words.
            stops: PAMR steps, ascending, and the decision after them.
        """
        from sclip_core.segmentation.backends import numba_kernels as kernels

        refined = [(steps, tally) for steps, tally in stops if steps]
        for _, tally in stops[: len(stops) - len(refined)]:
            arguments = (*candidates.stitched(ALL, ALL), *candidates.heard(ALL))
            kernels.on_rows(len(tally.labels), kernels.label_rows, *arguments, *tally.arrays(ALL))
        if not refined or self._image is None:
            return
        dilations, size = self._protocol.pamr_dilations, self._stitching.size
        words = words_at_once(*size, dilations, len(candidates.classes))
        for outer, inner in row_blocks(*size, refined[-1][0], dilations, words):
            refinement = Refinement.of(colours_of(self._image[:, outer]), dilations, words)
            rows = slice(outer.start + inner.start, outer.start + inner.stop)
            decided = [(steps, tally.arrays(rows)) for steps, tally in refined]
            for first in range(0, len(candidates.classes), words):
                part = slice(first, min(first + words, len(candidates.classes)))
                _hear_refined(refinement, candidates, outer, inner, part, decided)


def winners_of(
    stitching: Stitching,
    image: Tensor | None,
    query_class: NDArray[np.int64],
    num_classes: int,
    protocols: Sequence[Protocol],
) -> Iterator[Winners]:
    """The decisions by several protocols, in one pass, or in as few as their room allows.

    Args:
        stitching: see ``Winners``.
        image: where any protocol has PAMR steps; see ``Winners``.
        query_class: see ``Winners``.
        num_classes: see ``Winners``.
        protocols: by ascending ``pamr_steps``; see ``Winners.hear_at``.

    Yields:
        One for each protocol; what it holds is freed when nobody has it any more.
    """
    height, width = stitching.size
    for together in _passes(protocols, height * width):
        each = [
            Winners(stitching, image, query_class, num_classes, protocol) for protocol in together
        ]
        Winners.hear_at(each)
        each.reverse()
        while each:
            yield each.pop()


def _passes(protocols: Sequence[Protocol], pixels: int) -> Iterator[list[Protocol]]:
    """Protocols whose tallies find room side by side; those with the same steps stay together."""
    together: list[Protocol] = []
    room = TALLY_BYTES
    for _, group in groupby(protocols, key=lambda protocol: protocol.pamr_steps):
        alike = list(group)
        scales = {protocol.logit_scale for protocol in alike if protocol.prob_thd > 0}
        needed = pixels * (13 * len(scales) or 5)  # see Tally
        if together and needed > room:
            yield together
            together, room = [], TALLY_BYTES
        together += alike
        room -= needed
    yield together


def _steps(winners: Winners) -> int:
    return winners._protocol.pamr_steps


def _hear_refined(
    refinement: Refinement,
    candidates: Candidates,
    outer: slice,
    inner: slice,
    part: slice,
    stops: Sequence[tuple[int, tuple[Any, ...]]],
) -> None:
    """Stitch some words on the rows ``outer``, refine them, decide the rows ``inner`` of it."""
    from sclip_core.segmentation.backends import numba_kernels as kernels

    buffers = refinement.buffers(part.stop - part.start)
    stitched = (*candidates.stitched(outer, part), buffers[0], refinement.border)
    kernels.on_rows(outer.stop - outer.start, kernels.stitch_rows, *stitched)
    done = 0
    for steps, rows in stops:
        # the last of the steps decides as it goes, and leaves the buffers as they are
        buffers = refinement.run(buffers, steps - 1 - done)
        done = steps - 1
        kernels.on_rows(
            inner.stop - inner.start,
            kernels.step_and_vote_rows,
            buffers[0],
            refinement.weights,
            refinement.dilations,
            refinement.border,
            inner.start,
            *candidates.heard(part),
            *rows,
        )


def hopeless(cosines: Floats) -> NDArray[np.bool_]:
    """Words that win nowhere, whatever PAMR does.

    A refined logit is a weighted mean of cosines, with the same weights for all words. A word that
    is below a mixture of others on every patch stays below it, and so below one of them.

    Args:
        cosines: (h, w, Q), the windows side by side.

    Returns:
        (Q,) bool.
    """
    patches = torch.from_numpy(cosines).flatten(0, 1)
    best_first = patches.mean(dim=0).argsort(descending=True)
    left = torch.arange(patches.shape[1])
    for k in range(1, min(RIVALS, patches.shape[1]) + 1):
        mixture = patches[:, best_first[:k]].mean(dim=1, keepdim=True)
        for rival in (mixture, patches[:, best_first[k - 1 : k]]):
            left = left[(patches[:, left] - rival).amax(dim=0) > -MARGIN]
    without = np.ones(patches.shape[1], np.bool_)
    without[left.numpy()] = False
    return without
