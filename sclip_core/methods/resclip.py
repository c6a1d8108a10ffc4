"""ResCLIP: attention of the middle blocks, and of a first labelling, beside that of the last.

"ResCLIP: Residual Attention for Training-free Dense Vision-language Inference" (CVPR 2025, arXiv
2411.15851), on NACLIP's keys and Gaussian; docs/methods.md, ResCLIP. The features depend on the
words: a first pass labels the patches, and patches of one word attend to each other in the second.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sclip_core.config import Protocol
from sclip_core.encoder.attention import neighbourhood
from sclip_core.encoder.taps import Tap
from sclip_core.methods.feedback import feedback_matrix, patch_words
from sclip_core.methods.method import Method, Scene
from sclip_core.segmentation import decide
from sclip_core.segmentation.pamr import pamr

MIDDLE = range(7, 3, -1)  # blocks before the end whose attention is averaged: 5 to 8 of 12, from 0
MASKS_AT_ONCE = 2**26  # bytes of attention masks, one of (1+N)² numbers for each window

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1e3)]


class ResCLIP(Method):
    """ResCLIP on NACLIP, with its settings for COCO-Stuff."""

    name: ClassVar[str] = "resclip"
    reads_words: ClassVar[bool] = True

    tau_r: Factor = 2.0
    """Factor of the attention's rows, which sum to it."""
    l_r: Share = 0.4
    """Share of the middle blocks' attention in both passes."""
    tau_s: Factor = 1.8
    """Factor of the second pass's scores, before the Gaussian is added."""
    l_s: Share = 0.7
    """Share of the first pass's labelling in the second's scores."""
    temp_thd: Annotated[float, Field(ge=0, le=1)] = 0.11
    """Pixels whose word is less probable than this take word 0 in the first pass."""
    first_scale: Annotated[float, Field(gt=0, le=1e30)] = 40.0
    """Factor of the first pass's logits before the softmax over words."""
    first_pamr_steps: Annotated[int, Field(ge=0, le=1000)] = 10
    """PAMR's iterations in the first pass, with the dilations 8 and 16."""

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """H_5 to H_8 and H_11 of 12 blocks; in other towers the same counted from the end."""
        numbers = [*middle_blocks(layers), layers - 1]
        return tuple(dict.fromkeys(Tap.of(number) for number in numbers))

    @torch.no_grad()
    def features(self, scene: Scene) -> Tensor:
        """Unit-length features of the second pass: (windows, rows, columns, D) float32."""
        tower, grid = scene.tower, scene.geometry.tokens
        x, last = scene.h(tower.layers - 1), tower.layers - 1
        tokens = tower.prefix + grid[0] * grid[1]
        step = max(1, MASKS_AT_ONCE // (4 * tokens**2))
        features = []
        for first in range(0, len(x), step):
            part = slice(first, first + step)
            k, v = tower.some_heads(last, x[part], "kv")
            middle = middle_attention(scene, v, part)
            labelled = tower.features(self.first_pass(scene, k, v, middle)[:, tower.prefix :])
            words = [
                self.words_of_patches(scene, first + number, of_one.unflatten(0, grid))
                for number, of_one in enumerate(labelled)
            ]
            refined = self.second_pass(scene, k, v, middle, torch.stack(words))
            features.append(tower.features(refined[:, tower.prefix :]).unflatten(1, grid))
        return torch.cat(features)

    def first_pass(self, scene: Scene, k: Tensor, v: Tensor, middle: Tensor) -> Tensor:
        """NACLIP's attention and the middle blocks': (B, 1+N, width), before ln_post.

        Args:
            scene: for the tower and the grid.
            k: keys of the last block, (B, heads, 1+N, d_head).
            v: its values, of the same shape.
            middle: as of ``middle_attention``.
        """
        before = scene.tower.prefix
        gaussian = neighbourhood(scene.geometry.tokens, prefix=before).to(k)
        return self._mixed(scene, sdpa(k, k, v, attn_mask=gaussian), middle)

    def second_pass(
        self, scene: Scene, k: Tensor, v: Tensor, middle: Tensor, words: Tensor
    ) -> Tensor:
        """The first pass, whose scores get a share of the labelling's.

        Arguments as of ``first_pass``, and:

        Args:
            scene: as there.
            k: as there.
            v: as there.
            middle: as there.
            words: (B, rows, columns), the word of each patch.
        """
        before = scene.tower.prefix
        gaussian = neighbourhood(scene.geometry.tokens, prefix=before)
        scores = gaussian.to(k).repeat(len(words), 1, 1, 1)
        for number, of_one in enumerate(words):
            feedback = feedback_matrix(of_one)
            feedback *= self.tau_s * self.l_s / feedback.max()
            scores[number, 0, before:, before:] += feedback
        scale = self.tau_s * (1 - self.l_s) / k.shape[-1] ** 0.5
        return self._mixed(scene, sdpa(k, k, v, attn_mask=scores, scale=scale), middle)

    def _mixed(self, scene: Scene, own: Tensor, middle: Tensor) -> Tensor:
        mixed = self.tau_r * ((1 - self.l_r) * own + self.l_r * middle)
        return scene.tower.out(scene.tower.layers - 1, mixed)

    def words_of_patches(self, scene: Scene, window: int, features: Tensor) -> Tensor:
        """The word of each patch of a window.

        Args:
            scene: for words and pixels.
            window: its number.
            features: (rows, columns, D), unit length.

        Returns:
            (rows, columns) int64.
        """
        if scene.words is None:
            raise AssertionError("resclip reads words, and the scene has none")
        pixels = scene.pixels()[window].to(features.device)
        cosines = (features @ scene.words.to(features).T).permute(2, 0, 1)
        logits = interpolate(cosines[None], size=pixels.shape[1:], mode="bilinear")[0]
        logits = pamr(pixels, logits, self.first_pamr_steps, (8, 16))
        rule = Protocol(logit_scale=self.first_scale, prob_thd=self.temp_thd)
        number = len(scene.words)
        labels = decide(lambda: [logits], torch.arange(number, device=logits.device), number, rule)
        return patch_words(
            torch.from_numpy(labels.astype("int64")).to(features.device),
            number,
            scene.tower.patch,
        )


def middle_blocks(layers: int) -> list[int]:
    """The blocks, from 0, whose plain attention is averaged: 5 to 8 of 12."""
    return [max(0, layers - before) for before in MIDDLE]  # a tower may have fewer than 7


def middle_attention(scene: Scene, v: Tensor, part: slice) -> Tensor:
    """The mean of the middle blocks' attentions, as trained, on the values of the last.

    Args:
        scene: for taps and tower.
        v: (B, heads, 1+N, d), of some windows; head j goes with head j of each block.
        part: which windows.

    Returns:
        (B, heads, 1+N, d).
    """
    total = torch.zeros_like(v)
    blocks = middle_blocks(scene.tower.layers)
    for block in blocks:
        q, k = scene.tower.some_heads(block, scene.h(block)[part], "qk")
        total += sdpa(q, k, v)
    return total / len(blocks)
