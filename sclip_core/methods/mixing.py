"""What the methods with a second network share: its grid, CLIP's values on it, and the way out.

docs/methods.md, "What they share". The patches of the second network say how CLIP's values are
mixed: one matrix for all heads, so that the heads stay side by side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sclip_core.config import Geometry
from sclip_core.encoder.tower import Tower


def on_second_grid(geometry: Geometry, patch: int) -> Geometry:
    """The geometry with the patch grid of the second network in each window.

    Args:
        geometry: of the windows.
        patch: side of a patch of the second network, pixels.
    """
    height, width = geometry.frame
    return replace(geometry, tokens=(height // patch, width // patch))


def resampled(tokens: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Patch tokens on another grid, bilinear, as if both grids covered the same extent.

    Args:
        tokens: (B, rows·columns, C) float32, without CLS.
        grid: rows and columns of the tokens.
        target: rows and columns of the result.

    Returns:
        (B, target rows·target columns, C).
    """
    if grid == target:
        return tokens
    planes = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
    return interpolate(planes, size=target, mode="bilinear").flatten(2).transpose(1, 2)


def values_on(tower: Tower, x: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """The values of CLIP's last block, without CLS, on the second network's grid.

    Args:
        tower: of CLIP.
        x: (B, 1+N, width), what the last block reads, or a mean of outputs of blocks.
        grid: CLIP's patches; rows·columns is N.
        target: the second network's patches, M.

    Returns:
        (B, M, width) float32, heads side by side.
    """
    return resampled(tower.values(-1, x)[:, tower.prefix :], grid, target)


def mixed_tokens(tower: Tower, attention: Tensor, values: Tensor) -> Tensor:
    """Mixed values through the last block's out_proj: what ln_post reads.

    No residual, no MLP.

    Args:
        tower: of CLIP.
        attention: (..., R, M), rows that sum to 1.
        values: (..., M, width), as of ``values_on``.

    Returns:
        (..., R, width) float32.
    """
    return tower.out(-1, attention @ values)


def mixed_features(tower: Tower, attention: Tensor, values: Tensor) -> Tensor:
    """Mix, out_proj, ln_post, projection, unit length: (..., R, D) float32.

    Arguments as of ``mixed_tokens``.
    """
    return tower.features(mixed_tokens(tower, attention, values))


def softmax_of_positive(scores: Tensor) -> Tensor:
    """Row softmax over the scores that are at least 0; scores are overwritten.

    A row without one is given its diagonal: the patch looks at itself. The published code divides
    0 by 0 there, which a window inside one flat region can cause.

    Args:
        scores: (..., M, M).

    Returns:
        (..., M, M); every row sums to 1.
    """
    dropped = scores < 0
    scores.masked_fill_(dropped, -torch.inf)
    scores.diagonal(dim1=-2, dim2=-1).masked_fill_(dropped.all(dim=-1), 0)
    return scores.softmax(dim=-1)
