"""SAM on a GPU, against segment_anything there: medians by CUDA events, random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_rows import event_seconds
from benchmarks.mask_rows import SETTINGS, photograph, random_sam, worst_iou
from benchmarks.measure import Registry, Row, seconds
from sclip_core.config.masks import MaskSettings

GOAL = 4.0
POINTS = 32  # a side, as usual


def encoder_row(device: torch.device, dtype: torch.dtype, quick: bool) -> Row:
    """The image encoder on one image; theirs in fp32, as its generator runs it."""
    from sclip_core.masks.sam.encoder import SamEncoder

    theirs = random_sam(quick).to(device).image_encoder
    side = int(theirs.img_size)
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        expected: Tensor = theirs(pixels)
        before = event_seconds(lambda: theirs(pixels), 5)
        ours = SamEncoder(theirs.to(dtype))
        apart = float((ours(pixels).float() - expected).norm() / expected.norm())
        taken = event_seconds(lambda: ours(pixels), 5)
        theirs.to(torch.float32)
    name = str(dtype).removeprefix("torch.")
    return Row(
        name=f"GPU: SAM ViT-B, image encoder in {name}",
        goal=f"≥ {GOAL:g}× segment_anything's",
        measured=f"{seconds(taken)} (theirs {seconds(before)}), apart {apart:.0e}",
        ratio=before / taken,
        met=before / taken >= GOAL,
        detail={"ours": taken, "theirs": before, "apart": apart},
    )


def generator_row(device: torch.device, quick: bool) -> Row:
    """All of the automatic generator, from pixels to masks, both in fp32."""
    from segment_anything import SamAutomaticMaskGenerator

    from sclip_core.masks.sam.generator import MaskGenerator

    sam, image = random_sam(quick).to(device), photograph()
    settings: dict[str, Any] = {**SETTINGS, "points_per_side": 4 if quick else POINTS}
    ours = MaskGenerator(sam, MaskSettings(**settings))
    theirs = SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **settings)
    worst = worst_iou(ours(image), theirs.generate(image))
    taken = event_seconds(lambda: ours(image), 3)
    before = event_seconds(lambda: theirs.generate(image), 1)
    return Row(
        name=f"GPU: SAM ViT-B, {settings['points_per_side'] ** 2} points, pixels to masks",
        goal=f"≥ {GOAL:g}× segment_anything's",
        measured=f"{seconds(taken)} (theirs {seconds(before)}), {len(ours(image))} masks, "
        f"worst IoU {worst:.5f}",
        ratio=before / taken,
        met=before / taken >= GOAL,
        detail={"ours": taken, "theirs": before, "worst_iou": worst},
    )


def mask_rows(quick: bool) -> Iterator[Row]:
    """All rows where there is a GPU; with ``quick``, the same code on the CPU."""
    if not torch.cuda.is_available() and not quick:
        yield Row("GPU: SAM", f"≥ {GOAL:g}×", "not measured: no CUDA device here", met=None)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for dtype in (torch.float32, torch.bfloat16):
        yield encoder_row(device, dtype, quick)
    yield generator_row(device, quick)


ROWS: Registry = {"gpu-masks": mask_rows}
