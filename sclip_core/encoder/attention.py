"""What replaces the attention of CLIP's last block: a registry of policies, one function each.

SCLIP, "Rethinking Self-Attention for Dense Vision-Language Inference" (ECCV 2024, arXiv
2312.01597), section 3.2: Correlative Self-Attention. MaskCLIP (ECCV 2022), ClearCLIP (ECCV 2024)
and NACLIP (WACV 2025) as restated in the latter's public code.

A policy gets queries, keys and values (B, heads, 1+N, d_head) with CLS first, and the patch grid
(rows, columns) with rows·columns = N; it returns (B, heads, 1+N, d_head).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sclip_core.config import UserError, unknown

PolicyFunction = Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Tensor]

ARCHS = ("vanilla", "reduced")  # NACLIP's terms: the whole block, or its attention output alone
POLICIES: dict[str, tuple[PolicyFunction, str]] = {}


def policy(name: str, arch: str = "vanilla") -> Callable[[PolicyFunction], PolicyFunction]:
    """Register a policy.

    Args:
        name: how it is chosen: ``--attention NAME``.
        arch: what surrounds it unless asked otherwise: ``vanilla`` keeps the block's residual and
            MLP, ``reduced`` is the attention output alone.
    """

    def register(function: PolicyFunction) -> PolicyFunction:
        POLICIES[name] = (function, arch)
        return function

    return register


@policy("csa")
def csa(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """SCLIP: S(q·qᵀ)·v + S(k·kᵀ)·v; the rows of the weights sum to 2, as in the public code."""
    return sdpa(q, q, v) + sdpa(k, k, v)


@policy("vanilla")
def vanilla(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """CLIP as it was trained: S(q·kᵀ)·v."""
    return sdpa(q, k, v)


@policy("maskclip")
def maskclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """MaskCLIP: every token keeps its own value."""
    return v


@policy("clearclip", arch="reduced")
def clearclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """ClearCLIP: S(q·qᵀ)·v without residual and MLP."""
    return sdpa(q, q, v)


@policy("naclip", arch="reduced")
def naclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """NACLIP: S(k·kᵀ + G)·v, with a Gaussian G around each patch."""
    return sdpa(k, k, v, attn_mask=_neighbourhood(grid).to(k))


@policy("kk")
def kk(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """S(k·kᵀ)·v: NACLIP without its Gaussian."""
    return sdpa(k, k, v)


@lru_cache(maxsize=2)
def _neighbourhood(grid: tuple[int, int], sigma: float = 5.0) -> Tensor:
    """G of NACLIP (1+N, 1+N): exp(-|p_i - p_j|² / 2σ²), 0 where CLS is one of the two."""
    rows, columns = (torch.arange(float(size)) for size in grid)
    squared_y, squared_x = ((axis[:, None] - axis).square() for axis in (rows, columns))
    squared = squared_y[:, None, :, None] + squared_x[None, :, None, :]
    gaussian = torch.exp(-squared / (2 * sigma**2)).flatten(2).flatten(0, 1)
    return pad(gaussian, (1, 0, 1, 0))


class Attention(NamedTuple):
    """A policy and what surrounds it."""

    policy: str
    arch: str

    @classmethod
    def parse(cls, text: str) -> Attention:
        """Read ``"naclip"`` or, with another surrounding than its own, ``"naclip:vanilla"``.

        Raises:
            UserError: no such policy or arch.
        """
        name, _, arch = text.partition(":")
        if name not in POLICIES:
            raise unknown("attention", name, POLICIES)
        if arch and arch not in ARCHS:
            raise UserError(
                f"unknown arch '{arch}' in attention '{text}': 'vanilla' keeps the last block's "
                "residual and MLP, 'reduced' is its attention output alone"
            )
        return cls(name, arch or POLICIES[name][1])

    def __str__(self) -> str:
        """The shortest spelling, the same for the same computation."""
        own = POLICIES[self.policy][1]
        return self.policy if self.arch == own else f"{self.policy}:{self.arch}"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Run the policy's function."""
        return POLICIES[self.policy][0](q, k, v, grid)
