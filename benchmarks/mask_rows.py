"""Mask proposals against segment_anything's own generator with the same weights; and hybrid mode.

The weights are random, drawn so that masks differ and about half of them pass the filters: the
rows say how long it takes, and nothing about quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cases import VGA, Case
from benchmarks.measure import (
    Registry,
    Row,
    alternate,
    matmul_gflops,
    megabytes,
    peak_extra_mb,
    seconds,
)
from sclip_core.config.masks import MaskSettings
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.masks import RULES, Evidence, Proposals, pooled_logits
from sclip_core.masks.proposals import run_lengths
from sclip_core.segmentation import Stitcher

SIZE = (426, 640)
ENCODER_GFLOP = 970.0  # of SAM's ViT-B, as segment_anything runs it
MASKS = 100
ENCODER_GOAL, DECODER_GOAL, MEMORY_GOAL, HYBRID_GOAL_MS = 2.0, 3.0, 3.0, 30.0
SETTINGS: dict[str, Any] = {
    "points_per_side": 8,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.7,
    "box_nms_thresh": 1.0,  # the boxes of random masks are all about the whole image
}


@cache
@torch.no_grad()
def random_sam(quick: bool) -> Any:
    """A SAM with random weights whose masks vary in size, shape and score."""
    from segment_anything import sam_model_registry

    from tests.masks.sam.models import build

    torch.manual_seed(0)
    sam = build() if quick else sam_model_registry["vit_b"]()
    for name, weight in sam.image_encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            weight.normal_(std=0.05)
    decoder = sam.mask_decoder
    for weight in decoder.transformer.parameters():
        if weight.ndim > 1:
            weight.mul_(3)
    for head in decoder.output_hypernetworks_mlps:
        for layer in head.layers:
            layer.weight.mul_(3)
        head.layers[-1].weight.mul_(20)
    decoder.iou_prediction_head.layers[-1].weight.mul_(3)
    decoder.iou_prediction_head.layers[-1].bias.fill_(0.7)
    return sam.eval().requires_grad_(False)


def photograph() -> NDArray[np.uint8]:
    """A drawn scene in the size of a photograph of COCO."""
    return draw_scene(evaluation_rng(0), *SIZE).image


def encoder_row(quick: bool) -> Row:
    """SAM's image encoder, and how far its output is from segment_anything's."""
    from sclip_core.masks.sam.generator import MaskGenerator

    generator = MaskGenerator(random_sam(quick), MaskSettings(**SETTINGS))
    side = generator.encoder.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    theirs = generator.sam.image_encoder
    with torch.no_grad():
        apart = float((generator.encoder(pixels) - theirs(pixels)).abs().max())
        taken = alternate(
            {"ours": lambda: generator.encoder(pixels), "theirs": lambda: theirs(pixels)},
            1 if quick else 3,
        )
    ratio = taken["theirs"] / taken["ours"]
    return Row(
        name="SAM ViT-B, image encoder",
        goal=f"≥ {ENCODER_GOAL:g}×, within 1e-4",
        measured=f"{seconds(taken['ours'])} (theirs {seconds(taken['theirs'])}), apart {apart:.0e}",
        ratio=ratio,
        floor=seconds(ENCODER_GFLOP / matmul_gflops()),
        met=ratio >= ENCODER_GOAL and apart <= 1e-4,
        detail={**taken, "apart": apart},
    )


def generator_row(quick: bool) -> Row:
    """Everything after the image encoder: the same masks from the same embedding."""
    from segment_anything import SamAutomaticMaskGenerator

    from sclip_core.masks.sam.generator import MaskGenerator

    sam, image = random_sam(quick), photograph()
    ours = MaskGenerator(sam, MaskSettings(**SETTINGS))
    theirs = SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **SETTINGS)
    size = (image.shape[0], image.shape[1])
    embedding = ours.embed(image, ours.crops(size)[0])
    theirs.predictor.set_image(image)
    predictor, features = theirs.predictor, theirs.predictor.features
    known = {k: getattr(predictor, k) for k in ("original_size", "input_size")}

    def encoded_before(*_: Any, **__: Any) -> None:
        predictor.features, predictor.is_image_set = features, True
        for name, value in known.items():
            setattr(predictor, name, value)

    predictor.set_image = encoded_before

    def by_ours() -> Proposals:
        return ours.propose(size, lambda number: embedding)

    def by_theirs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = theirs.generate(image)
        return found

    worst = worst_iou(by_ours(), by_theirs())
    extra = {"ours": peak_extra_mb(by_ours), "theirs": peak_extra_mb(by_theirs)}
    taken = alternate({"ours": by_ours, "theirs": by_theirs}, 1 if quick else 3)
    ratio, less = taken["theirs"] / taken["ours"], extra["theirs"] / max(extra["ours"], 1.0)
    return Row(
        name=f"SAM ViT-B, after the encoder, {SETTINGS['points_per_side'] ** 2} points, "
        f"{len(by_ours())} masks",
        goal=f"≥ {DECODER_GOAL:g}×, memory ≤ 1/{MEMORY_GOAL:g}, IoU ≥ 0.999",
        measured=f"{seconds(taken['ours'])}, {megabytes(extra['ours'])} "
        f"(theirs {seconds(taken['theirs'])}, {megabytes(extra['theirs'])}); "
        f"worst IoU {worst:.5f}",
        ratio=ratio,
        met=ratio >= DECODER_GOAL and less >= MEMORY_GOAL and worst >= 0.999,
        detail={**taken, "extra_mb": extra, "worst_iou": worst},
    )


def worst_iou(ours: Proposals, theirs: list[dict[str, Any]]) -> float:
    """The lowest IoU of masks in the same order; 0 if there are not equally many."""
    if len(ours) != len(theirs):
        return 0.0
    ious = [1.0]
    for mask, other in zip(ours.masks(), theirs, strict=True):
        runs = run_lengths(other["segmentation"]["counts"].encode())
        there = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(mask.T.shape).T
        ious.append(float((mask & there).sum() / max(1, (mask | there).sum())))
    return min(ious)


def hybrid_row(rule: str, quick: bool) -> Row:
    """Hybrid mode: encoded masks filled with labels by one of the rules."""
    case = Case.named("coco_stuff", VGA, quick)
    refiner, labels = case.refiner, case.labels()
    proposals = ellipses(case.refiner.geometry.original, MASKS)
    crops = torch.randn(MASKS, len(case.query_class), generator=torch.Generator().manual_seed(0))

    def scores() -> torch.Tensor:
        if rule == "crop":
            return crops
        stitcher = Stitcher(refiner.geometry)
        return pooled_logits(proposals, stitcher, refiner.features, refiner.embeddings)

    evidence = Evidence(
        proposals, labels, case.query_class, case.num_classes, refiner.protocol, scores
    )

    def ours() -> NDArray[Any]:
        return RULES[rule](evidence)

    ours()
    taken = alternate({"ours": ours}, 1 if quick else 5)["ours"]
    return Row(
        name=f"hybrid, {rule}, {MASKS} masks, {case}",
        goal=f"≤ {HYBRID_GOAL_MS:g} ms",
        measured=f"{seconds(taken)}, {megabytes(peak_extra_mb(ours))}",
        met=1e3 * taken <= HYBRID_GOAL_MS,
        detail={"ours_s": taken, "mean_share": float(proposals.areas.mean() / labels.size)},
    )


def ellipses(size: tuple[int, int], count: int) -> Proposals:
    """Masks as those of things are: small and large ellipses with wavy edges."""
    rng = np.random.default_rng(0)
    height, width = size
    x, y = np.mgrid[:width, :height]
    masks = []
    for _ in range(count):
        place = rng.uniform((0, 0), (width, height))
        radii = np.exp(rng.uniform(np.log(0.02), np.log(0.5), 2)) * min(size)
        wave = 0.3 * np.sin(x / 7) * np.cos(y / 5)
        distance = ((x - place[0]) / radii[0]) ** 2 + ((y - place[1]) / radii[1]) ** 2
        masks.append(distance + wave < 1)
    return Proposals.of_masks(np.stack(masks))


def mask_rows(quick: bool) -> Iterator[Row]:
    """SAM's encoder, the rest of SAM, and each rule of hybrid mode."""
    yield encoder_row(quick)
    yield generator_row(quick)
    for rule in RULES:
        yield hybrid_row(rule, quick)


ROWS: Registry = {"masks": mask_rows}
