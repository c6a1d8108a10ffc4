"""What the compiled kernels read and write: logits not yet computed, words, a running decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.segmentation.backends.numba_pamr import Floats


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

    @classmethod
    def of(cls, stitching: Stitching, query_class: NDArray[np.int64]) -> Candidates:
        """All words of a stitching, each of a class; the classes ascend."""
        from sclip_core.segmentation.backends import numba_kernels as kernels

        words = len(query_class)
        missing = -words % kernels.LANES
        return cls(
            stitching,
            np.pad(stitching.cosines, ((0, 0), (0, 0), (0, missing))),
            words,
            np.pad(query_class, (0, missing)),
            np.pad(np.zeros(words, np.float32), (0, missing), constant_values=-np.inf),
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
        return words, self.classes[part], barred


@dataclass(frozen=True)
class Tally:
    """The running decision of every pixel; see ``kernels.step_and_vote_rows``."""

    scale: np.float32  # logit_scale / ln 2
    best: Floats  # (H, W)
    labels: NDArray[np.unsignedinteger]  # (H, W)
    top: Floats  # (H, W), or (1, 0) where no probabilities are asked for
    total: Floats  # likewise

    @classmethod
    def empty(cls, size: tuple[int, int], num_classes: int, logit_scale: float | None) -> Tally:
        """Before any word was heard; without a scale nobody asks for probabilities."""
        asked = (1, 0) if logit_scale is None else size
        return cls(
            np.float32((logit_scale or 1) / math.log(2)),
            np.full(size, -np.inf, np.float32),
            np.zeros(size, np.uint8 if num_classes <= 256 else np.uint16),
            np.full(asked, -np.inf, np.float32),
            np.zeros(asked, np.float32),
        )

    def arrays(self, rows: slice) -> tuple[Any, ...]:
        """What the kernels want of some rows: views."""
        if not self.top.shape[1]:
            return self.scale, self.best[rows], self.labels[rows], self.top, self.total
        parts = (self.best[rows], self.labels[rows], self.top[rows], self.total[rows])
        return self.scale, *parts
