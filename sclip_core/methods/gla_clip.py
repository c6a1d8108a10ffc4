"""GLA-CLIP: ProxyCLIP whose patches see those of all windows, with scopes of their own.

docs/methods.md, GLA-CLIP. A patch is compared by its *proxy*, the mean of the patches of the whole
image that are like it, and the scale of its softmax follows the number of those.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core.config import Geometry
from sclip_core.encoder.second import TOKENS
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.mixing import mixed_tokens, on_second_grid, values_on

CHUNK_ELEMENTS = 2**24  # of a block of rows: 64 MB, of which five or so exist at once


class Proxies(NamedTuple):
    """What some patches are compared by."""

    similarity: Tensor  # (R, N), of their proxies with all patches of the image
    sizes: Tensor  # (R, 1), of how many patches each proxy is the mean


class GLACLIP(Method):
    """CLIP's last values of all windows, mixed by the likeness of DINO's patches to proxies."""

    name: ClassVar[str] = "gla-clip"
    second_taps: ClassVar[tuple[str, ...]] = (TOKENS,)
    reads_network: ClassVar[bool] = False

    iterations: Annotated[int, Field(ge=1, le=100)] = 2
    """How often the proxy of a patch is made anew."""
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.55
    """Cosine above which a patch belongs to a proxy."""
    beta_alpha: Annotated[float, Field(ge=0, le=100)] = 0.3
    """How beta, the factor of a row's mean, grows with the windows: 1 + this·ln(1 + windows)."""
    gamma_alpha: Annotated[float, Field(ge=0, le=10000)] = 30.0
    """How gamma, the scale of a row, falls with its proxy's patches: 1 + this / patches."""

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """The second network's grid in each window."""
        return on_second_grid(geometry, patch)

    def features(self, scene: Scene) -> Tensor:
        """The features of an image; see ``Method``."""
        shape = scene.second[TOKENS].shape[:3]
        features: Tensor = scene.tower.features(self.tokens(scene)).unflatten(0, shape)
        return features

    def tokens(self, scene: Scene) -> Tensor:
        """What ln_post reads, of the patches of all windows in order: (N, width) float32."""
        patches = scene.second[TOKENS]
        target = (patches.shape[1], patches.shape[2])
        x = scene.h(scene.tower.layers - 1)
        values = values_on(scene.tower, x, scene.geometry.tokens, target).flatten(0, 1)
        keys = normalize(patches.flatten(0, 2).float(), dim=-1)
        chunk = max(1, CHUNK_ELEMENTS // len(keys))
        return torch.cat(
            [
                mixed_tokens(
                    scene.tower,
                    self.attention(keys, slice(start, start + chunk), len(patches)),
                    values,
                )
                for start in range(0, len(keys), chunk)
            ]
        )

    def attention(self, keys: Tensor, rows: slice, windows: int) -> Tensor:
        """Rows of the mixing matrix of an image.

        Args:
            keys: (N, C) float32, the second network's tokens of all windows, unit length.
            rows: which; they do not depend on one another.
            windows: of the image.

        Returns:
            (R, N) float32; every row sums to 1.
        """
        similarity, sizes = self.proxies(keys, rows)
        mean = similarity.mean(dim=-1, keepdim=True).clamp_(min=0)  # means, not similarities
        beta = 1 + self.beta_alpha * math.log(1 + windows)
        return scoped_softmax(similarity, beta * mean, 1 + self.gamma_alpha / sizes)

    def proxies(self, keys: Tensor, rows: slice) -> Proxies:
        """Proxies of some patches; arguments as of ``attention``."""
        similarity = keys[rows] @ keys.T
        start = rows.start or 0
        for _ in range(self.iterations):
            like = similarity.gt_(self.threshold)
            alone = (~like.any(dim=-1)).float()  # like none, not even itself: itself alone
            like.diagonal(offset=start).add_(alone)
            sizes = like.sum(dim=-1, keepdim=True)
            proxy = normalize(like @ keys / (sizes + 1e-6), dim=-1)
            similarity = proxy @ keys.T
        return Proxies(similarity, sizes)


def scoped_softmax(similarity: Tensor, least: Tensor, scale: Tensor) -> Tensor:
    """Row softmax over what exceeds a bound; a row where nothing does keeps its largest.

    Args:
        similarity: (R, N); overwritten.
        least: (R, 1), the bound.
        scale: (R, 1), what the excess is multiplied by.

    Returns:
        (R, N); every row sums to 1.
    """
    scores = similarity.sub_(least).mul_(scale)
    lowest = scores.amax(dim=-1, keepdim=True).clamp_(max=0)
    return scores.masked_fill_(scores < lowest, -torch.inf).softmax(dim=-1)
