"""Tokens of overlapping windows on one grid of the whole image.

OV-Stitcher (arXiv 2604.08110); docs/methods.md, OV-Stitcher. A window's tokens are taken as they
are, at the cells that its first pixel rounds down to. So those of the last windows, which are
shifted back to the border, lie up to a patch less one pixel off; that is part of the method.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sclip_core.config import Geometry


def whole_image(geometry: Geometry, patch: int) -> Geometry:
    """One window that covers the resized image, on a grid of so large patches.

    Where windows are padded, as of images smaller than a window, the image is padded alike, and so
    are its grids; the padding is cut off the logits. (The public code stops at such images.)
    """
    above, below, left, right = geometry.padding
    height, width = geometry.resized
    return replace(
        geometry,
        window=geometry.resized,
        tops=(0,),
        lefts=(0,),
        tokens=((height + above + below) // patch, (width + left + right) // patch),
        whole=False,  # to the resized image first, then to the original size
    )


def stitched(tokens: Tensor, geometry: Geometry, patch: int) -> Tensor:
    """The mean of the windows' tokens in every cell of the whole image.

    Args:
        tokens: (windows, rows, columns, C) float32, on a grid of so large patches in each window.
        geometry: of the windows.
        patch: side in pixels.

    Returns:
        (rows, columns, C) of ``whole_image(geometry, patch).tokens``.
    """
    cells = whole_image(geometry, patch).tokens
    rows, columns = (
        _means(starts, count, patch, all_cells).to(tokens.device)
        for starts, count, all_cells in zip(
            (geometry.tops, geometry.lefts), tokens.shape[1:3], cells, strict=True
        )
    )
    by_axis = tokens.unflatten(0, (len(geometry.tops), len(geometry.lefts))).transpose(1, 2)
    mosaic = by_axis.flatten(0, 1).flatten(1, 2)  # (rows of all windows, columns of all, C)
    return torch.einsum("yr,rcd,xc->yxd", rows, mosaic, columns)


def _means(starts: tuple[int, ...], tokens: int, patch: int, cells: int) -> Tensor:
    """The mean along one axis, as a matrix (cells, windows·tokens); each row sums to 1."""
    matrix = torch.zeros(cells, len(starts) * tokens)
    for i, start in enumerate(starts):
        token = torch.arange(tokens)
        matrix[start // patch + token, i * tokens + token] = 1
    count = matrix.sum(dim=1, keepdim=True)
    # Windows of a whole number of patches leave no cell out. Others may: such a cell is taken from
    # the one before it.
    covered = torch.where(count[:, 0] > 0, torch.arange(cells), 0).cummax(dim=0).values
    return (matrix / count.clamp(min=1))[covered]
