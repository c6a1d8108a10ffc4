"""From the windows' logits to logits of every pixel: two small matrices.

docs/protocol.md, section 4. Windows form a product grid and bilinear resizing is separable,
so interpolating every window to its pixels, averaging where they overlap and resizing the result to
the original size is ``logits[q] = My · L[q] · Mxᵀ``, with L[q] the windows' logits side by side.
Any block of rows can be computed without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sclip_core.config import Geometry


def bilinear_matrix(source: int, target: int) -> Tensor:
    """The matrix (target, source), float64, of bilinear resizing with align_corners=False.

    PyTorch itself computes it, because it rounds the sampling positions to float32: over 2,000
    pixels exact ones would differ from the reference's by more than everything else together. So
    would those of its ``linear`` mode, which rounds in another order.
    """
    basis = torch.eye(source)[:, None, :, None]
    return interpolate(basis, size=(target, 1), mode="bilinear")[:, 0, :, 0].T.double()


@lru_cache(maxsize=16)
def axis_matrix(
    starts: tuple[int, ...],
    window: int,
    tokens: int,
    resized: int,
    original: int,
    padding: tuple[int, int] = (0, 0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """The matrix that stitches along one axis, then resizes.

    Args:
        starts: first pixel of each window.
        window: pixels of a window.
        tokens: patches of a window.
        resized: pixels of the resized image.
        original: pixels of the original image.
        padding: pixels of each window's padding, before and after it; they are cut off.
        device: where the matrix is needed.

    Returns:
        (original, windows·tokens) float32; remembered, as most photographs have a common size.
    """
    coverage = torch.zeros(resized, 1, dtype=torch.float64)
    for start in starts:
        coverage[start : start + window] += 1
    averaged = _placed(starts, window, tokens, resized, padding) / coverage
    if resized != original:  # else the matrix is the identity, of hundreds of MB for a large image
        averaged = bilinear_matrix(resized, original) @ averaged
    return averaged.float().to(device)


def _placed(
    starts: Sequence[int], window: int, tokens: int, resized: int, padding: Sequence[int]
) -> Tensor:
    """Each window's patches interpolated to its pixels, 0 outside: (resized, windows·tokens)."""
    before, after = padding
    patch_to_pixel = bilinear_matrix(tokens, before + window + after)[before : before + window]
    placed = torch.zeros(resized, len(starts) * tokens, dtype=torch.float64)
    for i, start in enumerate(starts):
        placed[start : start + window, i * tokens : (i + 1) * tokens] = patch_to_pixel
    return placed


def spread_matrix(geometry: Geometry, axis: int, windows: Sequence[int]) -> Tensor:
    """The matrix that puts patches of some windows at their pixels, added up where they overlap.

    Args:
        geometry: of the image.
        axis: 0: rows; 1: columns.
        windows: numbers of windows along that axis.

    Returns:
        (original, windows·tokens) float32.
    """
    tokens, resized = geometry.tokens[axis], geometry.resized[axis]
    if geometry.whole:
        return bilinear_matrix(tokens, geometry.original[axis]).float()
    starts = [(geometry.tops, geometry.lefts)[axis][number] for number in windows]
    padding = geometry.padding[2 * axis : 2 * axis + 2]
    placed = _placed(starts, geometry.window[axis], tokens, resized, padding)
    return (bilinear_matrix(resized, geometry.original[axis]) @ placed).float()


class Stitcher:
    """The two matrices that stitch the windows of one image, on one device."""

    def __init__(self, geometry: Geometry, device: torch.device | str = "cpu") -> None:
        """Build the matrices.

        Args:
            geometry: the windows of the image.
            device: where to stitch.
        """
        self.geometry = geometry
        rows, columns = (
            self._axis(axis, starts, device)
            for axis, starts in enumerate((geometry.tops, geometry.lefts))
        )
        self.rows: Tensor = rows
        self.columns: Tensor = columns

    def _axis(self, axis: int, starts: tuple[int, ...], device: torch.device | str) -> Tensor:
        geometry = self.geometry
        if geometry.whole:  # the reference goes straight from patches to the original size
            whole = bilinear_matrix(geometry.tokens[axis], geometry.original[axis])
            return whole.float().to(device)
        return axis_matrix(
            starts,
            geometry.window[axis],
            geometry.tokens[axis],
            geometry.resized[axis],
            geometry.original[axis],
            geometry.padding[2 * axis : 2 * axis + 2],
            device,
        )

    def side_by_side(self, features: Tensor, embeddings: Tensor) -> Tensor:
        """Cosines of every patch with every query, the windows side by side.

        Args:
            features: (windows, rows, columns, D), unit length, windows row by row.
            embeddings: (Q, D), unit length.

        Returns:
            (Q, window rows·rows, window columns·columns) float32.
        """
        patches = self.mosaic(features)
        cosines = patches.flatten(0, 1).float() @ embeddings.to(patches.device).T.float()
        by_query: Tensor = cosines.T.reshape(len(embeddings), *patches.shape[:2])
        return by_query.contiguous()

    def mosaic(self, features: Tensor) -> Tensor:
        """The windows' features (windows, rows, columns, D), side by side: (h, w, D)."""
        grid = (len(self.geometry.tops), len(self.geometry.lefts))
        patches: Tensor = features.unflatten(0, grid).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        return patches

    def stitch(self, side_by_side: Tensor, top: int = 0, bottom: int | None = None) -> Tensor:
        """Logits of the pixels of a block of rows, at the original size.

        Args:
            side_by_side: (Q, h, w), as of the method ``side_by_side``.
            top: first row of pixels.
            bottom: row after the last one; None: to the end.

        Returns:
            (Q, bottom - top, W) float32.
        """
        stitched: Tensor = (self.rows[top:bottom] @ side_by_side) @ self.columns.T
        return stitched
