"""CorrCLIP: patches mix within the regions of masks, by the similarities of a second network.

Zhang, Liu, Tang, "CorrCLIP" (arXiv 2411.10086), the first published version; docs/methods.md,
CorrCLIP. Three branches are summed: the values of the last block, the values of the mean of some
blocks before it (spatial), and a token of CLIP's for each region (semantic). The vote of regions
on labels comes after the decision, in ``vote.py``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core.config import Geometry
from sclip_core.encoder.taps import Tap
from sclip_core.encoder.tower import Tower
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.mixing import on_second_grid, values_on
from sclip_core.methods.regions import (
    merged,
    mixed,
    nearest,
    painted,
    region_tokens,
    region_windows,
    spatial_blocks,
)

Factor = Annotated[float, Field(ge=0, le=1e3)]


class Branches(NamedTuple):
    """What ln_post reads in each branch, all of one shape (..., width) float32."""

    main: Tensor
    spatial: Tensor
    semantic: Tensor


class RegionMethod(Method):
    """The parameters and the sum that CorrCLIP and OV-Stitcher share."""

    reads_masks: ClassVar[bool] = True
    needs_cls: ClassVar[bool] = True  # the regions' tokens are copies of it

    scale: Annotated[float, Field(gt=0, le=1e3)] = 4.0
    """Factor on the second network's similarities before the softmax."""
    eps: Annotated[float, Field(ge=0, le=2)] = 0.2
    """Regions of at most this distance are merged; see ``regions.merged``."""
    spatial: Factor = 1.0
    """Share of the spatial branch; the main branch has 1."""
    semantic: Factor = 0.5
    """Share of the semantic branch."""

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """What every block reads: the regions' tokens go through all of them."""
        return tuple(Tap.of(block) for block in range(layers))

    def total(self, branches: Branches, tower: Tower) -> Tensor:
        """The branches' sum, each through ln_post first, as unit features (..., D)."""
        main, spatial, semantic = (tower.ln_post(branch) for branch in branches)
        summed = main + self.spatial * spatial + self.semantic * semantic
        return normalize(tower.project(summed), dim=-1)


class CorrCLIP(RegionMethod):
    """CorrCLIP on a ViT of any size, with the similarities of a DINO."""

    name: ClassVar[str] = "corrclip"
    second_taps: ClassVar[tuple[str, ...]] = ("queries+keys",)
    reads_network: ClassVar[bool] = False

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """On the second network's grid in each window."""
        return on_second_grid(geometry, patch)

    def features(self, scene: Scene) -> Tensor:
        """Unit features on the second network's grid: (windows, rows, columns, D)."""
        return self.total(self.branches(scene), scene.tower)

    def branches(self, scene: Scene) -> Branches:
        """The three branches, each (windows, rows, columns, width)."""
        similar = self.similarity(scene)
        ids = self.ids(scene, similar)
        grid = (similar.shape[1], similar.shape[2])
        windows = zip(similar.flatten(1, 2), ids.flatten(1), self._values(scene, grid), strict=True)
        outs = torch.stack([mixed(*window, self.scale) for window in windows]).unflatten(1, grid)
        main, spatial = (scene.tower.out(-1, half) for half in outs.chunk(2, dim=-1))
        return Branches(main, spatial, self._semantic(scene, ids))

    def similarity(self, scene: Scene) -> Tensor:
        """The second network's features, unit length: (windows, rows, columns, C)."""
        return normalize(scene.second["queries+keys"].float(), dim=-1)

    def ids(self, scene: Scene, similar: Tensor) -> Tensor:
        """The merged regions of every window, on the second network's grid.

        Args:
            scene: with regions.
            similar: (windows, rows, columns, C), as of ``similarity``.

        Returns:
            (windows, rows, columns) int64.
        """
        if scene.regions is None:
            raise ValueError(f"{self.name} reads masks; found a scene without regions")
        grid = (similar.shape[1], similar.shape[2])
        regions = region_windows(scene.regions.to(similar.device), scene.geometry)
        windows = zip(nearest(regions, grid).flatten(1), similar.flatten(1, 2), strict=True)
        ids = torch.stack([merged(*window, self.eps) for window in windows])
        return ids.view(-1, *grid)

    def _values(self, scene: Scene, grid: tuple[int, int]) -> Tensor:
        """Values of the main branch and of the spatial one, side by side: (windows, M, 2·width)."""
        tower, tokens = scene.tower, scene.geometry.tokens
        before = [scene.h(block + 1) for block in spatial_blocks(tower.layers)]
        both = (scene.h(tower.layers - 1), torch.stack(before).mean(dim=0))
        return torch.cat([values_on(tower, x, tokens, grid) for x in both], dim=-1)

    def _semantic(self, scene: Scene, ids: Tensor) -> Tensor:
        """Tokens of the regions, painted on the second grid: (windows, rows, columns, width)."""
        coarse = nearest(ids, scene.geometry.tokens)
        inputs = (scene.h(block) for block in range(scene.tower.layers))
        tokens = region_tokens(scene.tower, inputs, coarse.flatten(1), int(ids.max()) + 1)
        return painted(tokens, nearest(coarse, (ids.shape[1], ids.shape[2])))
