"""GEM: tokens attend to those like them, in the last blocks, beside CLIP's own path.

"Grounding Everything: Emerging Localization Properties in Vision-Language Transformers", arXiv
2312.00878, and docs/methods.md, GEM.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from sclip_core.encoder.taps import Tap
from sclip_core.encoder.tower import Tower
from sclip_core.methods.method import Method, Scene


class GEM(Method):
    """GEM, with the values of its public code for ViT-B/16.

    It was published for heat maps of single images of 448×448 pixels; it has no protocol of any
    benchmark.
    """

    name: ClassVar[str] = "gem"
    positions: ClassVar[str] = "antialiased"
    templates: ClassVar[str] = "photo"

    depth: Annotated[int, Field(ge=2, le=1000)] = 7
    """One more than the last blocks that add to the features; of a lower tower, all but the first.
    """
    iterations: Annotated[int, Field(ge=0, le=100)] = 1
    """How often queries, keys and values are made more alike before they mix the values."""

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """What each of the last ``depth - 1`` blocks reads: H_6 … H_11 of 12 blocks."""
        first = min(max(1, layers - self.depth + 1), layers - 1)
        return tuple(Tap.of(block) for block in range(first, layers))

    def features(self, scene: Scene) -> Tensor:
        """The features of an image's patches: (windows, rows, columns, D), unit length."""
        tower = scene.tower
        read = [tap.last for tap in self.taps(tower.layers)]
        z = scene.h(read[0]).clone()
        for block in read:  # block l, from 0, reads H_l
            z += block_output(tower, block, scene.h(block), self.iterations)
        features: Tensor = tower.features(z[:, tower.prefix :]).unflatten(1, scene.geometry.tokens)
        return features


def block_output(tower: Tower, block: int, x: Tensor, iterations: int = 1) -> Tensor:
    """What a block adds to the features: the mean of three self-self attentions, out_proj'ed.

    Args:
        tower: the parts of CLIP.
        block: from 0.
        x: (B, 1+N, width), what the block reads on CLIP's own path.
        iterations: as of ``self_self``.

    Returns:
        (B, 1+N, width).
    """
    heads = tower.heads(block, x)
    lengths = tower.ln_1(block, x).norm(dim=-1).mean(dim=-1)  # one number for each window
    tau = (lengths * heads.v.shape[-1] ** -0.5)[:, None, None, None]
    mixed = self_self(heads.q, heads.v, tau, iterations)
    mixed += self_self(heads.k, heads.v, tau, iterations)
    mixed += self_self(heads.v, heads.v, tau, iterations)
    return tower.out(block, mixed.div_(3).transpose(1, 2).flatten(2))


def self_self(stream: Tensor, values: Tensor, tau: Tensor, iterations: int = 1) -> Tensor:
    """Values mixed by the likeness of queries, of keys or of the values themselves.

    Args:
        stream: (B, heads, T, d_head), one of the three.
        values: (B, heads, T, d_head), not normalised.
        tau: (B, 1, 1, 1), factor on the cosines before their softmax.
        iterations: how often the stream itself is mixed first.

    Returns:
        (B, heads, T, d_head).
    """
    stream = normalize(stream, dim=-1)
    for _ in range(iterations):
        stream = scaled_dot_product_attention(tau * stream, stream, stream, scale=1.0)
        stream = normalize(stream, dim=-1)
    return scaled_dot_product_attention(tau * stream, stream, values, scale=1.0)
