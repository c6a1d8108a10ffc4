"""From dense features to labels by the compiled kernels, on a CPU."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol
from sclip_core.segmentation.refinement import (
    Floats,
    Refinement,
    colours_of,
    row_blocks,
    words_at_once,
)

ALL = slice(0, None)
RIVALS = 8  # words, the best on average, that others are compared with
MARGIN = 1e-5  # of a cosine: what rounding could make up for


@cache
def available() -> bool:
    """Whether the kernels can be had; where they cannot, that is said once."""
    try:
        from sclip_core.segmentation import kernels  # noqa: F401
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


@dataclass(frozen=True)
class Taps:
    """A sparse matrix (n, m) by rows: K columns that count for each, those with a share first."""

    columns: NDArray[np.int64]  # (n, K), K a multiple of 4
    shares: Floats  # (n, K)

    @classmethod
    def of(cls, matrix: Tensor) -> Taps:
        """The columns of a dense one that are not zero."""
        dense = matrix.numpy()
        most = max(1, int((dense != 0).sum(axis=1).max()))
        kept = min(-(-most // 4) * 4, dense.shape[1])
        columns = np.argsort(dense == 0, axis=1, kind="stable")[:, :kept]
        shares = np.take_along_axis(dense, columns, axis=1)
        missing = -kept % 4  # of a matrix with fewer columns
        return cls(
            np.pad(columns, ((0, 0), (0, missing))),
            np.ascontiguousarray(np.pad(shares, ((0, 0), (0, missing))), np.float32),
        )


taps_of = lru_cache(maxsize=32)(Taps.of)  # by identity: the stitcher remembers its matrices too


@dataclass(frozen=True)
class Stitching:
    """Logits of every pixel, not yet computed: ``My · L[q] · Mxᵀ``."""

    cosines: Floats  # (h, w, Q), the windows side by side
    rows: Taps  # of the H pixel rows in the h rows of patches
    columns: Taps  # of the W pixel columns

    @classmethod
    def of(cls, features: Tensor, embeddings: Tensor, rows: Tensor, columns: Tensor) -> Stitching:
        """Of features (h, w, D), the windows side by side, words (Q, D), and the two matrices."""
        cosines = (features.float() @ embeddings.float().T).numpy()
        return cls(cosines, taps_of(rows), taps_of(columns))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return len(self.rows.columns), len(self.columns.columns)


@dataclass(frozen=True)
class Candidates:
    """Words that may win, filled up to a multiple of ``kernels.LANES``."""

    stitching: Stitching
    cosines: Floats  # (h, w, C)
    words: int  # of the C
    classes: NDArray[np.int64]  # (C,)
    barred: Floats  # (C,) 0 for a word, -inf for what fills up
    scale: np.float32  # logit_scale / ln 2

    @classmethod
    def of(cls, stitching: Stitching, query_class: NDArray[np.int64], scale: float) -> Candidates:
        """All words of a stitching, each of a class; the classes ascend."""
        from sclip_core.segmentation import kernels

        words = len(query_class)
        missing = -words % kernels.LANES
        return cls(
            stitching,
            np.pad(stitching.cosines, ((0, 0), (0, 0), (0, missing))),
            words,
            np.pad(query_class, (0, missing)),
            np.pad(np.zeros(words, np.float32), (0, missing), constant_values=-np.inf),
            np.float32(scale / math.log(2)),
        )

    def stitched(self, rows: slice, part: slice) -> tuple[Any, ...]:
        """What the kernels want to stitch some words on some rows."""
        taps = self.stitching
        return (
            np.ascontiguousarray(self.cosines[:, :, part]),
            taps.rows.columns[rows],
            taps.rows.shares[rows],
            taps.columns.columns,
            taps.columns.shares,
        )

    def heard(self, part: slice) -> tuple[Any, ...]:
        """What the kernels want to let some words take part."""
        barred = self.barred[part]
        words = min(max(self.words - part.start, 0), len(barred))
        return words, self.classes[part], barred, self.scale


@dataclass(frozen=True)
class Tally:
    """The running decision of every pixel; see ``kernels.step_and_vote_rows``."""

    best: Floats  # (H, W)
    labels: NDArray[np.unsignedinteger]  # (H, W)
    top: Floats  # (H, W), or (1, 0) where no probabilities are asked for
    total: Floats  # likewise

    @classmethod
    def empty(cls, size: tuple[int, int], num_classes: int, probable: bool) -> Tally:
        """Before any word was heard."""
        asked = size if probable else (1, 0)
        return cls(
            np.full(size, -np.inf, np.float32),
            np.zeros(size, np.uint8 if num_classes <= 256 else np.uint16),
            np.full(asked, -np.inf, np.float32),
            np.zeros(asked, np.float32),
        )

    def arrays(self, rows: slice) -> tuple[Any, ...]:
        """What the kernels want of some rows: views."""
        if not self.top.shape[1]:
            return self.best[rows], self.labels[rows], self.top, self.total
        return self.best[rows], self.labels[rows], self.top[rows], self.total[rows]


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
        tally = self._first
        if removed is not None:
            tally = self._tally(probable=False)
            self._hear(self._candidates(removed), [(self._protocol.pamr_steps, tally)])
        assert tally is not None
        if not self._asked:
            return None, tally.labels
        assert self._first is not None
        gap = np.float32(self._protocol.logit_scale) * (tally.best - self._first.top)
        below: NDArray[np.bool_] = np.exp(gap) / self._first.total < self._protocol.prob_thd
        return below, tally.labels

    @staticmethod
    def hear_at(several: Sequence[Winners]) -> None:
        """Let all words take part, once for all of these, that differ in ``pamr_steps`` alone."""
        stops: list[tuple[int, Tally]] = []
        for winners in sorted(several, key=lambda winners: winners._protocol.pamr_steps):
            winners._first = winners._tally(winners._asked)
            stops.append((winners._protocol.pamr_steps, winners._first))
        winners._hear(winners._candidates(None), stops)

    def _tally(self, probable: bool) -> Tally:
        return Tally.empty(self._stitching.size, self._num_classes, probable)

    def _candidates(self, removed: NDArray[np.bool_] | None) -> Candidates:
        """The words of the classes that may win, but those that cannot."""
        stitching, classes = self._stitching, self._query_class
        kept = np.ones(len(classes), np.bool_) if removed is None else ~removed[classes]
        if self._image is not None and not self._asked:
            kept[kept] = ~hopeless(stitching.cosines[:, :, kept])
        if not kept.all():
            cosines = stitching.cosines[:, :, kept]
            stitching = Stitching(cosines, stitching.rows, stitching.columns)
        return Candidates.of(stitching, classes[kept], self._protocol.logit_scale)

    def _hear(self, candidates: Candidates, stops: Sequence[tuple[int, Tally]]) -> None:
        """Let all candidates take part: at once, or after PAMR chunk by chunk.

        Args:
            candidates: the words.
            stops: PAMR steps, ascending, and the decision after them.
        """
        from sclip_core.segmentation import kernels

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


def _hear_refined(
    refinement: Refinement,
    candidates: Candidates,
    outer: slice,
    inner: slice,
    part: slice,
    stops: Sequence[tuple[int, tuple[Any, ...]]],
) -> None:
    """Stitch some words on the rows ``outer``, refine them, decide the rows ``inner`` of it."""
    from sclip_core.segmentation import kernels

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
