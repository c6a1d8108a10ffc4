"""Trident: DINO mixes CLIP's values within windows, SAM what they make over the whole image.

"Harnessing Vision Foundation Models for High-Performance, Training-Free Open Vocabulary
Segmentation" (arXiv 2411.09219), without the refinement of its labels by SAM's mask decoder;
docs/methods.md, Trident.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from sclip_core.config import Geometry
from sclip_core.encoder.second import TOKENS
from sclip_core.masks.sam.frames import PATCH, valid_grid
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.mixing import mixed_tokens, softmax_of_positive, values_on

if TYPE_CHECKING:  # segment_anything, which it needs, may not be installed
    from sclip_core.masks.sam.last_block import SamAttention

QUERIES_AT_ONCE = {"cpu": 256, "cuda": 2048}  # of SAM; on a CPU 4 MB for each matrix in work
HIGHEST = 0.9  # of a threshold, so that a patch always keeps itself
INSTEAD = 0.6  # of a threshold below 0, where those are refined


class Trident(Method):
    """Trident without its last step."""

    name: ClassVar[str] = "trident"
    second_taps: ClassVar[tuple[str, ...]] = (TOKENS,)
    reads_network: ClassVar[bool] = False
    second_patch: ClassVar[int | None] = PATCH
    reads_sam: ClassVar[bool] = True

    beta: Annotated[float, Field(ge=0, le=100)] = 1.2
    """Times the mean cosine of all windows: patches that are less alike do not see one another."""
    gamma: Annotated[float, Field(ge=0, le=1000)] = 3.0
    """What the cosines above that are multiplied by, before the softmax."""
    cos_fac: Annotated[float, Field(ge=0, le=100)] = 1.2
    """Times the mean cosine of a patch's values in SAM: what is less alike is left out."""
    refine_neg_cos: bool = True
    """Keep a threshold that is below 0; False: 0.6 in its place."""
    halves: bool = False
    """SAM sees the left and the right half of the image, each by itself."""

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """SAM's grid over the whole image, one step from the original size."""
        rows, columns = valid_grid(*geometry.original, halves=self.halves)
        return replace(
            geometry,
            window=geometry.resized,
            tops=(0,),
            lefts=(0,),
            tokens=(rows, columns * (2 if self.halves else 1)),
            whole=True,
            padding=(0, 0, 0, 0),
        )

    @torch.no_grad()
    def features(self, scene: Scene) -> Tensor:
        """Unit-length features on SAM's grid: (1, rows, columns, D) float32."""
        return scene.tower.features(self.tokens(scene))[None]

    def tokens(self, scene: Scene) -> Tensor:
        """What ln_post reads: (rows, columns, width) float32, on SAM's grid."""
        patches = stitched(self.window_tokens(scene), scene.geometry)
        inputs = scene.second["sam"]
        grid = valid_grid(*scene.geometry.original, halves=self.halves)
        if not self.halves:
            return self._correlated(scene.sam.attention(inputs[0]), patches, grid)
        middle = patches.shape[1] // 2
        sides = patches[:, :middle], patches[:, middle:]
        both = [
            self._correlated(scene.sam.attention(x), part, grid)
            for x, part in zip(inputs, sides, strict=True)
        ]
        return torch.cat(both, dim=1)

    def window_tokens(self, scene: Scene) -> Tensor:
        """CLIP's values, mixed in each window by DINO: (windows, rows, columns, width)."""
        patches = scene.second[TOKENS]
        grid = (patches.shape[1], patches.shape[2])
        unit = normalize(patches.flatten(1, 2).float(), dim=-1)
        # The mean of all cosines of a window is the squared length of its mean patch.
        mean = unit.mean(dim=1).square().sum(dim=1).mean()
        x = scene.h(scene.tower.layers - 1)
        tokens = []
        for of_window, x_of_window in zip(unit, x, strict=True):  # a matrix at a time
            attention = self.attention(of_window, mean)[None]
            values = values_on(scene.tower, x_of_window[None], scene.geometry.tokens, grid)
            tokens.append(mixed_tokens(scene.tower, attention, values))
        mixed: Tensor = torch.cat(tokens).unflatten(1, grid)
        return mixed

    def attention(self, unit: Tensor, mean: Tensor) -> Tensor:
        """The mixing matrix of a window.

        Args:
            unit: (M, C), DINO's patches, unit length.
            mean: of the cosines within the windows, over all windows of the image together.

        Returns:
            (M, M) float32; rows sum to 1.
        """
        return softmax_of_positive((unit @ unit.T - self.beta * mean) * self.gamma)

    def _correlated(self, sam: SamAttention, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch tokens (h, w, width) on SAM's grid, mixed by it: (rows, columns, width)."""
        planes = patches.permute(2, 0, 1)[None]
        on_grid = interpolate(planes, size=grid, mode="bilinear")[0].flatten(1).T.contiguous()
        rows = [rows @ on_grid for rows in self.correlation(sam, grid)]
        mixed: Tensor = torch.cat(rows).unflatten(0, grid)
        return mixed

    def correlation(self, sam: SamAttention, grid: tuple[int, int]) -> Iterator[Tensor]:
        """SAM's mixing matrix, some rows at a time.

        A head's attention counts where the patches' values are alike in that head; the mean over
        the heads is divided by its sum, as attention to the padding is left out.

        Args:
            sam: the last block's attention.
            grid: rows and columns that are not padding; N is their product.

        Yields:
            (rows, N) float32, in all N of them; rows sum to 1.
        """
        rows, columns = grid
        unit = normalize(sam.values[:, :rows, :columns].flatten(1, 2), dim=-1)
        thresholds = self.thresholds(unit)[:, None]
        queries = QUERIES_AT_ONCE.get(unit.device.type, QUERIES_AT_ONCE["cpu"])
        step = max(1, queries // columns)
        for top in range(0, rows, step):
            part = slice(top * columns, (top + step) * columns)
            total = unit.new_zeros(len(thresholds[part]), unit.shape[1])
            for head, values in enumerate(unit):
                weights = sam.weights(head, slice(top, min(top + step, rows)), columns)
                kept = weights[:, :, :rows, :columns].reshape(total.shape)
                total += kept.masked_fill_(values[part] @ values.T <= thresholds[part], 0)
            # Attention may lie in the padding but for shares that only just differ from 0.
            yield total / total.sum(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)

    def thresholds(self, unit: Tensor) -> Tensor:
        """The cosine that a patch's keys have to exceed, the same in all heads: (N,).

        Args:
            unit: (heads, N, d), values of SAM's last block, unit length.
        """
        # The mean of a patch's cosines is its product with the mean patch.
        mean = (unit * unit.mean(dim=1, keepdim=True)).sum(dim=-1).mean(dim=0)
        thresholds = self.cos_fac * mean
        if not self.refine_neg_cos:
            thresholds = thresholds.masked_fill(thresholds < 0, INSTEAD)
        return thresholds.clamp_max(HIGHEST)


def stitched(tokens: Tensor, geometry: Geometry) -> Tensor:
    """The windows' tokens on the grid of the whole resized image, averaged where they overlap.

    Args:
        tokens: (windows, rows, columns, width), in patches of 16 pixels.
        geometry: of the windows; their corners are multiples of 16 where ``image_multiple`` is 16.

    Returns:
        (rows, columns, width) of the whole image.
    """
    height, width = (side // PATCH for side in geometry.resized)
    total = tokens.new_zeros(height, width, tokens.shape[-1])
    count = tokens.new_zeros(height, width, 1)
    corners = [(y // PATCH, x // PATCH) for y in geometry.tops for x in geometry.lefts]
    for (y, x), window in zip(corners, tokens, strict=True):
        rows, columns = slice(y, y + window.shape[0]), slice(x, x + window.shape[1])
        total[rows, columns] += window[: height - y, : width - x]
        count[rows, columns] += 1
    return total / count.clamp_min(1)
