"""Dense CLIP features: the image tower with another attention in its last block.

SCLIP (arXiv 2312.01597), section 3, and docs/protocol.md, section 3: all blocks but the last are
unchanged; the last block's attention is a policy of ``attention.py``; then ln_post and the
projection, for every token. What these are in towers of other families: docs/backbones.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sclip_core.config import UserError, unknown
from sclip_core.encoder.attention import Attention, vanilla
from sclip_core.encoder.positions import POSITIONS
from sclip_core.encoder.taps import Taken, Tap
from sclip_core.encoder.tower import Tower
from sclip_core.encoder.towers import backbone_of
from sclip_core.tensors import Buffers, is_finite

TRAINED = Attention.parse("vanilla")


class DenseEncoder:
    """A frozen image tower of open_clip's that gives a feature for every patch.

    Where a shape has 1+N tokens, CLS first, other towers have ``backbone.prefix`` + N.
    """

    def __init__(self, visual: nn.Module, attention: Attention) -> None:
        """Wrap an image tower.

        Args:
            visual: of a family in ``towers``, on its device, in its dtype.
            attention: the last block's policy.

        Raises:
            UserError: the tower is of none of them.
        """
        self.backbone = backbone_of(visual)
        self.visual: Any = visual.eval().requires_grad_(False)
        self.attention = attention
        self.patch = self.backbone.patch
        self.width = self.backbone.output

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.weight.device

    @property
    def image_side(self) -> int:
        """Side of the images that the tower was trained on, in pixels."""
        return self.backbone.native[0] * self.patch

    @property
    def dtype(self) -> torch.dtype:
        """Of the products in the tower's blocks."""
        return self.backbone.weight.dtype

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Projected tokens of every window.

        Args:
            pixels: (B, 3, h, w), normalised; pixels beyond a whole number of patches are ignored.

        Returns:
            (B, 1+N, D), not normalised, CLS first, in the dtype of the tower's projection.

        Raises:
            UserError: the pixels have another shape, or are smaller than a patch.
        """
        return next(self._last(self.trunk(pixels), self.grid(pixels), [self.attention]))

    @torch.no_grad()
    def patch_features(self, pixels: Tensor, attention: Attention | None = None) -> Tensor:
        """Unit-length features of the patches of every window, without CLS.

        Args:
            pixels: (B, 3, h, w), normalised.
            attention: of the last block; None: the encoder's own.

        Returns:
            (B, h // patch, w // patch, D) float32.

        Raises:
            UserError: the features are not finite numbers.
        """
        features = self.features_of(pixels, [attention or self.attention])[0]
        if not is_finite(features):
            raise UserError(
                "the features hold NaN or infinite numbers: try dtype fp32, and check the weights"
            )
        return features

    def features_of(self, pixels: Tensor, attentions: Sequence[Attention]) -> list[Tensor]:
        """Patch features by several policies, with one pass through all blocks but the last.

        Args:
            pixels: (B, 3, h, w), normalised.
            attentions: policies of the last block.

        Returns:
            For each policy (B, h // patch, w // patch, D) float32, unit length.
        """
        return self.features_from(self.trunk(pixels), self.grid(pixels), attentions)

    @torch.no_grad()
    def trunk(self, pixels: Tensor) -> Tensor:
        """The input of the last block, which depends on no policy.

        Args:
            pixels: (B, 3, h, w), normalised.

        Returns:
            (B, 1+N, width) in the dtype of the tower's stream, CLS first.
        """
        return self.taps(pixels, [self.trunk_tap])[self.trunk_tap]

    @torch.no_grad()
    def taps(
        self, pixels: Tensor, wanted: Sequence[Tap], positions: str = "reference"
    ) -> dict[Tap, Tensor]:
        """Outputs of the tower's blocks, in one pass through as many as are needed.

        Args:
            pixels: (B, 3, h, w), normalised.
            wanted: outputs of blocks, or means of them; none of the last.
            positions: how the position table is resized to other grids, of ``POSITIONS``.

        Returns:
            Each (B, 1+N, width) in the dtype of the tower's stream, CLS first.

        Raises:
            UserError: there is no such rule of positions.
        """
        if positions not in POSITIONS:
            raise unknown("positions", positions, POSITIONS)
        taken, grid = Taken(wanted), self.grid(pixels)
        backbone = self.backbone
        x = backbone.embed(pixels.to(self.device, backbone.outer.dtype), grid, positions)
        taken.add(0, x)
        buffers = Buffers.of(backbone.weight)
        for block in range(taken.last):
            heads = backbone.heads(block, x, grid, buffers, backbone.prefix)
            mixed = vanilla(*heads, grid)
            x = backbone.complete(block, x, backbone.project(block, mixed, buffers), buffers)
            taken.add(block + 1, x)
        return taken.of(backbone.stream)

    @property
    def trunk_tap(self) -> Tap:
        """What the last block reads."""
        return Tap.of(self.backbone.layers - 1)

    @property
    def tower(self) -> Tower:
        """The tower's parts, for methods, on images of the size that it was trained on."""
        return self.tower_on(self.backbone.native)

    def tower_on(self, grid: tuple[int, int]) -> Tower:
        """The tower's parts, for methods, on windows of so many rows and columns of patches."""
        return Tower(self.backbone, grid)

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> Tensor:
        """CLIP's own embedding of whole images, pooled as in training, without a policy.

        Args:
            pixels: (B, 3, h, w), normalised.

        Returns:
            (B, D) float32, unit length.
        """
        last = next(self._last_block(self.trunk(pixels), self.grid(pixels), [TRAINED]))
        return normalize(self.backbone.pooled(last).float(), dim=-1)

    @torch.no_grad()
    def features_from(
        self, trunk: Tensor, grid: tuple[int, int], attentions: Sequence[Attention]
    ) -> list[Tensor]:
        """Unit-length patch features from the input of the last block.

        Args:
            trunk: (B, 1+N, width), as of ``trunk``.
            grid: patch rows and columns; their product is N.
            attentions: policies of the last block.

        Returns:
            For each policy (B, rows, columns, D) float32.
        """
        trunk = trunk.to(self.device, self.backbone.stream)
        return [
            normalize(tokens[:, self.backbone.prefix :].float(), dim=-1).unflatten(1, grid)
            for tokens in self._last(trunk, grid, attentions)
        ]

    def _last(
        self, x: Tensor, grid: tuple[int, int], attentions: Sequence[Attention]
    ) -> Iterator[Tensor]:
        """Projected tokens (B, 1+N, D) by each policy, from the last block's input ``x``."""
        for mixed in self._last_block(x, grid, attentions):
            yield self.backbone.embedding(self.backbone.norm(mixed))

    def _last_block(
        self, x: Tensor, grid: tuple[int, int], attentions: Sequence[Attention]
    ) -> Iterator[Tensor]:
        """The last block's output (B, 1+N, width) by each policy, from its input ``x``."""
        backbone = self.backbone
        buffers = Buffers.of(backbone.weight)
        heads = backbone.heads(-1, x, grid, buffers, backbone.prefix)
        for attention in attentions:
            mixed = backbone.project(-1, attention(*heads, grid), buffers)
            if attention.arch != "reduced":
                mixed = backbone.complete(-1, x.clone(), mixed, buffers)
            yield mixed

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Patch rows and columns of windows (B, 3, h, w)."""
        shape = tuple(pixels.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < self.patch:
            raise UserError(
                f"pixels of shape {shape}: expected (B, 3, h, w), normalised, with at least one "
                f"patch of {self.patch}×{self.patch}"
            )
        return shape[2] // self.patch, shape[3] // self.patch
