"""Prompts that begin alike: the beginning runs through the text tower once.

In a causal tower a token sees those before it alone. All words stand in the same templates, so the
keys and values of "a photo of a" are the same for every word: they are kept, and of a word's
prompts only what follows runs, two or three tokens of nine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sclip_core.config.deferred import deferred
from sclip_core.tensors import Buffers, linear

open_clip = deferred("open_clip")
KeysValues = tuple[Tensor, Tensor]  # of all tokens of all prompts, each (tokens, width)
TWO_WORDS = "x", "1"  # where their prompts part, a template's beginning ends


def is_causal(model: Any) -> bool:
    """Whether a model has open_clip's plain text tower, in which no token sees a later one."""
    mask = getattr(model, "attn_mask", None)
    plain = isinstance(model, open_clip.CLIP) and mask is not None
    return plain and model.text_pool_type == "argmax" and not model.transformer.grad_checkpointing


class Beginnings:
    """The beginnings of sets of templates, of one causal text tower."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._kept: dict[str, tuple[Sequence[Sequence[int]], list[KeysValues]]] = {}

    def features(
        self, model: Any, prompts_of: Callable[[str], Tensor], word: str, templates: str
    ) -> Tensor:
        """Features of the prompts of a word.

        Args:
            model: an open_clip model of which ``is_causal`` holds; always the same.
            prompts_of: token ids (B, 77) of any word in B templates.
            word: which.
            templates: the name of the set, under which its beginnings are kept.

        Returns:
            (B, D), in the model's dtype, not normalised.
        """
        prompts = prompts_of(word)
        lines = _tokens(prompts)
        if templates not in self._kept:
            self._kept[templates] = self._common(model, prompts_of)
        starts, before = self._kept[templates]
        if any(line[: len(start)] != start for line, start in zip(lines, starts, strict=True)):
            starts, before = [[] for _ in lines], []  # a word that joins what is before it
        rest = [line[len(start) :] for line, start in zip(lines, starts, strict=True)]
        layout = Layout.of([len(start) for start in starts], [len(r) for r in rest], prompts.device)
        x, _ = _through(model, rest, starts, layout, before)
        ends = torch.tensor([len(r) for r in rest], device=x.device).cumsum(0) - 1
        pooled: Tensor = model.ln_final(x[ends])
        projection = model.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if callable(projection) else pooled @ projection
        return projected

    @staticmethod
    def _common(
        model: Any, prompts_of: Callable[[str], Tensor]
    ) -> tuple[Sequence[Sequence[int]], list[KeysValues]]:
        """What the prompts of two words have in common, and its keys and values by layer."""
        one, other = map(prompts_of, TWO_WORDS)
        starts = [_alike(a, b) for a, b in zip(_tokens(one), _tokens(other), strict=True)]
        layout = Layout.of([0] * len(starts), [len(start) for start in starts], one.device)
        _, kept = _through(model, starts, [[] for _ in starts], layout, [])
        return starts, kept


@dataclass(frozen=True)
class Layout:
    """Where the tokens of B prompts lie: flat for products, padded for attention."""

    queries: Tensor  # (B, S) places among the new tokens
    keys: Tensor  # (B, L) places among those before, then the new ones
    seen: Tensor  # (B, 1, S, L) bool
    real: Tensor  # (tokens,) places among the B·S queries

    @classmethod
    def of(cls, before: Sequence[int], new: Sequence[int], device: torch.device) -> Layout:
        """Of prompts with so many tokens before and so many new ones."""
        lengths_before, lengths = torch.tensor(before), torch.tensor(new)
        of_old, of_new = torch.arange(max(before)), torch.arange(max(new))
        is_old, is_new = of_old < lengths_before[:, None], of_new < lengths[:, None]
        at_old, at_new = (each.cumsum(0) - each for each in (lengths_before, lengths))
        queries = (at_new[:, None] + of_new) * is_new
        keys = torch.cat([(at_old[:, None] + of_old) * is_old, (queries + sum(before)) * is_new], 1)
        below = torch.ones(len(of_new), len(of_new), dtype=torch.bool).tril()
        seen = torch.cat(  # a padded query sees something, and is not read
            [is_old[:, None].expand(-1, len(of_new), -1), below.expand(len(new), -1, -1)], dim=2
        )
        real = is_new.flatten().nonzero().flatten()
        return cls(*(t.to(device) for t in (queries, keys, seen[:, None], real)))


def _through(
    model: Any,
    new: Sequence[Sequence[int]],
    before: Sequence[Sequence[int]],
    layout: Layout,
    kept: Sequence[KeysValues],
) -> tuple[Tensor, list[KeysValues]]:
    """Run new tokens through the tower.

    Args:
        model: the model.
        new: of each prompt the tokens that run.
        before: of each prompt those before them.
        layout: of both.
        kept: keys and values of those before, by layer; empty: there are none.

    Returns:
        (tokens, width) before the last norm; and the keys and values of the new tokens by layer.
    """
    device = layout.real.device
    flat = torch.tensor([token for line in new for token in line], device=device)
    places = [len(b) + k for b, line in zip(before, new, strict=True) for k in range(len(line))]
    x = model.token_embedding(flat) + model.positional_embedding[places]
    x = x.to(model.transformer.get_cast_dtype())
    found: list[KeysValues] = []
    buffers = Buffers(reuse=False)
    for number, block in enumerate(model.transformer.resblocks):
        attn = block.attn
        q, k, v = linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
        found.append((k, v))
        if kept:
            k, v = torch.cat([kept[number][0], k]), torch.cat([kept[number][1], v])
        q, k, v = (
            values[at].unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
            for values, at in ((q, layout.queries), (k, layout.keys), (v, layout.keys))
        )
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=layout.seen)
        mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)[layout.real]
        x = x + block.ls_1(linear(mixed, attn.out_proj.weight, attn.out_proj.bias))
        x = x + block.ls_2(buffers.mlp(block.ln_2(x), *block.mlp))
    return x, found


def _tokens(prompts: Tensor) -> list[list[int]]:
    """The tokens of prompts up to the one that ends each, which has the highest id."""
    ends = prompts.argmax(dim=-1).tolist()
    return [line[: end + 1] for line, end in zip(prompts.tolist(), ends, strict=True)]


def _alike(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """How two lists of tokens begin alike."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return list(one[:count])
