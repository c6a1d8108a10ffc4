"""PEARL: keys turned towards the queries in the last block's attention (docs/methods.md, PEARL).

How much the keys are turned is the start of a polar decomposition of their correlation with the
queries, a d×d matrix for each head. What PEARL adds after the features, the propagation of logits
over a grid, is ``segmentation.tlp``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sclip_core.encoder.blocks import Heads
from sclip_core.methods.method import Method, Scene

STEPS = 5  # far from convergence, and meant so: the polar factor itself gives other features
EPSILON = 1e-6


class PEARL(Method):
    """The last block's attention output alone, with aligned keys; no residual, no MLP."""

    name: ClassVar[str] = "pearl"

    alpha: Annotated[float, Field(ge=0, le=100)] = 0.08
    """Share of the centred keys' similarity with each other."""

    def features(self, scene: Scene) -> Tensor:
        """Features of all windows, unit length: (windows, rows, columns, D) float32."""
        tower = scene.tower
        heads = tower.heads(-1, scene.h(tower.layers - 1))
        mixed = self._mixed(heads, tower.prefix)
        tokens = tower.features(tower.out(-1, mixed)[:, tower.prefix :])
        features: Tensor = tokens.unflatten(1, scene.geometry.tokens)
        return features

    def _mixed(self, heads: Heads, prefix: int = 1) -> Tensor:
        """The values, mixed by A: (B, heads, T, d); the first ``prefix`` are no patches.

        A is an ordinary attention of d + d channels, so that PyTorch never has to hold it. The
        values are filled up to as many channels, as its fast kernel on a CPU wants them.
        """
        queries, keys = joined(heads.q, heads.k, self.alpha, prefix)
        width = heads.v.shape[-1]
        mixed: Tensor = sdpa(queries, keys, pad(heads.v, (0, width)), scale=width**-0.5)
        return mixed[..., :width]


def joined(q: Tensor, k: Tensor, alpha: float, prefix: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys whose product is q·(k·R)ᵀ + alpha·k_c·k_cᵀ.

    Args:
        q: (B, heads, T, d), CLS first.
        k: the same of the keys.
        alpha: share of the second term.
        prefix: tokens before the patches.

    Returns:
        Both (B, heads, T, 2d); the first half of the keys is k·R.
    """
    q_c, k_c = centred(q, k, prefix)
    return torch.cat([q, alpha * k_c], dim=-1), torch.cat([k @ rotation(q_c, k_c), k_c], dim=-1)


def centred(q: Tensor, k: Tensor, prefix: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, heads, T, d) without their means over the patches.

    Both means weigh a patch by the length of its query. CLS, and all ``prefix`` tokens
    before the patches, have no weight, but are centred too.
    """
    weights = q.norm(dim=-1, keepdim=True)
    weights[:, :, :prefix] = 0
    # Where all queries are 0, so are the weights and the means.
    weights = weights / (weights.sum(dim=2, keepdim=True) + EPSILON)
    return (
        q - (weights * q).sum(dim=2, keepdim=True),
        k - (weights * k).sum(dim=2, keepdim=True),
    )


def rotation(q: Tensor, k: Tensor) -> Tensor:
    """R (B, heads, d, d), by which the keys are turned towards the queries.

    Five coupled Newton-Schulz steps towards B·(BᵀB)^-½, B = kᵀq. All of q and k equal, as those of
    a flat image without positions would be, B and R are 0: then only k_c·k_cᵀ counts.

    Args:
        q: centred queries (B, heads, T, d).
        k: centred keys.
    """
    correlation = k.transpose(-1, -2) @ q
    square = correlation.transpose(-1, -2) @ correlation
    size = torch.linalg.matrix_norm(square, keepdim=True).clamp(min=EPSILON)
    identity = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    root = square / size + EPSILON * identity
    inverse = identity.expand_as(root)
    for _ in range(STEPS):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    turned: Tensor = correlation @ inverse / size.sqrt()
    return turned
