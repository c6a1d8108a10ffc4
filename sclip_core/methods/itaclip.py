"""ITACLIP: self-similar attention of four blocks, over five views (docs/methods.md, ITACLIP).

Aydın et al., "ITACLIP: Boosting Training-Free Semantic Segmentation with Image, Text, and
Architectural Enhancements". This is its image side, without its auxiliary texts. The
closing of its label map is ``segmentation.after.closing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sclip_core.encoder.taps import Tap
from sclip_core.encoder.tower import Tower
from sclip_core.methods.method import Method, Scene

MIDDLE = (6, 7, 9)  # of 12, counted from 0: blocks whose attention is averaged into the last's
TOGETHER = 32  # windows whose queries, keys and values are in work at once: 100 MB in ViT-B


class ITACLIP(Method):
    """The last block with its residual, without its MLP, and attention from four blocks."""

    name: ClassVar[str] = "itaclip"
    views: ClassVar[tuple[str, ...]] = ("original", "grey", "blur", "top_bottom", "left_right")

    weight: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of the views that are not flipped."""

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """The inputs of the four blocks."""
        return tuple(dict.fromkeys(Tap.of(block) for block in (*middle(layers), layers - 1)))

    def features(self, scene: Scene) -> Tensor:
        """Features of all windows: (windows, rows, columns, D) float32, *not* of unit length.

        The method adds up the logits of views, those of flipped ones flipped back. Logits and their
        interpolation are linear in a view's features and commute with flips, so that a sum of
        features, flipped back on the patch grid, gives the same logits: one map for each window.
        Its length is a part of them: where the views differ, it is below 1.
        """
        windows = scene.geometry.num_windows
        views = (
            self._of_view(scene, slice(first, first + windows))
            for first in range(0, windows * len(self.views), windows)
        )
        features = self.weight / 3 * (next(views) + next(views) + next(views))
        for axis in (1, 2):  # the rows of the first flipped view, the columns of the second
            features += (1 - self.weight) / 2 * next(views).flip(axis)
        return features

    def _of_view(self, scene: Scene, part: slice) -> Tensor:
        """Unit-length features of some rows of the taps: (windows, rows, columns, D)."""
        tower = scene.tower
        tokens = []
        for first in range(part.start, part.stop, TOGETHER):
            some = slice(first, min(first + TOGETHER, part.stop))
            inputs = {tap.last: scene.taps[tap][some].float() for tap in self.taps(tower.layers)}
            tokens.append(tower.features(self_similar(tower, inputs)[:, tower.prefix :]))
        features: Tensor = torch.cat(tokens).unflatten(1, scene.geometry.tokens)
        return features


def self_similar(tower: Tower, inputs: Mapping[int, Tensor]) -> Tensor:
    """``X + out(A·v)`` of the last block: (B, T, width).

    A is half the last block's S(q·qᵀ) + S(k·kᵀ), and half the mean of those of three blocks in the
    middle. It is only ever multiplied by the last block's values, so each of its terms is an
    attention of its own, and no matrix of all tokens is held.

    Args:
        tower: whose blocks.
        inputs: what they read, by their numbers from 0: (B, T, width), CLS first.
    """
    last = tower.layers - 1
    heads = tower.heads(last, inputs[last])
    mixed = (sdpa(heads.q, heads.q, heads.v) + sdpa(heads.k, heads.k, heads.v)) / 2
    for block in middle(tower.layers):
        for similar in tower.some_heads(block, inputs[block], "qk"):
            mixed += sdpa(similar, similar, heads.v) / 6
    return inputs[last] + tower.out(last, mixed)


def middle(layers: int) -> tuple[int, ...]:
    """The blocks in the middle, counted from 0: at the same depth in a tower of other height."""
    return tuple(block * layers // 12 for block in MIDDLE)
