"""Semantic feedback of ResCLIP: which patches belong together, from a first labelling of them.

"ResCLIP: Residual Attention for Training-free Dense Vision-language Inference" (CVPR 2025, arXiv
2411.15851), semantic feedback refinement; docs/methods.md, ResCLIP. Patches are numbered row by
row; the matrices hold no CLS.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv1d

SIGMA = 5.0  # of the blur, in patches
REACH = 31  # of its kernel, in patches
PAIRS_AT_ONCE = 2**22  # of patches, in work: 16 MB


def patch_words(labels: Tensor, num_words: int, patch: int) -> Tensor:
    """The most frequent word of each patch's pixels; of several, the first.

    Args:
        labels: (H, W) integers, a word for each pixel.
        num_words: Q.
        patch: side of a patch in pixels; what remains below and on the right is left out.

    Returns:
        (H // patch, W // patch) int64.
    """
    rows, columns = (side // patch for side in labels.shape)
    pixels = labels[: rows * patch, : columns * patch].long()
    blocks = pixels.reshape(rows, patch, columns, patch).transpose(1, 2).flatten(2).flatten(0, 1)
    number = torch.arange(len(blocks), device=labels.device)[:, None] * num_words
    counts = torch.bincount((number + blocks).flatten(), minlength=len(blocks) * num_words)
    # Of equal maxima argmax may take any: the word itself makes them differ.
    ranked = counts.view(-1, num_words) * num_words
    ranked -= torch.arange(num_words, device=labels.device)
    return ranked.argmax(dim=1).view(rows, columns)


def feedback_matrix(words: Tensor) -> Tensor:
    """How much each patch has to do with each other one.

    Pairs of the same word count 1 if they are connected (see ``connected``), and
    exp(-distance / largest distance) if not; pairs of different words 0. Then every row is blurred
    as a signal over the patches' numbers, which runs over the ends of the grid's rows as the
    reference's does, and divided by its sum.

    Args:
        words: (rows, columns) int64, a word for each patch.

    Returns:
        (N, N) float32; rows sum to 1.
    """
    flat, (distance, decay) = words.flatten(), _distances(*words.shape)
    size = len(flat)
    matrix = torch.empty(size, size, device=words.device)
    step = max(1, PAIRS_AT_ONCE // size)
    kernel = _gaussian(min(size, REACH)).to(words.device)
    for first in range(0, size, step):
        part = slice(first, first + step)
        same = flat[part, None] == flat
        joined = _connected(words, same, first, distance[part].to(words.device))
        related = torch.where(joined, 1.0, decay[part].to(words.device)) * same
        blurred = conv1d(related[:, None], kernel[None, None], padding=len(kernel) // 2)[:, 0]
        matrix[part] = blurred / (blurred.sum(dim=1, keepdim=True) + 1e-8)
    return matrix


def connected(words: Tensor) -> Tensor:
    """Which patches are joined by a line of patches of their word.

    From patch i towards j the line is looked at in ``n = 0 … st`` steps of 1/m of its length, with
    st = max(|dy|, |dx|) and m the largest st of the grid. So the whole of it is looked at for the
    most distant pairs only, and the matrix is not symmetric; both are the reference's.

    Args:
        words: (rows, columns) integers.

    Returns:
        (N, N) bool.
    """
    flat = words.flatten()
    distance, _ = _distances(*words.shape)
    return _connected(words, flat[:, None] == flat, 0, distance.to(words.device))


def _connected(words: Tensor, same: Tensor, first: int, distance: Tensor) -> Tensor:
    """``connected`` for the rows from ``first`` on: (rows, N) bool.

    Args:
        words: (rows, columns).
        same: (rows, N) bool, whether both have the same word.
        first: number of the first row's patch.
        distance: (rows, N) integers, st.
    """
    height, width = words.shape
    flat = words.flatten()
    joined = same.clone()
    alive = joined.flatten().nonzero()[:, 0]  # pairs that are still joined, and not at their end
    steps = distance.flatten()
    ys, xs = (table.to(words.device) for table in _lines(height, width))
    for n in range(1, len(ys)):  # at n = 0 the line is at patch i itself
        alive = alive[steps[alive] >= n]
        i = alive // same.shape[1] + first
        j = alive % same.shape[1]
        y = ys[n].take((i // width) * height + j // width)
        x = xs[n].take((i % width) * width + j % width)
        on = flat[y * width + x] == flat[i]
        joined.view(-1)[alive[~on]] = False
        alive = alive[on]
    return joined


@lru_cache(maxsize=8)
def _distances(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of all pairs, st (N, N) int16 and exp(-st / m) float32; m is the largest."""
    down, right = (
        (axis[:, None] - axis).abs() for axis in (torch.arange(height), torch.arange(width))
    )
    steps = torch.maximum(down[:, None, :, None], right[None, :, None, :])
    steps = steps.flatten(2).flatten(0, 1)
    largest = max(1, int(steps.max()))  # a grid of one patch has no distance but 0
    return steps.short(), torch.exp(-steps.float() / largest)


@lru_cache(maxsize=8)
def _lines(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where the lines between patches run, rounded: rows (m+1, h, h), columns (m+1, w, w) int64.

    Of row y to row y' after n of m steps, and of columns alike. In float32 and with halves to even,
    as exact positions would round to other patches where m is even.
    """
    share = torch.linspace(0, 1, max(height, width))[:, None, None]
    rows, columns = (
        (axis[:, None] * (1 - share) + axis * share).round().long()
        for axis in (torch.arange(float(height)), torch.arange(float(width)))
    )
    return rows, columns


def _gaussian(length: int) -> Tensor:
    """The blur's kernel, of an odd length and a sum of 1."""
    half = length // 2
    kernel = torch.exp(-torch.arange(-half, half + 1.0).square() / (2 * SIGMA**2))
    return kernel / kernel.sum()
