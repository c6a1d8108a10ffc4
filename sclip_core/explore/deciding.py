"""Labels from logits that stay the same while scale and thresholds change, on a CPU with Numba.

The kernel that stitches and decides is given either patches' cosines or logits of pixels, which
need no stitching any more. What it finds among all classes is kept: another threshold is then a
comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import Protocol
from sclip_core.segmentation import Refiner
from sclip_core.segmentation.decision import Below, Labels, apply_thresholds, without

if TYPE_CHECKING:  # Numba is an extra
    from sclip_core.segmentation.backends.numba_decision_kernels import RunningArgmax
    from sclip_core.segmentation.backends.numba_stitch import Stitching, Taps


@dataclass(frozen=True)
class Deciding:
    """The decision among the classes of one list, of one image.

    Attributes:
        values: (h, w, at least Q) cosines or logits; a multiple of the kernel's lanes.
        rows: of the H pixel rows in the h rows.
        columns: of the W pixel columns in the w columns.
        query_class: (Q,) ascending.
        num_classes: C.
    """

    values: NDArray[np.float32]
    rows: Taps
    columns: Taps
    query_class: NDArray[np.int64]
    num_classes: int
    _first: dict[float | None, RunningArgmax] = field(default_factory=dict)

    @classmethod
    def of_stitching(
        cls, stitching: Stitching, query_class: NDArray[np.int64], num_classes: int
    ) -> Deciding:
        """Of cosines of patches."""
        from sclip_core.segmentation.backends.numba_decision_kernels import LANES

        padding = (0, 0), (0, 0), (0, -len(query_class) % LANES)
        values = np.pad(stitching.cosines, padding)
        return cls(values, stitching.rows, stitching.columns, query_class, num_classes)

    @classmethod
    def of_pixels(
        cls, values: NDArray[np.float32], query_class: NDArray[np.int64], num_classes: int
    ) -> Deciding:
        """Of logits of pixels (H, W, at least Q)."""
        rows, columns = (_identity(size) for size in values.shape[:2])
        return cls(values, rows, columns, query_class, num_classes)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept for each scale, as a bound for two of them."""
        return 18 * len(self.rows.columns) * len(self.columns.columns)

    def labels(self, protocol: Protocol, may_win: int) -> Labels:
        """Labels (H, W).

        Args:
            protocol: scale and thresholds.
            may_win: only the first so many classes may; the others count in the softmax alone.
        """
        barred = np.arange(self.num_classes) >= may_win
        decision = partial(self._decided, protocol)
        limited = without(decision, barred) if barred.any() else decision
        return apply_thresholds(limited, self.num_classes, protocol)

    def _decided(
        self, protocol: Protocol, excluded: NDArray[np.bool_] | None
    ) -> tuple[Below, Labels]:
        """As of ``decision.Decision``."""
        scale = protocol.logit_scale if protocol.prob_thd > 0 else None
        if scale not in self._first and (excluded is None or scale is not None):
            if len(self._first) > 1:
                self._first.clear()
            self._first[scale] = self._run(None, scale)
        running = self._first[scale] if excluded is None else self._run(excluded, None)
        if scale is None:
            return None, running.labels
        first = self._first[scale]
        gap = np.float32(scale) * (running.best - first.best)
        below: NDArray[np.bool_] = np.exp(gap) / first.total < protocol.prob_thd
        return below, running.labels

    def _run(self, excluded: NDArray[np.bool_] | None, scale: float | None) -> RunningArgmax:
        """The best class of every pixel and, by a scale, the softmax's denominator."""
        from sclip_core.segmentation.backends.numba_decision_kernels import (
            RunningArgmax,
            decide_rows,
        )
        from sclip_core.segmentation.backends.numba_jit import on_rows

        queries, padded = len(self.query_class), self.values.shape[2]
        may_not = np.full(padded, -np.inf, np.float32)
        may_not[:queries] = 0
        if excluded is not None:
            may_not[:queries][excluded[self.query_class]] = -np.inf
        classes = np.pad(self.query_class, (0, padded - queries))
        size = len(self.rows.columns), len(self.columns.columns)
        running = RunningArgmax.empty(size, self.num_classes, scale)
        given = self.values, self.rows, self.columns, classes, may_not, running
        on_rows(size[0], decide_rows, *given)
        return running


def of_refiner(refiner: Refiner, query_class: NDArray[np.int64], num_classes: int) -> Deciding:
    """The decision before PAMR; the refiner's features are on a CPU."""
    return Deciding.of_stitching(refiner.stitching(), query_class, num_classes)


def _identity(size: int) -> Taps:
    """The matrix that takes every row from itself."""
    from sclip_core.segmentation.backends.numba_stitch import Taps

    columns = np.zeros((size, 4), np.int64)
    weights = np.zeros((size, 4), np.float32)
    columns[:, 0], weights[:, 0] = np.arange(size), 1
    return Taps(columns, weights)
