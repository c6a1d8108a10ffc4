"""Networks in bf16 on a CPU: against float32, against the product's own pace, and their labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.encoder_rows import REPEATS, encoder, window_gflop, windows
from benchmarks.mask_rows import random_sam
from benchmarks.measure import Registry, Row, alternate, seconds
from sclip_core import SCLIP, Protocol
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.encoder import DenseEncoder
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.towers import in_dtype
from sclip_core.masks.sam.encoder import SamEncoder
from sclip_core.tensors.half import cast
from sclip_core.tensors.products import linear

FP32_GOAL, PACE_GOAL, LABELS_GOAL = 2.6, 0.8, 0.999
PRODUCT = (2955, 768, 3072)  # rows, in, out: the first half of the MLP, for 15 windows
SCENES = 20
DEMO = Protocol(short_side=192, slide_crop=48, slide_stride=24)
CLASSES = ["sky", "grass", "sea", "sand", "road", "wall", "box", "ball", "tree", "house"]


def product(dtype: torch.dtype, quick: bool) -> Callable[[], object]:
    """A product of the tower's size in a dtype, by whichever library is faster."""
    rows, inner, outer = (size // (16 if quick else 1) for size in PRODUCT)
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    return partial(linear, x, weight)


@torch.no_grad()
def tower_row(quick: bool) -> Row:
    """ViT-B/16 on the windows of an image."""
    count = 1 if quick else 15
    exact, pixels = encoder(quick), windows(count)
    half = DenseEncoder(in_dtype(copy.deepcopy(exact.visual), torch.bfloat16), exact.attention)
    one, other = exact.patch_features(pixels), half.patch_features(pixels)
    least = float((one * other).sum(-1).min())
    functions: dict[str, Callable[[], object]] = {
        "bf16": partial(half.patch_features, pixels),
        "fp32": partial(exact.patch_features, pixels),
        "open_clip": partial(exact.visual, pixels),
        "product": product(torch.bfloat16, quick),
        "product32": product(torch.float32, quick),
    }
    for function in functions.values():
        function()
    taken = alternate(functions, 1 if quick else REPEATS)
    size = 2.0 * math.prod(side // (16 if quick else 1) for side in PRODUCT)
    pace, pace32 = (size / taken[name] / 1e9 for name in ("product", "product32"))
    gflop = count * window_gflop(exact.visual, ["csa"])
    share, ratio = gflop / taken["bf16"] / pace, taken["open_clip"] / taken["bf16"]
    return Row(
        name=f"encoder in bf16 on a CPU, {count} windows",
        goal=f"≥ {FP32_GOAL}× open_clip in fp32, ≥ {PACE_GOAL:.0%} of the bf16 product",
        measured=(
            f"{seconds(taken['bf16'])}, {share:.0%} of the product's {pace:.0f} GFLOP/s (open_clip "
            f"{seconds(taken['open_clip'])}, ours in fp32 {seconds(taken['fp32'])}; product in "
            f"fp32 {pace32:.0f}); cosines ≥ {least:.6f}"
        ),
        ratio=ratio,
        floor=seconds(gflop / pace),
        met=ratio >= FP32_GOAL and share >= PACE_GOAL,
        detail={"seconds": taken, "share": share, "least_cosine": least, "gflop": gflop},
    )


def labels_row(quick: bool) -> Row:
    """The labels of drawn scenes by the demo's CLIP, with and without PAMR."""
    exact, half = (SCLIP.load("sclip-demo", "scenes", "cpu", dtype) for dtype in ("fp32", "bf16"))
    rng, equal = evaluation_rng(0), []
    scenes = [draw_scene(rng, 240, 320).image for _ in range(1 if quick else SCENES)]
    for steps in (0, 10):
        protocol = DEMO.replace(pamr_steps=steps)
        same = [
            float((_labels(exact, scene, protocol) == _labels(half, scene, protocol)).mean())
            for scene in scenes
        ]
        equal.append(float(np.mean(same)))
    return Row(
        name=f"labels in bf16 on a CPU, demo CLIP, {len(scenes)} scenes",
        goal=f"≥ {LABELS_GOAL:.1%} as in fp32",
        measured=f"{equal[0]:.3%} without PAMR, {equal[1]:.3%} with 10 steps",
        ratio=min(equal),
        met=min(equal) >= LABELS_GOAL,
        detail={"equal": equal},
    )


def _labels(model: SCLIP, image: Any, protocol: Protocol) -> Any:
    return model.segment(image, protocol=protocol, classes=CLASSES).labels


@torch.no_grad()
def _compared(
    name: str, exact: Callable[[Tensor], Tensor], half: Callable[[Tensor], Tensor], pixels: Tensor
) -> Row:
    """The same network in both dtypes on the same pixels."""
    one, other = exact(pixels).float(), half(pixels).float()
    cosine = float(cosine_similarity(one, other, dim=-1).min())
    functions: dict[str, Callable[[], object]] = {
        "fp32": partial(exact, pixels),
        "bf16": partial(half, pixels),
    }
    taken = alternate(functions, 2)
    ratio = taken["fp32"] / taken["bf16"]
    return Row(
        name=f"{name} in bf16 on a CPU",
        goal="faster than ours in fp32",
        measured=(
            f"{seconds(taken['bf16'])} (fp32 {seconds(taken['fp32'])}); cosines ≥ {cosine:.5f}"
        ),
        ratio=ratio,
        met=ratio > 1,
        detail={"seconds": taken, "least_cosine": cosine},
    )


@cache
def _dino(quick: bool) -> nn.Module:
    torch.manual_seed(0)
    name = "vit_tiny_patch16_224" if quick else "vit_base_patch16_224"
    vit: nn.Module = timm.create_model(name, num_classes=0, pretrained=False)
    return vit.eval()


def other_rows(quick: bool) -> Iterator[Row]:
    """SAM's encoder on one image, and a second network on the windows of one."""
    sam = random_sam(quick).image_encoder
    half_sam = copy.deepcopy(sam)
    cast(half_sam, half_sam.blocks, torch.bfloat16)
    side = int(sam.img_size)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    encoders = (SamEncoder(each) for each in (sam, half_sam))
    flat = (partial(_channels_last, each) for each in encoders)
    yield _compared("SAM's image encoder", *flat, image)
    vit, half_vit = _dino(quick), copy.deepcopy(_dino(quick))
    cast(half_vit, half_vit.blocks, torch.bfloat16)  # type: ignore[arg-type]
    networks = (partial(_tokens, SecondNetwork(each)) for each in (vit, half_vit))
    yield _compared("DINO ViT-B/16, 15 windows,", *networks, windows(1 if quick else 15))


def _channels_last(encode: SamEncoder, image: Tensor) -> Tensor:
    return encode(image).permute(0, 2, 3, 1)


def _tokens(network: SecondNetwork, pixels: Tensor) -> Tensor:
    return network.taps(pixels, ["tokens"])["tokens"]


def half_rows(quick: bool) -> Iterator[Row]:
    """The tower, its labels, and the other networks."""
    yield tower_row(quick)
    yield labels_row(quick)
    yield from other_rows(quick)


ROWS: Registry = {"half": half_rows}
