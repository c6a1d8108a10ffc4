"""Stitching on a CPU: the two matrices of ``stitch.py`` as sparse ones, row by row of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.segmentation.backends.numba_jit import Array, Floats, compiled, inlined
from sclip_core.tensors import linear

WHOLE = 16  # products of a multiple of it are up to a third faster


class Taps(NamedTuple):
    """A sparse matrix (n, m) by rows: for each the K columns that count, zero weights last."""

    columns: NDArray[np.int64]  # (n, K), K a multiple of 4
    weights: Floats  # (n, K)

    @classmethod
    def of(cls, matrix: Tensor) -> Taps:
        """The columns of a dense matrix (n, m) that are not zero."""
        dense = matrix.numpy()
        most = max(1, int((dense != 0).sum(axis=1).max()))
        kept = min(-(-most // 4) * 4, dense.shape[1])
        columns = np.argsort(dense == 0, axis=1, kind="stable")[:, :kept]
        weights = np.take_along_axis(dense, columns, axis=1)
        missing = -kept % 4  # of a matrix with fewer columns
        return cls(
            np.pad(columns, ((0, 0), (0, missing))),
            np.ascontiguousarray(np.pad(weights, ((0, 0), (0, missing))), np.float32),
        )


taps_of = lru_cache(maxsize=32)(Taps.of)  # by identity: the stitcher remembers its matrices too


@dataclass(frozen=True)
class Stitching:
    """Logits of every pixel, not yet computed: ``My · L[q] · Mxᵀ``."""

    cosines: Floats  # (h, w, Q), the windows side by side
    rows: Taps  # of the H pixel rows in the h rows of patches
    columns: Taps  # of the W pixel columns in the w columns of patches

    @classmethod
    def of(cls, features: Tensor, embeddings: Tensor, rows: Tensor, columns: Tensor) -> Stitching:
        """The stitching of an image.

        Args:
            features: (h, w, D), the windows side by side.
            embeddings: (Q, D), of the queries.
            rows: the matrix (H, h).
            columns: the matrix (W, w).
        """
        missing = -len(embeddings) % WHOLE
        whole = pad(embeddings.float(), (0, 0, 0, missing))
        cosines = linear(features.float(), whole)[..., : len(embeddings)].numpy()
        return cls(cosines, taps_of(rows), taps_of(columns))

    @classmethod
    def of_factors(cls, cosines: Tensor, rows: Tensor, columns: Tensor) -> Stitching:
        """The stitching of logits ``rows @ cosines[q] @ columns.T``.

        Args:
            cosines: (Q, h, w).
            rows: (H, h).
            columns: (W, w).
        """
        last = np.ascontiguousarray(cosines.permute(1, 2, 0).numpy())
        return cls(last, Taps.of(rows), Taps.of(columns))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return len(self.rows.columns), len(self.columns.columns)

    def part(self, rows: slice, queries: slice) -> tuple[Floats, Taps, Taps]:
        """What the kernels take to stitch some queries on some rows of pixels."""
        cosines = np.ascontiguousarray(self.cosines[:, :, queries])
        return cosines, Taps(self.rows.columns[rows], self.rows.weights[rows]), self.columns


@compiled
def stitch_rows(
    cosines: Array, rows: Taps, columns: Taps, out: Array, border: int, first: int, last: int
) -> None:
    """Logits of a chunk of queries.

    Args:
        cosines: (h, w, C), the windows side by side.
        rows: of the H pixel rows.
        columns: of the W pixel columns.
        out: (H, border + W + border, C); the borders get the outermost columns.
        border: columns beyond either side.
        first: row to begin with.
        last: row to stop before.
    """
    line = np.empty((cosines.shape[1], cosines.shape[2]), np.float32)
    taps, weights = columns.columns, columns.weights
    for y in range(first, last):
        mix_rows(cosines, rows, y, line)
        row = out[y]
        for x in range(taps.shape[0]):
            mix_columns(line, taps, weights, x, row, border + x)
        fill_borders(row, border)


@inlined
def mix_rows(cosines: Array, taps: Taps, y: int, line: Array) -> None:
    """Mix the rows of cosines (h, w, C) that pixel row ``y`` is made of, into ``line`` (w, C)."""
    line[:] = 0.0
    for k in range(taps.columns.shape[1]):
        weight = taps.weights[y, k]
        if weight != 0.0:
            source = cosines[taps.columns[y, k]]
            for x in range(line.shape[0]):
                for q in range(line.shape[1]):
                    line[x, q] += weight * source[x, q]


@inlined
def mix_columns(line: Array, columns: Array, weights: Array, x: int, row: Array, at: int) -> None:
    """Mix the columns of ``line`` of pixel ``x``, into ``row[at]`` (C,); four taps at a time.

    The arrays of the taps come alone: to take them from a tuple counts references, for every pixel.
    """
    for k in range(0, columns.shape[1], 4):
        w0, w1 = weights[x, k], weights[x, k + 1]
        w2, w3 = weights[x, k + 2], weights[x, k + 3]
        if k > 0 and w0 == 0.0:  # weights that are not zero come first
            break
        a, b = columns[x, k], columns[x, k + 1]
        c, d = columns[x, k + 2], columns[x, k + 3]
        if k == 0:
            for q in range(line.shape[1]):
                row[at, q] = w0 * line[a, q] + w1 * line[b, q] + w2 * line[c, q] + w3 * line[d, q]
        else:
            for q in range(line.shape[1]):
                row[at, q] += w0 * line[a, q] + w1 * line[b, q] + w2 * line[c, q] + w3 * line[d, q]


@inlined
def fill_borders(row: Array, border: int) -> None:
    """Repeat the outermost columns of a row (border + W + border, C) in its borders."""
    end = row.shape[0] - border
    for x in range(border):
        for q in range(row.shape[1]):
            row[x, q] = row[border, q]
            row[end + x, q] = row[end - 1, q]
