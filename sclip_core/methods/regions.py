"""What the methods that read masks share: regions in windows, their merge, scope and tokens.

CorrCLIP (arXiv 2411.10086) and OV-Stitcher (arXiv 2604.08110); docs/methods.md, CorrCLIP.

The regions of an image are an id map (H, W); the lowest id is what no mask covers. Only the order
of ids matters, so they are numbered anew wherever they are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad, scaled_dot_product_attention

from sclip_core.config import Geometry
from sclip_core.encoder.pixels import cut_windows
from sclip_core.encoder.tower import Tower

PART_ELEMENTS = 2**24  # of a mixing matrix in work at once: 64 MB, and a few temporaries of it
UNCOVERED = 0  # the id of what no region covers, after ``merged``


def nearest(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize to the nearest pixel, with PyTorch's rounding of positions to float32.

    Args:
        ids: (..., h, w) int64.
        size: rows and columns of the result.
    """
    rows, columns = (
        _sources(before, after, ids.device)
        for before, after in zip(ids.shape[-2:], size, strict=True)
    )
    return ids[..., rows[:, None], columns]


def _sources(before: int, after: int, device: torch.device) -> Tensor:
    """For each of ``after`` positions the one of ``before`` that it is taken from."""
    step = torch.tensor(before, dtype=torch.float32) / after
    positions = (torch.arange(after, dtype=torch.float32) * step).long()
    return positions.clamp_(max=before - 1).to(device)


def region_windows(regions: Tensor, geometry: Geometry) -> Tensor:
    """The regions of every window.

    Args:
        regions: (H, W) int64, of the original image; any ids.
        geometry: of the windows.

    Returns:
        (windows, height, width) int64 with their padding: ids 0, 1, … in the order of those given,
        and in the padding the next one. The public code writes 10000 there, which an id of a map
        could be; padding is a region like any other.
    """
    distinct, ids = torch.unique(regions, return_inverse=True)
    resized = nearest(ids, geometry.resized)
    return cut_windows((resized - len(distinct))[None], geometry)[:, 0] + len(distinct)


def merged(ids: Tensor, features: Tensor, eps: float) -> Tensor:
    """Merge regions whose mean features are alike.

    DBSCAN with ``min_samples`` 1: the connected components of "distance at most eps", where the
    distance of two regions is the largest cosine of any two, less theirs. With one or two ids there
    is nothing to merge, as the lowest takes no part.

    Args:
        ids: (M,) int64, of which the lowest is what no region covers.
        features: (M, C) float32.
        eps: the largest distance within a component.

    Returns:
        (M,) int64: ``UNCOVERED`` for the lowest id, then the components in the order of their
        lowest ids.
    """
    distinct, ids = torch.unique(ids, return_inverse=True)
    if len(distinct) <= 2:
        return ids
    sums = features.new_zeros(len(distinct), features.shape[1]).index_add_(0, ids, features)
    means = normalize(sums[1:] / torch.bincount(ids)[1:, None], dim=1)
    cosines = means @ means.T
    component = _components(cosines.max() - cosines <= eps)
    numbers = torch.cat([component.new_zeros(1), component + 1])
    return numbers[ids]


def _components(linked: Tensor) -> Tensor:
    """Number the connected components of a symmetric matrix (n, n), by their first members: (n,).

    Every member takes the lowest number among those it is linked to, itself included, until no
    number changes.
    """
    linked = linked | torch.eye(len(linked), dtype=torch.bool, device=linked.device)
    lowest = torch.arange(len(linked), device=linked.device)
    while True:
        lower = torch.where(linked, lowest, len(linked)).amin(dim=1)
        if torch.equal(lower, lowest):
            break
        lowest = lower
    numbers: Tensor = torch.unique(lowest, return_inverse=True)[1]
    return numbers


def scoped_weights(
    features: Tensor, ids: Tensor, scale: float, start: int = 0, stop: int | None = None
) -> Tensor:
    """Rows of the matrix that mixes values within the scope of regions.

    Two positions of one region mix. A position that no region covers mixes with those that are
    more similar to it than the mean of all similarities. The rest have no weight.

    Args:
        features: (M, C), unit length.
        ids: (M,), as of ``merged``.
        scale: factor on the similarities before the softmax.
        start: first row.
        stop: row after the last one; None: to the end.

    Returns:
        (rows, M) float32; each row sums to 1.
    """
    similarity = features[start:stop] @ features.T
    mean = features.mean(dim=0).square().sum()  # of all M² similarities
    own = ids[start:stop, None]
    either = (own == UNCOVERED) | (ids == UNCOVERED)
    allowed = torch.where(either, similarity > mean, own == ids)
    # Every position mixes with itself, as 1 is above the mean, but not where all features are
    # equal, as in a flat image: there a row could be empty.
    row = torch.arange(len(own), device=ids.device)
    allowed[row, row + start] = True
    return (similarity * scale).masked_fill_(~allowed, -torch.inf).softmax(dim=-1)


def mixed(features: Tensor, ids: Tensor, values: Tensor, scale: float) -> Tensor:
    """Values (M, D) mixed by ``scoped_weights``, a part of the rows at a time: (M, D)."""
    at_once = max(1, PART_ELEMENTS // len(features))
    parts = [
        scoped_weights(features, ids, scale, start, start + at_once) @ values
        for start in range(0, len(features), at_once)
    ]
    return torch.cat(parts)


def region_tokens(tower: Tower, inputs: Iterable[Tensor], ids: Tensor, count: int) -> Tensor:
    """A token for every region: copies of CLS that see CLS and the patches of their own region.

    The copies see neither themselves nor one another, and nothing sees them, so what the blocks
    read is what they read without copies, and each copy is computed by itself. One whose region
    has no patch in a window sees CLS alone.

    Args:
        tower: CLIP's.
        inputs: what its blocks read, H_0 … H_(L-1), each (B, 1+N, width).
        ids: (B, N) int64, the regions of the patches, below ``count``.
        count: K, the number of copies.

    Returns:
        (B, K, width) float32, before ln_post.
    """
    own = ids[:, None] == torch.arange(count, device=ids.device)[:, None]
    seen = pad(own, (1, 0), value=True)[:, None]  # (B, 1, K, 1+N)
    copies: Tensor | None = None
    for block, x in enumerate(inputs):
        if copies is None:
            copies = x[:, :1].float().expand(-1, count, -1)
        _, k, v = tower.heads(block, x)
        attended = scaled_dot_product_attention(
            tower.heads(block, copies, prefix=count).q, k, v, seen
        )
        out = tower.out(block, attended.transpose(1, 2).flatten(2))
        copies = tower.after_attention(block, copies + out)
    if copies is None:
        raise ValueError("a tower without blocks has no tokens")
    return copies


def painted(tokens: Tensor, ids: Tensor) -> Tensor:
    """Paint regions with their tokens.

    Args:
        tokens: (B, K, width).
        ids: (B, rows, columns) int64, below K.

    Returns:
        (B, rows, columns, width).
    """
    window = torch.arange(len(ids), device=ids.device)[:, None, None]
    return tokens[window, ids]


def spatial_blocks(layers: int) -> range:
    """The blocks, from 0, whose outputs the spatial branch takes the mean of.

    5 of 12, 12 of 24, 28 of 32, else all but 4, up to the second to last but one: of 12 blocks
    5 … 9, whose outputs are H_6 … H_10.
    """
    count = {12: 5, 24: 12, 32: 28}.get(layers, max(layers - 4, 1))
    stop = max(layers - 2, 1)
    return range(max(stop - count, 0), stop)
