"""Policies: what replaces the attention of CLIP's last block; a registry, one function each.

SCLIP, "Rethinking Self-Attention for Dense Vision-Language Inference" (ECCV 2024, arXiv
2312.01597), section 3.2: Correlative Self-Attention. MaskCLIP (ECCV 2022), ClearCLIP (ECCV 2024)
and NACLIP (WACV 2025) as in NACLIP's public code. See docs/protocol.md, section 3.

A policy takes queries, keys and values (B, heads, 1+N, d_head) with CLS first, and the patch grid
(rows, columns) with rows·columns = N; it returns (B, heads, 1+N, d_head) in their dtype. Of a tower
without CLS they are (B, heads, N, d_head): the patches are the last N tokens in any case. Policies
of users get copies, which they may overwrite and return, and their code is part of the key of their
features. Those of this file only read their arguments, and ``DenseFeaturesStage.version`` stands
for their code.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.config import UserError, unknown
from sclip_core.config.methods import ATTENTIONS, built_in_methods
from sclip_core.config.plugins import check_name, claim, where
from sclip_core.encoder.code import code_digest
from sclip_core.tensors import attend, is_finite

PolicyFunction = Callable[..., Tensor]  # of q, k, v, grid, and of its parameters by name

ARCHS = ("vanilla", "reduced")  # NACLIP's terms: the whole block, or its attention output alone
POLICIES: dict[str, tuple[PolicyFunction, str]] = {}


def policy(name: str, arch: str = "vanilla") -> Callable[[PolicyFunction], PolicyFunction]:
    """Register a policy.

    Args:
        name: for ``--attention NAME``. A function may be defined again under its name, as by a
            reloaded module or a notebook's cell that runs again.
        arch: what surrounds the attention by default: ``vanilla`` keeps the block's residual and
            MLP, ``reduced`` is the attention's output alone.

    Raises:
        UserError: the name is invalid or taken by another function, or the arch is unknown.
    """
    check_name("attention", name)
    if arch not in ARCHS:
        raise unknown("arch", arch, ARCHS)

    def register(function: PolicyFunction) -> PolicyFunction:
        """Add the function to the registry and return it unchanged."""
        if not callable(function):
            kind = type(function).__name__
            raise UserError(
                f"attention '{name}': expected a function of q, k, v, grid; found {kind}"
            )
        if getattr(function, "__module__", None) == __name__ and name not in POLICIES:
            POLICIES[name] = (function, arch)
        else:
            _check_arguments(name, function)
            taken, value = (*BUILT_IN, *built_in_methods()), (function, arch)
            undo = partial(ATTENTIONS.discard, name)
            claim("attention", name, function, lambda: POLICIES, value, taken, undo)
        ATTENTIONS.add(name)
        return function

    return register


def register_own(function: PolicyFunction) -> str:
    """Register a function under its own name, unless ``@policy`` has; returns the name."""
    for name, (known, _) in POLICIES.items():
        if known is function:
            return name
    name = getattr(function, "__name__", type(function).__name__)
    policy(name)(function)
    return str(name)


def _check_arguments(name: object, function: Any) -> None:
    """Refuse a function that cannot take q, k, v and grid."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of C code
        return
    try:
        signature.bind("q", "k", "v", "grid", **dict.fromkeys(_declared(function)))
    except TypeError:
        raise UserError(
            f"attention '{name}': expected a function of q, k, v, grid, and of parameters by "
            f"keyword; found {where(function)}{signature}"
        ) from None


def _declared(function: Any) -> dict[str, Any]:
    """The keyword-only arguments of a function and their usual values."""
    own = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in own if p.kind is p.KEYWORD_ONLY}


@policy("csa")
def csa(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """SCLIP: S(q·qᵀ)·v + S(k·kᵀ)·v; rows of weights sum to 2, as in the public code."""
    return attend(q, q, v) + attend(k, k, v)


@policy("vanilla")
def vanilla(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """CLIP as trained: S(q·kᵀ)·v."""
    return attend(q, k, v)


@policy("maskclip")
def maskclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """MaskCLIP: every token keeps its own value."""
    return v


@policy("clearclip", arch="reduced")
def clearclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """ClearCLIP: S(q·qᵀ)·v without residual and MLP."""
    return attend(q, q, v)


@policy("naclip", arch="reduced")
def naclip(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """NACLIP: S(k·kᵀ + G)·v, with a Gaussian G around each patch."""
    before = k.shape[2] - grid[0] * grid[1]
    return attend(k, k, v, attn_mask=neighbourhood(grid, prefix=before).to(k))


@policy("kk")
def kk(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """S(k·kᵀ)·v: NACLIP without its Gaussian."""
    return attend(k, k, v)


@lru_cache(maxsize=2)
def neighbourhood(grid: tuple[int, int], sigma: float = 5.0, prefix: int = 1) -> Tensor:
    """G of NACLIP (1+N, 1+N): exp(-|p_i - p_j|² / 2σ²), 0 where CLS is one of the two.

    ``prefix`` is the number of tokens before the patches, 1 with CLS alone.
    """
    rows, columns = (torch.arange(float(size)) for size in grid)
    squared_y, squared_x = ((axis[:, None] - axis).square() for axis in (rows, columns))
    squared = squared_y[:, None, :, None] + squared_x[None, :, None, :]
    gaussian = torch.exp(-squared / (2 * sigma**2)).flatten(2).flatten(0, 1)
    return pad(gaussian, (prefix, 0, prefix, 0))


BUILT_IN = dict(POLICIES)  # of this file: their code is in no key


class Attention(NamedTuple):
    """A policy and what surrounds it."""

    policy: str
    arch: str

    @classmethod
    def parse(cls, text: str) -> Attention:
        """Read ``"naclip"`` or, with another arch than its own, ``"naclip:vanilla"``.

        Raises:
            UserError: there is no such policy or arch.
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

    @property
    def declared(self) -> dict[str, Any]:
        """The policy's parameters and their usual values: its keyword-only arguments."""
        return _declared(POLICIES[self.policy][0])

    def with_parameters(self, values: Mapping[str, Any]) -> Attention:
        """This one with other values of its parameters, as a policy of its own: ``x(tau=2.0)``.

        Raises:
            UserError: a value is of another type than the usual one.
        """
        declared = self.declared
        given: dict[str, Any] = {}
        for name, value in sorted(values.items()):
            usual = declared[name]
            if isinstance(usual, float) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if usual is not inspect.Parameter.empty and type(value) is not type(usual):
                raise UserError(
                    f"parameter {name}={value} of attention '{self.policy}': expected "
                    f"{type(usual).__name__}, such as {usual}"
                )
            if value != usual:
                given[name] = value
        if not given:
            return self
        function, arch = POLICIES[self.policy]
        spelled = " ".join(f"{name}={value}" for name, value in given.items())
        tuned = f"{self.policy}({spelled})"
        POLICIES[tuned] = partial(function, **given), arch
        return self._replace(policy=tuned)

    @property
    def code(self) -> str | None:
        """A digest of a user's function and its arch; None for built-in policies."""
        function, arch = POLICIES[self.policy]
        if self._built_in:
            return None
        return hashlib.sha256(f"{arch} {code_digest(function)}".encode()).hexdigest()[:16]

    @property
    def _built_in(self) -> bool:
        return POLICIES[self.policy] == BUILT_IN.get(self.policy)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Run the policy's function.

        Raises:
            UserError: a user's function returned another type, shape or dtype, or NaN.
        """
        function, _ = POLICIES[self.policy]
        if self._built_in:
            return function(q, k, v, grid)
        own_q, own_k, own_v = (
            heads.clone(memory_format=torch.contiguous_format) for heads in (q, k, v)
        )
        mixed = function(own_q, own_k, own_v, grid)
        self._check(mixed, q, k, v)
        return mixed

    def _check(self, mixed: object, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Refuse what a user's function must not return."""
        expected = f"expected (B, heads, 1+N, d_head) = {_kind(v)}"
        if not isinstance(mixed, Tensor):
            found = type(mixed).__name__
            raise UserError(f"attention '{self.policy}' returned {found}: {expected}")
        if _kind(mixed) != _kind(v):
            raise UserError(f"attention '{self.policy}' returned {_kind(mixed)}: {expected}")
        if not is_finite(mixed) and all(map(is_finite, (q, k, v))):
            raise UserError(
                f"attention '{self.policy}' returned numbers that are not finite, for queries, "
                "keys and values that are: look for a division by 0 or an overflow in it"
            )


def _kind(heads: Tensor) -> str:
    """Shape, dtype and device of a tensor."""
    return f"{tuple(heads.shape)}, {str(heads.dtype).removeprefix('torch.')}, {heads.device}"
