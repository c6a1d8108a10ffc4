"""OV-Stitcher: CorrCLIP on the whole image, the windows' tokens stitched before attention.

Moon, Oh, Ro, "OV-Stitcher" (arXiv 2604.08110); docs/methods.md, OV-Stitcher. What the last block
of the second network and some blocks of CLIP's read is computed window by window and stitched; then
every patch of the image attends to every other one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from sclip_core.config import Geometry
from sclip_core.encoder.pixels import cut_windows
from sclip_core.encoder.tower import Tower
from sclip_core.methods.corrclip import Branches, RegionMethod
from sclip_core.methods.method import Scene
from sclip_core.methods.mixing import resampled
from sclip_core.methods.regions import (
    merged,
    mixed,
    nearest,
    painted,
    region_tokens,
    region_windows,
    spatial_blocks,
)
from sclip_core.methods.stitching import stitched, whole_image


class OVStitcher(RegionMethod):
    """OV-Stitcher; its grid is the second network's on the whole image."""

    name: ClassVar[str] = "ov-stitcher"
    second_taps: ClassVar[tuple[str, ...]] = ("penultimate",)

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """One window that covers the image, on the second network's grid."""
        return whole_image(geometry, patch)

    def features(self, scene: Scene) -> Tensor:
        """Unit features of the whole image on the second network's grid: (1, rows, columns, D)."""
        return self.total(self.branches(scene), scene.tower)[None]

    def branches(self, scene: Scene) -> Branches:
        """The three branches, each (rows, columns, width) of the whole image."""
        similar = self.similarity(scene)
        grid = (similar.shape[0], similar.shape[1])
        ids = self.ids(scene, similar)
        values = self._values(scene, grid)
        outs = mixed(similar.flatten(0, 1), ids.flatten(), values, self.scale).unflatten(0, grid)
        main, spatial = (scene.tower.out(-1, half) for half in outs.chunk(2, dim=-1))
        return Branches(main, spatial, self._semantic(scene, ids))

    def similarity(self, scene: Scene) -> Tensor:
        """The second network's features, unit length: (rows, columns, C) of the whole image.

        Its last block is computed anew on the stitched grid, with the final norm before it instead
        of after it on the residual path.
        """
        last: Any = scene.network.last
        penultimate = scene.second["penultimate"].float()
        parts = torch.cat([last.norm(penultimate), *last.qkv(penultimate)], dim=-1)
        whole = stitched(parts, scene.geometry, scene.network.patch)
        base, *qkv = whole.flatten(0, 1).chunk(4, dim=-1)
        heads = (part.unflatten(-1, (last.num_heads, -1)).transpose(0, 1)[None] for part in qkv)
        attended = scaled_dot_product_attention(*heads)[0].transpose(0, 1).flatten(1)
        tokens: Tensor = last.mlp(base + last.project(attended))
        return normalize(tokens, dim=-1).reshape(*whole.shape[:2], -1)

    def ids(self, scene: Scene, similar: Tensor) -> Tensor:
        """The merged regions of the whole image.

        Args:
            scene: with regions.
            similar: (rows, columns, C), as of ``similarity``.

        Returns:
            (rows, columns) int64.
        """
        if scene.regions is None:
            raise ValueError(f"{self.name} reads masks; found a scene without regions")
        grid = (similar.shape[0], similar.shape[1])
        layout = self.layout(scene.geometry, scene.network.patch)
        regions = region_windows(scene.regions.to(similar.device), layout)[0]
        ids = merged(nearest(regions, grid).flatten(), similar.flatten(0, 1), self.eps)
        return ids.view(grid)

    def _values(self, scene: Scene, grid: tuple[int, int]) -> Tensor:
        """Values of the main branch and of the spatial one, side by side: (M, 2·width)."""
        tower, geometry = scene.tower, scene.geometry
        main = tower.values(-1, scene.h(tower.layers - 1)[:, 1:])
        main = stitched(main.unflatten(1, geometry.tokens), geometry, tower.patch)
        blocks = spatial_blocks(tower.layers)
        outputs = [_whole_block(tower, b, scene.h(b)[:, 1:], geometry) for b in blocks]
        spatial = tower.values(-1, torch.stack(outputs).mean(dim=0))
        both = torch.cat([main, spatial], dim=-1)
        coarse = (both.shape[0], both.shape[1])
        return resampled(both.flatten(0, 1)[None], coarse, grid)[0]

    def _semantic(self, scene: Scene, ids: Tensor) -> Tensor:
        """Tokens of the regions, painted in each window, then stitched: (rows, columns, width).

        Every window has a token for every region of the image.
        """
        geometry, patch = scene.geometry, scene.network.patch
        padded = self.layout(geometry, patch).frame
        frames = replace(geometry, window=geometry.frame, padding=(0, 0, 0, 0))
        windows = cut_windows(nearest(ids, padded)[None], frames)[:, 0]
        coarse = nearest(windows, geometry.tokens)
        inputs = (scene.h(block) for block in range(scene.tower.layers))
        tokens = region_tokens(scene.tower, inputs, coarse.flatten(1), int(ids.max()) + 1)
        fine = nearest(coarse, (geometry.frame[0] // patch, geometry.frame[1] // patch))
        return stitched(painted(tokens, fine), geometry, patch)


def _whole_block(tower: Tower, block: int, x: Tensor, geometry: Geometry) -> Tensor:
    """A block of CLIP's on the stitched patches of all windows, its attention as one head.

    The scale is that of the block's own heads, though the one head is as wide as all of them.

    Args:
        tower: CLIP's.
        block: from 0.
        x: (windows, N, width), what the block reads, without CLS.
        geometry: of the windows.

    Returns:
        (rows, columns, width) of the whole image.
    """
    heads = tower.heads(block, x, prefix=0)
    qkv = (part.transpose(1, 2).flatten(2) for part in heads)
    parts = torch.cat([x, *qkv], dim=-1).unflatten(1, geometry.tokens)
    whole = stitched(parts, geometry, tower.patch)
    patches, q, k, v = whole.flatten(0, 1)[None].chunk(4, dim=-1)
    scale = heads.q.shape[-1] ** -0.5
    attended = scaled_dot_product_attention(q, k, v, scale=scale)
    output = tower.after_attention(block, patches + tower.out(block, attended))
    return output[0].reshape(*whole.shape[:2], -1)
