"""Semantic feedback of ResCLIP: which patches belong together, from a first labelling of them.

"ResCLIP: Residual Attention for Training-free Dense Vision-language Inference" (CVPR 2025, arXiv
2411.15851), semantic feedback refinement; docs/methods.md, ResCLIP. Patches are numbered row by
row; the matrices hold no CLS.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv1d

SIGMA = 5.0  # of the blur, in patches
REACH = 31  # of its kernel, in patches


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
        words: (rows, columns) integers, a word for each patch.

    Returns:
        (N, N) float32; rows sum to 1.
    """
    flat = words.flatten()
    related = torch.where(connected(words), 1.0, _decay(*words.shape).to(words.device))
    related *= flat[:, None] == flat
    kernel = _gaussian(min(len(flat), REACH)).to(words.device)
    blurred = conv1d(related[:, None], kernel[None, None], padding=len(kernel) // 2)[:, 0]
    return blurred / (blurred.sum(dim=1, keepdim=True) + 1e-8)


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
    height, width = words.shape
    numbers = words.unique(return_inverse=True)[1]
    if not numbers.any():  # one word
        return torch.ones(height * width, height * width, dtype=torch.bool, device=words.device)
    numbers = numbers.to(torch.uint8 if numbers.max() < 256 else torch.int32)
    down, right = (_lines(size, max(height, width)).to(words.device) for size in (height, width))
    # Pairs of rows times pairs of columns, each with the most distant first: those with n steps
    # or more come first, so that slices of the matrix are all that a step needs.
    of_i = numbers[down.start][:, right.start]
    joined = numbers[down.at[-1]][:, right.at[-1]] == of_i
    for n in range(1, len(down.at)):  # at n = 0 the line is at patch i itself
        rows, columns = down.longer[n], right.longer[n]
        on_line = numbers[:, right.at[n]]
        joined[:rows] &= on_line[down.at[n, :rows]] == of_i[:rows]
        near = on_line[:, :columns].contiguous()[down.at[n, rows:]]
        joined[rows:, :columns] &= near == of_i[rows:, :columns]
    ordered = joined[down.place][:, right.place].view(height, height, width, width)
    return ordered.transpose(1, 2).reshape(height * width, -1)


class _Lines(NamedTuple):
    """Where lines between the positions of an axis run: P pairs, the most distant first."""

    start: Tensor  # (P,) int64, where the line of a pair starts
    at: Tensor  # (m+1, P) int64, where it is after n of m steps, rounded
    longer: list[int]  # for each n, how many pairs are n or more apart
    place: Tensor  # (size²,) int64, where the pair of start i and end j is: entry i·size + j

    def to(self, device: torch.device) -> _Lines:
        """The same on another device."""
        start, at, place = (part.to(device) for part in (self.start, self.at, self.place))
        return _Lines(start, at, self.longer, place)


@lru_cache(maxsize=16)
def _lines(size: int, largest: int) -> _Lines:
    """The lines of an axis of ``size`` patches, where the longer axis has ``largest``.

    In float32 and with halves to even: exact positions would round to other patches where m is
    even.
    """
    axis = torch.arange(size)
    apart = (axis[:, None] - axis).abs().flatten()
    order = apart.argsort(descending=True, stable=True)
    start, end = order // size, order % size
    share = torch.linspace(0, 1, largest)[:, None]
    at = (start.float() * (1 - share) + end.float() * share).round().long()
    longer = [int((apart >= n).sum()) for n in range(largest)]
    return _Lines(start, at, longer, order.argsort())


@lru_cache(maxsize=4)
def _decay(height: int, width: int) -> Tensor:
    """Of all pairs of patches, exp(-st / m): (N, N) float32."""
    down, right = (
        (axis[:, None] - axis).abs() for axis in (torch.arange(height), torch.arange(width))
    )
    steps = torch.maximum(down[:, None, :, None], right[None, :, None, :]).flatten(2)
    largest = max(1, height - 1, width - 1)  # a grid of one patch has no distance but 0
    return torch.exp(-steps.flatten(0, 1).float() / largest)


def _gaussian(length: int) -> Tensor:
    """The blur's kernel, of an odd length and a sum of 1."""
    half = length // 2
    kernel = torch.exp(-torch.arange(-half, half + 1.0).square() / (2 * SIGMA**2))
    return kernel / kernel.sum()
