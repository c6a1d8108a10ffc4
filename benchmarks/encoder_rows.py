"""The encoder against the matrix product of the same machine, and several policies in one pass.

A machine's speed changes from minute to minute, so each pass is compared with the products that
ran right before and right after it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.measure import (
    Registry,
    Row,
    alternate,
    machine,
    matmul_gflops,
    seconds,
    seconds_of,
)
from sclip_core.encoder import Attention, DenseEncoder, encode_word
from sclip_core.encoder.beginnings import Beginnings
from sclip_core.encoder.text import TEMPLATES, encode_prompts

REPEATS = 5
WINDOW = 224  # pixels
POLICIES = ("csa", "vanilla", "naclip")
WORDS = ("cat", "traffic light", "grass", "road", "hot dog", "wall-brick", "sky", "person")
CORES = {"csa": 2, "maskclip": 0}  # attention maps that a policy computes; all others: 1


@cache
def encoder(quick: bool) -> DenseEncoder:
    """ViT-B/16 with random weights, CSA; quick: a ViT of three narrow blocks."""
    torch.manual_seed(0)
    if quick:
        visual: Any = VisionTransformer(WINDOW, 16, 64, 3, 2, 4.0, output_dim=32)
    else:
        visual = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).visual
    return DenseEncoder(visual, Attention.parse("csa"))


@cache
def windows(count: int) -> Tensor:
    """Random pixels (count, 3, 224, 224)."""
    return torch.randn(count, 3, WINDOW, WINDOW, generator=torch.Generator().manual_seed(0))


def window_gflop(tower: Any, policies: Sequence[str]) -> float:
    """GFLOP of one window: linear layers, attention, patch embedding, projection.

    Args:
        tower: open_clip's ``VisionTransformer``.
        policies: of the last block, which share its queries, keys and values.
    """
    width, output = tower.proj.shape
    patches = (WINDOW // tower.patch_size[0]) ** 2
    tokens, blocks = patches + 1, len(tower.transformer.resblocks)
    embedding = 2 * patches * 3 * tower.patch_size[0] ** 2 * width
    heads, out, mlp = (2 * tokens * width**2 * share for share in (3, 1, 8))
    core = 4 * tokens**2 * width  # weights, then the mix of the values
    flop = embedding + (blocks - 1) * (heads + core + out + mlp) + heads
    for name in policies:
        attention = Attention.parse(name)
        flop += CORES.get(attention.policy, 1) * core + out
        flop += mlp if attention.arch == "vanilla" else 0
        flop += 2 * tokens * width * output
    return float(flop) / 1e9


def rate_row(count: int, quick: bool) -> Row:
    """GFLOP/s of one batch as a share of the matrix product's."""
    ours, pixels = encoder(quick), windows(count)
    gflop = count * window_gflop(ours.visual, ["csa"])
    ours.tokens(pixels)
    taken, rates, shares = [], [], []
    before = matmul_gflops(1 if quick else 3)
    for _ in range(1 if quick else REPEATS):
        taken.append(seconds_of(partial(ours.tokens, pixels)))
        after = matmul_gflops(1 if quick else 3)
        rates.append((before + after) / 2)
        shares.append(gflop / taken[-1] / rates[-1])
        before = after
    share, elapsed, rate = (statistics.median(x) for x in (shares, taken, rates))
    return Row(
        name=f"encoder {ours.width}-d, {count} windows of {WINDOW}, {gflop / count:.1f} GFLOP each",
        goal="≥ 85 % of the matrix product",
        measured=f"{share:.1%}, {seconds(elapsed)}, {gflop / elapsed:.0f} GFLOP/s",
        ratio=share,
        floor=seconds(gflop / rate),
        met=share >= 0.85,
        detail={"seconds": taken, "gflop": gflop, "matmul_gflops": rates, "shares": shares},
    )


def encoder_rows(quick: bool) -> Iterator[Row]:
    """A batch of the size of one image's windows, and a larger one."""
    return (rate_row(count, quick) for count in ((1, 2) if quick else (16, 32)))


def policy_rows(quick: bool) -> Iterator[Row]:
    """Three policies of the last block in one pass, against one policy."""
    ours, pixels = encoder(quick), windows(2 if quick else 16)
    attentions = [Attention.parse(name) for name in POLICIES]
    functions: dict[str, Callable[[], object]] = {
        "one": partial(ours.patch_features, pixels),
        "three": partial(ours.features_of, pixels, attentions),
    }
    for function in functions.values():
        function()
    taken = alternate(functions, 1 if quick else REPEATS)
    ratio = taken["three"] / taken["one"]
    one, three = (window_gflop(ours.visual, names) for names in (["csa"], POLICIES))
    floor = machine().floor(1e9 * len(pixels) * three, 0)
    yield Row(
        name=f"{', '.join(POLICIES)} in one pass, {len(pixels)} windows",
        goal="≤ 1.25× the time of csa",
        measured=f"{seconds(taken['three'])}, csa {seconds(taken['one'])}",
        ratio=ratio,
        floor=f"{seconds(floor)}, {three / one:.2f}× by FLOP",
        met=ratio <= 1.25,
        detail={"seconds": taken, "gflop_ratio": three / one},
    )


def text_rows(quick: bool) -> Iterator[Row]:
    """Words in the 80 templates: beginnings once for all words, against whole prompts."""
    torch.manual_seed(0)
    model: Any = open_clip.create_model("ViT-B-32" if quick else "ViT-B-16", pretrained=None)
    model.eval()
    tokenizer, kept = open_clip.SimpleTokenizer(), Beginnings()
    words = WORDS[: 1 if quick else None]

    def whole(word: str) -> Tensor:
        """As this project did before: the prompts of a word, padding cut."""
        prompts = tokenizer([template(word) for template in TEMPLATES["openai"]])
        vectors = normalize(encode_prompts(model, prompts).float(), dim=-1)
        return normalize(vectors.mean(dim=0), dim=-1)

    def ours(word: str) -> Tensor:
        return encode_word(model, tokenizer, word, beginnings=kept)

    def each(encode: Callable[[str], Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [encode(word) for word in words]

    apart = max(float((a - b).abs().max()) for a, b in zip(each(whole), each(ours), strict=True))
    functions: dict[str, Callable[[], object]] = {
        "whole": partial(each, whole),
        "ours": partial(each, ours),
    }
    taken = {k: v / len(words) for k, v in alternate(functions, 1 if quick else REPEATS).items()}
    ratio = taken["whole"] / taken["ours"]
    theirs = f"whole {seconds(taken['whole'])}, {apart:.0e} apart"
    yield Row(
        name=f"text tower of ViT-B/16, one of {len(words)} words in 80 templates",
        goal="≥ 3× whole prompts",
        measured=f"{seconds(taken['ours'])} a word, {theirs}",
        ratio=ratio,
        met=ratio >= 3,
        detail={"seconds": taken, "apart": apart},
    )


ROWS: Registry = {"encoder": encoder_rows, "policies": policy_rows, "text": text_rows}
