"""ProxyCLIP (Lan et al., arXiv 2408.04883): CLIP's values, mixed by the likeness of DINO's patches.

docs/methods.md, ProxyCLIP.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core.config import Geometry
from sclip_core.encoder.second import TOKENS
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.mixing import (
    mixed_tokens,
    on_second_grid,
    softmax_of_positive,
    values_on,
)


class ProxyCLIP(Method):
    """CLIP's last values, mixed by a softmax of the cosines of DINO's patches."""

    name: ClassVar[str] = "proxyclip"
    second_taps: ClassVar[tuple[str, ...]] = (TOKENS,)
    reads_network: ClassVar[bool] = False

    beta: Annotated[float, Field(ge=0, le=100)] = 1.2
    """Times the mean cosine of a window: patches that are less alike do not see one another."""
    gamma: Annotated[float, Field(ge=0, le=1000)] = 3.0
    """What the cosines above that are multiplied by, before the softmax."""

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """The second network's grid in each window."""
        return on_second_grid(geometry, patch)

    def features(self, scene: Scene) -> Tensor:
        """The features of an image; see ``Method``."""
        grid = scene.second[TOKENS].shape[1:3]
        features: Tensor = scene.tower.features(self.tokens(scene)).unflatten(1, grid)
        return features

    def tokens(self, scene: Scene) -> Tensor:
        """What ln_post reads: (windows, M, width) float32, M the second network's patches."""
        patches = scene.second[TOKENS]
        x = scene.h(scene.tower.layers - 1)
        grid, target = scene.geometry.tokens, (patches.shape[1], patches.shape[2])
        # One window at a time: its matrix is M², 12 MB for 42×42 patches.
        return torch.cat(
            [
                mixed_tokens(
                    scene.tower,
                    self.attention(of_window.flatten(0, 1))[None],
                    values_on(scene.tower, x_of_window[None], grid, target),
                )
                for of_window, x_of_window in zip(patches, x, strict=True)
            ]
        )

    def attention(self, patches: Tensor) -> Tensor:
        """The mixing matrix of a window.

        Args:
            patches: (M, C), the second network's tokens, of any length.

        Returns:
            (M, M) float32; rows sum to 1.
        """
        unit = normalize(patches.float(), dim=-1)
        cosines = unit @ unit.T
        return softmax_of_positive((cosines - self.beta * cosines.mean()) * self.gamma)
