"""SC-CLIP: anomalous tokens repaired, attention and features smoothed by CLIP's middle blocks.

"Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation", arXiv 2411.15869, and
docs/methods.md, SC-CLIP. Every formula is of one window; B windows are computed at once. CLS never
takes part in attention.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from sclip_core.encoder.taps import Tap
from sclip_core.encoder.tower import Tower
from sclip_core.methods.method import Method, Scene

LEAST_PATCHES = 4  # of a window in which outliers are looked for
ROUNDING = 1e-13  # of a squared distance, as a share of the squared lengths
AT_ONCE = 2**25  # entries of the attention matrices in work: 128 MB each


class SCCLIP(Method):
    """SC-CLIP, by the values published for the 12 blocks of ViT-B/16.

    Only 12 blocks are published so. In a tower of another depth the blocks are counted from the
    top as there, and from block 1 at the lowest: ViT-L/14 had blocks and a residual of its own.
    """

    name: ClassVar[str] = "sc-clip"
    needs_cls: ClassVar[bool] = True  # its share in every patch

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Patches that are less alike than this cosine are not averaged."""
    residual: Annotated[float, Field(ge=0, le=100)] = 0.3
    """Share of the CLS token that is added to every patch."""
    sharpness: Annotated[float, Field(gt=0, le=1000)] = 3.0
    """Factor on the cosines of the middle block before their softmax."""
    neighbours: Annotated[int, Field(ge=1, le=65536)] = 30
    """Nearest patches that an outlier is judged by."""
    outliers: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the patches that are taken for outliers."""

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """H_4, H_9, H_11 and the mean of H_4 … H_10, of 12 blocks."""

        def block(below_the_last: int) -> int:
            return min(max(1, layers - below_the_last), layers - 1)

        early, middle, last = (Tap.of(block(below)) for below in (8, 3, 1))
        return early, middle, last, Tap(block(8), block(2))

    def features(self, scene: Scene) -> Tensor:
        """The features of an image's patches: (windows, rows, columns, D), unit length."""
        tower, grid = scene.tower, scene.geometry.tokens
        matrices = tower.num_heads * (grid[0] * grid[1]) ** 2
        size = max(1, AT_ONCE // matrices)
        wanted = self.taps(tower.layers)
        blocks_summed = wanted[-1].last - wanted[-1].first + 1
        parts = [
            self._mixed(tower, grid, early[:, 1:], middle[:, 1:], last, mean * blocks_summed)
            for early, middle, last, mean in zip(
                *(scene.taps[tap].float().split(size) for tap in wanted), strict=True
            )
        ]
        features: Tensor = tower.features(torch.cat(parts)).unflatten(1, grid)
        return features

    def _mixed(
        self,
        tower: Tower,
        grid: tuple[int, int],
        early: Tensor,
        middle: Tensor,
        last: Tensor,
        summed: Tensor,
    ) -> Tensor:
        """What ln_post reads: (B, N, width).

        Args:
            tower: the parts of CLIP.
            grid: rows and columns; their product is N.
            early: H_4 without CLS, (B, N, width).
            middle: H_9 without CLS.
            last: H_11, (B, 1+N, width), CLS first.
            summed: H_4 + … + H_10, CLS first.
        """
        patches = last[:, 1:]
        anomalous = find_outliers(outlier_factors(patches, self.neighbours), self.outliers)
        cosines = cosine_matrix(repair(middle, anomalous, grid))
        aggregated = averaging(cosines, self.beta) @ repair(patches, anomalous, grid)
        shared = shared_attention(cosines, self.sharpness)
        attended = attend(tower, aggregated, shared) + attend(tower, summed[:, 1:], shared)
        attended += self.residual * (last[:, :1] + summed[:, :1])
        return averaging(cosine_matrix(early), self.beta) @ attended


def outlier_factors(patches: Tensor, neighbours: int) -> Tensor:
    """How much farther each patch is from its neighbours than those are from theirs.

    The local outlier factor with a patch's own distance to its k-th neighbour as every reach
    distance: d_i · mean of 1/d_j over the k neighbours, of squared distances.

    Args:
        patches: (B, N, width).
        neighbours: k; N-1 where there are fewer.

    Returns:
        (B, N), NaN or infinite where a patch has k equals.
    """
    distances = squared_distances(patches)
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    k = min(neighbours, patches.shape[1] - 1)
    if not k:
        return patches.new_zeros(patches.shape[:2])
    nearest = distances.topk(k, largest=False)
    reach = nearest.values[..., -1]
    others = reach[:, None].expand_as(distances).gather(2, nearest.indices)
    return reach * others.reciprocal().mean(dim=-1)


def squared_distances(patches: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of patches (B, N, width): (B, N, N) float32.

    By products, in double precision: in single they lose the digits of patches that are nearly
    equal, and differences of all pairs take ten times as long. Equal patches are 0 apart.
    """
    double = patches.double()
    double = double - double.mean(dim=1, keepdim=True)
    products = double @ double.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    sums = squares[:, :, None] + squares[:, None]
    apart = sums - 2 * products
    return apart.masked_fill_(apart < ROUNDING * sums, 0).float()


def find_outliers(factors: Tensor, share: float) -> Tensor:
    """The patches whose outlier factor is above the window's (1 - share) quantile.

    None in a window of fewer than four patches. None either where factors are not numbers, as in a
    window of equal patches: then the quantile is none, and nothing is above it.

    Args:
        factors: (B, N), as of ``outlier_factors``.
        share: of the patches, between 0 and 1.

    Returns:
        (B, N) bool.
    """
    if factors.shape[1] < LEAST_PATCHES:
        return torch.zeros_like(factors, dtype=torch.bool)
    return factors > factors.quantile(1 - share, dim=1, keepdim=True)


def repair(patches: Tensor, anomalous: Tensor, grid: tuple[int, int]) -> Tensor:
    """Outliers become the mean of those of their eight neighbours that are none.

    One without such a neighbour stays as it is.

    Args:
        patches: (B, N, width).
        anomalous: (B, N) bool.
        grid: rows and columns; their product is N.

    Returns:
        (B, N, width), new.
    """
    sound = (~anomalous).to(patches.dtype)[..., None]
    planes = torch.cat([patches * sound, sound], dim=-1).transpose(1, 2).unflatten(2, grid)
    # Means over 3×3 patches, of which the middle counts for nothing, as it is an outlier itself.
    pooled = avg_pool2d(planes, 3, stride=1, padding=1).flatten(2).transpose(1, 2)
    sums, counts = pooled[..., :-1], pooled[..., -1:]
    return torch.where(anomalous[..., None] & (counts > 0), sums / counts, patches)


def cosine_matrix(patches: Tensor) -> Tensor:
    """Cosines of all pairs of patches (B, N, width): (B, N, N)."""
    unit = normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def averaging(cosines: Tensor, beta: float) -> Tensor:
    """The matrix that averages over patches that are alike.

    Args:
        cosines: (B, N, N).
        beta: pairs below it count for nothing.

    Returns:
        (B, N, N); rows sum to 1, or to 0 where no cosine reaches ``beta``.
    """
    kept = cosines.where(cosines >= beta, 0)
    kept /= kept.sum(dim=-1, keepdim=True) + 1e-6
    return kept


def shared_attention(cosines: Tensor, sharpness: float) -> Tensor:
    """Attention among patches that are more alike than the window's mean, for all heads.

    Args:
        cosines: (B, N, N).
        sharpness: factor on what they are above the mean.

    Returns:
        (B, N, N), rows sum to 1.
    """
    above = sharpness * (cosines - cosines.mean(dim=(1, 2), keepdim=True))
    cut = above < 0
    # Among equal patches rounding can put even a patch's cosine with itself below the mean; without
    # any entry the softmax would be NaN.
    cut.diagonal(dim1=1, dim2=2).fill_(False)
    return above.masked_fill_(cut, -torch.inf).softmax(dim=-1)


def attention_matrix(keys: Tensor, shared: Tensor) -> Tensor:
    """The mean of the shared attention and that of the keys among themselves.

    Args:
        keys: (B, heads, N, d_head).
        shared: (B, N, N).

    Returns:
        (B, heads, N, N), rows sum to 1.
    """
    scores = (keys * keys.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    weights: Tensor = scores.softmax(dim=-1)
    return weights.add_(shared[:, None]).mul_(0.5)


def attend(tower: Tower, patches: Tensor, shared: Tensor) -> Tensor:
    """The last block's attention among patches, through out_proj, without residual and MLP.

    Args:
        tower: the parts of CLIP.
        patches: (B, N, width), what the block reads, without CLS.
        shared: (B, N, N), as of ``shared_attention``.

    Returns:
        (B, N, width).
    """
    keys, values = tower.some_heads(-1, patches, "kv", prefix=0)
    mixed = attention_matrix(keys, shared) @ values
    return tower.out(-1, mixed.transpose(1, 2).flatten(2))
