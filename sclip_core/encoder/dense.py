"""Dense CLIP features: the image tower with another attention in its last block.

SCLIP (arXiv 2312.01597), section 3, and docs/protocol.md, section 3: all blocks but the last are
unchanged; the last block's attention is a policy of ``attention.py``; then ln_post and the
projection, for every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from sclip_core.config import UserError, unknown
from sclip_core.encoder.attention import Attention, vanilla
from sclip_core.encoder.blocks import complete, heads_of, project
from sclip_core.encoder.taps import Taken, Tap
from sclip_core.encoder.tower import Tower
from sclip_core.tensors import Buffers, is_finite

TRAINED = Attention.parse("vanilla")
PLAIN = {"ResidualAttentionBlock"}
NOT_A_VIT = {"ModifiedResNet": "is a ResNet", "TimmModel": "comes from timm"}
REMEMBERED = 16  # resized position tables: one for each shape of image would fill a GPU


class DenseEncoder:
    """A frozen open_clip ``VisionTransformer`` that gives a feature for every patch."""

    def __init__(self, visual: nn.Module, attention: Attention) -> None:
        """Wrap an image tower.

        Args:
            visual: open_clip's plain ``VisionTransformer``, on its device, in its dtype.
            attention: the last block's policy.

        Raises:
            UserError: the tower is not a plain ViT.
        """
        check_tower("this model", visual)
        tower: Any = visual.eval().requires_grad_(False)
        self.visual = tower
        self.attention = attention
        self.patch = int(tower.patch_size[0])
        self.width = int(tower.proj.shape[1])
        self._resized_positions = lru_cache(maxsize=REMEMBERED)(self._resize_positions)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.visual.proj.device
        return device

    @property
    def image_side(self) -> int:
        """Side of the images that the tower was trained on, in pixels."""
        return int(self.visual.grid_size[0]) * self.patch

    @property
    def dtype(self) -> torch.dtype:
        """The tower's dtype."""
        dtype: torch.dtype = self.visual.proj.dtype
        return dtype

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Projected tokens of every window.

        Args:
            pixels: (B, 3, h, w), normalised; pixels beyond a whole number of patches are ignored.

        Returns:
            (B, 1+N, D) in the tower's dtype, not normalised, CLS first.

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
            (B, 1+N, width) in the tower's dtype, CLS first.
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
            Each (B, 1+N, width) in the tower's dtype, CLS first.

        Raises:
            UserError: there is no such rule of positions.
        """
        if positions not in POSITIONS:
            raise unknown("positions", positions, POSITIONS)
        taken, grid = Taken(wanted), self.grid(pixels)
        x = self._embed(pixels.to(self.device, self.dtype), grid, positions)
        taken.add(0, x)
        buffers = Buffers.of(x)
        for number, block in enumerate(self.visual.transformer.resblocks[: taken.last], 1):
            mixed = vanilla(*heads_of(block, x, buffers), grid)
            x = complete(block, x, project(block, mixed, buffers), buffers)
            taken.add(number, x)
        return taken.of(self.dtype)

    @property
    def trunk_tap(self) -> Tap:
        """What the last block reads."""
        return Tap.of(len(self.visual.transformer.resblocks) - 1)

    @property
    def tower(self) -> Tower:
        """The tower's parts, for methods."""
        return Tower(self.visual)

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> Tensor:
        """CLIP's own embedding of whole images, pooled as in training, without a policy.

        Args:
            pixels: (B, 3, h, w), normalised.

        Returns:
            (B, D) float32, unit length.
        """
        last = next(self._last_block(self.trunk(pixels), self.grid(pixels), [TRAINED]))
        pooled, _ = self.visual._pool(last)  # CLS, in all of OpenAI's; open_clip norms it too
        return normalize((pooled @ self.visual.proj).float(), dim=-1)

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
        trunk = trunk.to(self.device, self.dtype)
        return [
            normalize(tokens[:, 1:].float(), dim=-1).unflatten(1, grid)
            for tokens in self._last(trunk, grid, attentions)
        ]

    def _last(
        self, x: Tensor, grid: tuple[int, int], attentions: Sequence[Attention]
    ) -> Iterator[Tensor]:
        """Projected tokens (B, 1+N, D) by each policy, from the last block's input ``x``."""
        for mixed in self._last_block(x, grid, attentions):
            projected: Tensor = self.visual.ln_post(mixed) @ self.visual.proj
            yield projected

    def _last_block(
        self, x: Tensor, grid: tuple[int, int], attentions: Sequence[Attention]
    ) -> Iterator[Tensor]:
        """The last block's output (B, 1+N, width) by each policy, from its input ``x``."""
        block, buffers = self.visual.transformer.resblocks[-1], Buffers.of(x)
        heads = heads_of(block, x, buffers)
        for attention in attentions:
            mixed = project(block, attention(*heads, grid), buffers)
            if attention.arch != "reduced":
                mixed = complete(block, x.clone(), mixed, buffers)
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

    def _embed(self, pixels: Tensor, grid: tuple[int, int], positions: str) -> Tensor:
        """Patches and CLS with their positions, through ln_pre: (B, 1+N, width)."""
        visual = self.visual
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([cls, patches], dim=1) + self._position_embedding(grid, positions)
        embedded: Tensor = visual.ln_pre(x)
        return embedded

    def _position_embedding(self, grid: tuple[int, int], positions: str) -> Tensor:
        """The position table, resized by a rule unless that takes it as it is."""
        table: Tensor = self.visual.positional_embedding
        native = tuple(self.visual.grid_size)
        # The reference looks at the number of tokens, not at the shape.
        if grid == native or (positions == "reference" and 1 + grid[0] * grid[1] == len(table)):
            return table
        return self._resized_positions(positions, grid)

    def _resize_positions(self, positions: str, grid: tuple[int, int]) -> Tensor:
        visual = self.visual
        return POSITIONS[positions](visual.positional_embedding, visual.grid_size, grid)


def resize_positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resize a position table to another patch grid: docs/protocol.md, section 3.

    The 0.1 keeps the size from being rounded down. It enters the sampling coordinates too, because
    PyTorch is given the scale, not the size.

    Args:
        table: (1+rows·columns, width), CLS first, for the native grid.
        native: rows and columns of the table; equal in all of OpenAI's models.
        grid: rows and columns of the result.

    Returns:
        (1+rows·columns, width) in the table's dtype, computed in float32.
    """
    planes = _planes(table, native)
    scale = ((grid[0] + 0.1) / native[0], (grid[1] + 0.1) / native[1])
    resized = interpolate(planes, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
    if resized.shape[-2:] != grid:
        raise AssertionError(f"positions of {tuple(resized.shape[-2:])}, wanted {grid}")
    return torch.cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])


def antialiased_positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resize a position table as open_clip does, by its size: docs/methods.md, GEM.

    Arguments and result as of ``resize_positions``.
    """
    resized = interpolate(_planes(table, native), size=grid, mode="bicubic", antialias=True)
    return torch.cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])


def _planes(table: Tensor, native: tuple[int, int]) -> Tensor:
    """A position table without CLS as an image: (1, width, rows, columns) float32."""
    return table[1:].float().reshape(1, *native, -1).permute(0, 3, 1, 2)


# By name: what the protocol's reference does, and what open_clip does.
POSITIONS = {"reference": resize_positions, "antialiased": antialiased_positions}


def check_tower(name: str, visual: nn.Module) -> None:
    """Check that an image tower can give dense features.

    Args:
        name: of the model, for the error.
        visual: its image tower, on any device; ``meta`` suffices.

    Raises:
        UserError: it is not a plain ViT; says why, and which models are.
    """
    tower: Any = visual
    kind = type(visual).__name__
    if kind != "VisionTransformer":
        reason = NOT_A_VIT.get(kind, f"is a {kind}")
    elif tower.attn_pool is not None:
        reason = "pools by attention"
    elif {type(block).__name__ for block in tower.transformer.resblocks} != PLAIN:
        reason = "has no plain attention blocks"
    elif len(set(tower.patch_size)) > 1:
        reason = f"has patches that are not square, {tower.patch_size}"
    else:
        return
    raise UserError(
        f"{name} cannot give dense features: its image tower {reason}. Take an open_clip model "
        "with a plain ViT tower, e.g. ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14"
    )
