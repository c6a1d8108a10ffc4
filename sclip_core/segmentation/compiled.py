"""From dense features to labels by the compiled kernels, on a CPU."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol

Floats = NDArray[np.float32]

CHUNK = 32  # words that go through PAMR together, a multiple of LANES
BUFFER_BYTES = 2**29  # for the weights and the two buffers of a block of rows
LANES = 16


@cache
def available() -> bool:
    """Whether the kernels can be had; where they cannot, that is said once."""
    try:
        import numba  # noqa: F401
    except ImportError:
        warnings.warn(
            "Numba is not installed: PAMR and the decision take some ten times longer on a CPU; "
            "pip install 'sclip-benchmark[fast]'",
            stacklevel=2,
        )
        return False
    return True


@dataclass(frozen=True)
class Taps:
    """A sparse matrix (n, m) by rows: K columns that count for each, those with a share first."""

    columns: NDArray[np.int64]  # (n, K), K a multiple of 4
    shares: Floats  # (n, K)

    @classmethod
    def of(cls, matrix: Tensor) -> Taps:
        """The columns of a dense one that are not zero."""
        dense = matrix.numpy()
        counts = (dense != 0).sum(axis=1)
        kept = min(-(-int(counts.max()) // 4) * 4, dense.shape[1])
        columns = np.argsort(dense == 0, axis=1, kind="stable")[:, :kept]
        shares = np.take_along_axis(dense, columns, axis=1)
        missing = -kept % 4  # of a matrix with fewer columns
        return cls(
            np.pad(columns, ((0, 0), (0, missing))),
            np.ascontiguousarray(np.pad(shares, ((0, 0), (0, missing))), np.float32),
        )


@dataclass(frozen=True)
class Voting:
    """What decides: the words' classes, and who may win."""

    query_class: NDArray[np.int64]  # (Q,) ascending
    num_classes: int
    protocol: Protocol


@dataclass(frozen=True)
class Candidates:
    """The columns of the cosines: which of them are words, of which class, and whether they win."""

    words: int
    classes: NDArray[np.int64]  # (C,)
    barred: Floats  # (C,) 0 or -inf
    scale: np.float32

    def part(self, columns: slice) -> tuple[Any, ...]:
        """What the kernels want of some columns."""
        barred = self.barred[columns]
        words = min(max(self.words - columns.start, 0), len(barred))
        return words, self.classes[columns], barred, self.scale


@dataclass(frozen=True)
class Tally:
    """The running decision of every pixel; see ``kernels.step_and_vote_rows``."""

    best: Floats
    labels: NDArray[np.unsignedinteger]
    top: Floats
    total: Floats

    @classmethod
    def empty(cls, height: int, width: int, voting: Voting) -> Tally:
        """Before any word was heard."""
        kind = np.uint8 if voting.num_classes <= 256 else np.uint16
        shape = (height, width) if voting.protocol.prob_thd > 0 else (1, 0)
        return cls(
            np.full((height, width), -np.inf, np.float32),
            np.zeros((height, width), kind),
            np.full(shape, -np.inf, np.float32),
            np.zeros(shape, np.float32),
        )

    def arrays(self, rows: slice) -> tuple[Any, ...]:
        """What the kernels want of some rows: views."""
        probable = (
            (self.top[rows], self.total[rows]) if self.top.shape[1] else (self.top, self.total)
        )
        return self.best[rows], self.labels[rows], *probable

    def improbable(self, protocol: Protocol) -> NDArray[np.bool_] | None:
        """Where the winner has less than ``prob_thd``; None: nothing was asked."""
        if protocol.prob_thd <= 0:
            return None
        share = np.exp(np.float32(protocol.logit_scale) * (self.best - self.top)) / self.total
        below: NDArray[np.bool_] = share < np.float32(protocol.prob_thd)
        return below


def side_by_side(cosines_of: Tensor, embeddings: Tensor) -> Floats:
    """Cosines (h, w, C) of features (h, w, D) with words (Q, D); C is Q filled up with zeros."""
    words = len(embeddings)
    filled = torch.zeros(-(-words // LANES) * LANES, embeddings.shape[1])
    filled[:words] = embeddings
    cosines: Floats = (cosines_of.float() @ filled.T).numpy()
    return cosines


@dataclass(frozen=True)
class Stitching:
    """Logits of every pixel, not yet computed: ``My · L[q] · Mxᵀ``."""

    laid: Floats  # (h, w, C) cosines, the windows side by side (``side_by_side``)
    rows: Taps  # of the H pixel rows in the h rows of patches
    columns: Taps  # of the W pixel columns

    def arguments(self, rows: slice, words: slice) -> tuple[Any, ...]:
        """What the kernels want of it for some rows and some words."""
        laid = np.ascontiguousarray(self.laid[:, :, words])
        return (
            laid,
            self.rows.columns[rows],
            self.rows.shares[rows],
            self.columns.columns,
            self.columns.shares,
        )


def winners(
    stitching: Stitching,
    image: Tensor | None,
    voting: Voting,
    removed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_] | None, NDArray[np.unsignedinteger]]:
    """The best class of every pixel, and where it is less probable than ``prob_thd``.

    Args:
        stitching: the logits.
        image: (3, H, W) float32, normalised, where the protocol has PAMR steps; else None.
        voting: what decides.
        removed: (num_classes,) bool, classes that may not win.

    Returns:
        (H, W) bool or None, and labels (H, W).
    """
    height, width = len(stitching.rows.columns), len(stitching.columns.columns)
    tally = Tally.empty(height, width, voting)
    candidates = _candidates(voting, removed, stitching.laid.shape[2])
    if image is None:
        _hear_stitched(stitching, candidates, tally)
    else:
        _hear_refined(stitching, candidates, tally, image, voting.protocol)
    return tally.improbable(voting.protocol), tally.labels


def _hear_stitched(stitching: Stitching, candidates: Candidates, tally: Tally) -> None:
    """All words of all pixels take part as they are."""
    from sclip_core.segmentation import kernels

    everything = slice(0, None)
    kernels.on_rows(
        len(tally.labels),
        kernels.label_rows,
        *stitching.arguments(everything, everything),
        *candidates.part(everything),
        *tally.arrays(everything),
    )


def _hear_refined(
    stitching: Stitching, candidates: Candidates, tally: Tally, image: Tensor, protocol: Protocol
) -> None:
    """Chunk after chunk of the words takes part after PAMR, in blocks of rows that fit."""
    from sclip_core.segmentation import kernels

    height, width = tally.labels.shape
    steps, dilations = protocol.pamr_steps, protocol.pamr_dilations
    colours = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    for outer, inner in _blocks(height, width, steps, dilations):
        refinement = Refinement.of(colours[outer], dilations)
        arrays = tally.arrays(slice(outer.start + inner.start, outer.start + inner.stop))
        for first in range(0, stitching.laid.shape[2], CHUNK):
            part = slice(first, min(first + CHUNK, stitching.laid.shape[2]))
            buffers = refinement.buffers(part.stop - first)
            stitched = stitching.arguments(outer, part)
            into = (buffers[0], refinement.border)
            kernels.on_rows(outer.stop - outer.start, kernels.stitch_rows, *stitched, *into)
            kernels.on_rows(
                inner.stop - inner.start,
                kernels.step_and_vote_rows,
                refinement.run(buffers, steps - 1),
                refinement.weights,
                refinement.dilations,
                refinement.border,
                inner.start,
                *candidates.part(part),
                *arrays,
            )


def refine(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> None:
    """PAMR of logits (Q, H, W) float32 in place; image (3, H, W) float32."""
    colours = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    refinement = Refinement.of(colours, dilations)
    border = refinement.border
    for planes in logits.split(CHUNK):
        buffers = refinement.buffers(len(planes))
        buffers[0][:, border : border + image.shape[2]] = planes.permute(1, 2, 0).numpy()
        buffers[0][:, :border] = buffers[0][:, border : border + 1]
        end = border + image.shape[2]
        buffers[0][:, end:] = buffers[0][:, end - 1 : end]
        refined = refinement.run(buffers, steps)[:, border:end]
        planes.copy_(torch.from_numpy(refined).permute(2, 0, 1))


@dataclass(frozen=True)
class Refinement:
    """PAMR's weights of an image, or of some of its rows."""

    weights: Floats  # (H, W, 8·D)
    dilations: NDArray[np.int64]
    room: Floats  # (2, H, border + W + border, CHUNK)

    @classmethod
    def of(cls, colours: Floats, dilations: Sequence[int]) -> Refinement:
        """Of colours (H, W, 3)."""
        from sclip_core.segmentation import kernels

        height, width, _ = colours.shape
        weights = np.empty((height, width, 8 * len(dilations)), np.float32)
        distances = np.array(dilations, np.int64)
        kernels.on_rows(height, kernels.weigh_rows, colours, distances, weights)
        room = np.empty((2, height, width + 2 * max(dilations), CHUNK), np.float32)
        return cls(weights, distances, room)

    @property
    def border(self) -> int:
        """Columns that a buffer has beyond either side."""
        return int(self.dilations.max())

    def buffers(self, words: int) -> tuple[Floats, Floats]:
        """Two buffers (H, border + W + border, words)."""
        _, height, width, _ = self.room.shape
        size = height * width * words
        one, other = (part.ravel()[:size].reshape(height, width, words) for part in self.room)
        return one, other

    def run(self, buffers: tuple[Floats, Floats], steps: int) -> Floats:
        """Iterate; gives the buffer that holds the result."""
        from sclip_core.segmentation import kernels

        source, target = buffers
        for _ in range(steps):
            kernels.on_rows(
                len(source), kernels.step_rows, source, self.weights, self.dilations, target,
                self.border,
            )  # fmt: skip
            source, target = target, source
        return source


def _candidates(voting: Voting, removed: NDArray[np.bool_] | None, size: int) -> Candidates:
    """Those of ``size`` columns; what fills up and removed classes may not win."""
    words = len(voting.query_class)
    classes = np.zeros(size, np.int64)
    classes[:words] = voting.query_class
    barred = np.zeros(size, np.float32)
    barred[words:] = -np.inf
    if removed is not None:
        barred[:words][removed[voting.query_class]] = -np.inf
    scale = np.float32(voting.protocol.logit_scale / math.log(2))
    return Candidates(words, classes, barred, scale)


def _blocks(
    height: int, width: int, steps: int, dilations: Sequence[int]
) -> Iterator[tuple[slice, slice]]:
    """Rows with all that their refined values look at, and where in those they lie."""
    halo = steps * max(dilations)
    row_bytes = 4 * (2 * CHUNK * (width + 2 * max(dilations)) + 8 * len(dilations) * width)
    fitting = BUFFER_BYTES // row_bytes
    useful = height if fitting >= height else max(fitting - 2 * halo, halo, 16)
    for top in range(0, height, useful):
        bottom = min(top + useful, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        yield slice(first, last), slice(top - first, bottom - first)
