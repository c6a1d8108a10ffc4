"""PAMR, stitching and decision on one image: against the eager form, in memory, in a sweep."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import eager
from benchmarks.cases import TINY, VGA, Case
from benchmarks.measure import (
    Registry,
    Row,
    alternate,
    available_gb,
    machine,
    megabytes,
    peak_extra_mb,
    seconds,
)
from benchmarks.workplace import PHOTOGRAPHS
from sclip_core import SCLIP, Protocol, Vocabulary, pamr, read_image
from sclip_core.config import tables
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.segmentation import backends, decide

REPEATS = 3  # of the eager form, which takes minutes
EAGER_GB = 15  # memory that the eager form needs for one image, with a margin
LIMIT_MB = 1000  # extra memory that is unproblematic on a laptop with 8 GB
TWELVE_MEGAPIXELS = (3000, 4000)
HUGE = (9000, 12000)
UNUSUAL: tuple[tuple[str, str, tuple[int, int], dict[str, Any]], ...] = (
    ("coco_object, prob_thd, area_thd 0.1", "coco_object", VGA, {"area_thd": 0.1}),
    ("coco_stuff, slide_crop 0", "coco_stuff", VGA, {"slide_crop": 0}),
    ("cityscapes", "cityscapes", (1024, 2048), {}),
    ("cityscapes, PAMR 10 steps", "cityscapes", (1024, 2048), {"pamr_steps": 10}),
    ("coco_stuff", "coco_stuff", TWELVE_MEGAPIXELS, {}),
    ("coco_stuff, PAMR 2 steps", "coco_stuff", TWELVE_MEGAPIXELS, {"pamr_steps": 2}),
)
STEPS, SCALES, THRESHOLDS = (0, 5, 10), (30, 40, 50), (0.05, 0.1, 0.2)  # of the sweep
SKIPPING_IMAGES, SKIPPING_SIZE = 10, (360, 480)


class Share(NamedTuple):
    """The part of the eager form's work that is done, where all of it does not fit in memory."""

    part: Tensor
    times: float  # the factor from the part's time to the whole time
    description: str

    @classmethod
    def of(cls, planes: Tensor, axis: int, what: str) -> Share:
        """All of (Q, H, W), or the first part of an axis called ``what``."""
        available = available_gb()
        count = 1 if available >= EAGER_GB else max(3, math.ceil(1.3 * EAGER_GB / available))
        if count == 1:
            return cls(planes, 1.0, "all of it")
        size = planes.shape[axis]
        kept = math.ceil(size / count)
        description = f"{kept} of the {size} {what}, times {size / kept:.3g}"
        return cls(planes.narrow(axis, 0, kept), size / kept, description)


def pamr_rows(quick: bool, classes: int = 171, goal: float = 300.0) -> Iterator[Row]:
    """PAMR with its decision, and the function alone, against the eager PAMR alone."""
    protocol = Protocol.named("coco_stuff").replace(pamr_steps=10, pamr_dilations=(8, 16))
    if quick:
        case = Case.named("coco_stuff", VGA, quick, pamr_steps=10, pamr_dilations=(8, 16))
    else:
        case = Case.of(protocol, VGA, range(classes))
    image, logits = case.image(), case.stitched()
    alone = partial(pamr, image, logits, protocol.pamr_steps, protocol.pamr_dilations)
    share = Share.of(logits, 0, "words")
    slow = partial(eager.pamr, image, share.part, dilations=protocol.pamr_dilations)
    case.labels()
    alone()
    slow_mb = peak_extra_mb(lambda: slow(steps=1))  # which the steps do not change
    taken = alternate(
        {"labels": case.labels, "alone": alone, "eager": lambda: slow(steps=protocol.pamr_steps)},
        1 if quick else REPEATS,
    )
    taken["eager"] *= share.times
    name = f"PAMR {case}, {protocol.pamr_steps} steps {protocol.pamr_dilations}"
    detail = {"eager": share.description, "eager_s": taken["eager"], "eager_extra_mb": slow_mb}
    flop = case.pamr_flop()
    yield compared(
        f"{name}: features to labels",
        goal,
        300,
        taken["labels"],
        peak_extra_mb(case.labels),
        detail,
        machine().floor(flop + case.stitching_flop(), case.moved_bytes()),
    )
    yield compared(
        f"{name}: function pamr, its result aside",
        goal / 3,
        300,
        taken["alone"],
        max(0.0, peak_extra_mb(alone) - case.logits_mb),
        {**detail, "result_mb": case.logits_mb},
        machine().floor(flop, 2e6 * case.logits_mb),
    )


def compared(
    name: str,
    goal: float,
    limit_mb: float,
    ours: float,
    extra_mb: float,
    detail: dict[str, Any],
    floor: float,
) -> Row:
    """A row that is judged by its speed against the eager form and by its memory."""
    slow = detail["eager_s"]
    return Row(
        name=name,
        goal=f"≥ {goal:.0f}×, ≤ {limit_mb:.0f} MB",
        measured=f"{seconds(ours)}, {megabytes(extra_mb)}, eager {seconds(slow)}",
        ratio=slow / ours,
        floor=seconds(floor),
        met=slow / ours >= goal and extra_mb <= limit_mb,
        detail={**detail, "ours_s": ours, "extra_mb": extra_mb, "floor_s": floor},
    )


def plain_rows(quick: bool) -> Iterator[Row]:
    """Features to labels without PAMR, each word a class and no probabilities."""
    case = Case.named("coco_stuff", VGA, quick)
    refiner, protocol = case.refiner, case.refiner.protocol

    def slow() -> None:
        logits = eager.slide_logits(refiner.features, refiner.embeddings, refiner.geometry)
        classes = case.query_class, case.num_classes
        eager.decide(logits, *classes, protocol.logit_scale, protocol.prob_thd)

    case.labels()
    slow()
    taken = alternate({"ours": case.labels, "eager": slow}, 1 if quick else 5)
    ours, by_eager = taken["ours"], taken["eager"]
    extra, slow_mb = peak_extra_mb(case.labels), peak_extra_mb(slow)
    floor = machine().floor(case.stitching_flop(), case.moved_bytes())
    yield Row(
        name=f"features to labels without PAMR, coco_stuff, {case}",
        goal="≤ 15 ms, ≤ 200 MB",
        measured=f"{seconds(ours)}, {megabytes(extra)}, eager {seconds(by_eager)}",
        ratio=by_eager / ours,
        floor=seconds(floor),
        met=ours <= 0.015 and extra <= 200,
        detail={
            "ours_s": ours,
            "extra_mb": extra,
            "eager_s": by_eager,
            "eager_extra_mb": slow_mb,
            "floor_s": floor,
        },
    )


def large_rows(quick: bool) -> Iterator[Row]:
    """Few words on a large picture, where what a pixel costs beside its words counts most."""
    protocol = Protocol.named("coco_stuff")
    case = Case.of(protocol, TINY if quick else HUGE, range(3))

    def portable() -> None:
        with patch.object(backends, "decides_by_numba", lambda _: False):
            case.labels()

    case.labels()
    portable()
    taken = alternate({"ours": case.labels, "portable": portable}, 1 if quick else REPEATS)
    ours, other = taken["ours"], taken["portable"]
    yield Row(
        name=f"features to labels without PAMR, {case}",
        goal="no slower than PyTorch's own operations",
        measured=f"{seconds(ours)}, by PyTorch's operations {seconds(other)}",
        ratio=other / ours,
        met=ours <= other,
        detail={"ours_s": ours, "portable_s": other},
    )


def decision_rows(quick: bool) -> Iterator[Row]:
    """Words that share classes, with probabilities: all of ours against the eager decision alone.

    Ours stitches too, inside the same kernel; the eager form is given the logits of all pixels.
    """
    case = Case.named("coco_object", VGA, quick)
    protocol, logits = case.refiner.protocol, case.stitched()
    classes = case.query_class, case.num_classes
    share = Share.of(logits, 1, "rows")
    slow = partial(eager.decide, share.part, *classes, protocol.logit_scale, protocol.prob_thd)
    ready = partial(decide, lambda: [logits], *classes, protocol)
    case.labels()
    ready()
    slow_mb = peak_extra_mb(slow)
    taken = alternate({"ours": case.labels, "ready": ready, "eager": slow}, 1 if quick else REPEATS)
    flop = case.stitching_flop() + 2 * case.words * case.pixel_count  # compared and summed once
    yield compared(
        f"decision {case}, {case.num_classes} classes, prob_thd {protocol.prob_thd}: "
        "features to labels",
        100,
        200,
        taken["ours"],
        peak_extra_mb(case.labels),
        {
            "eager": share.description,
            "eager_s": taken["eager"] * share.times,
            "eager_extra_mb": slow_mb,
            "portable_decision_on_ready_logits_s": taken["ready"],
        },
        machine().floor(flop, case.moved_bytes()),
    )


def peak_rows(quick: bool) -> Iterator[Row]:
    """Large images and unusual settings: no array of words × height × width is ever held."""
    for label, name, size, settings in UNUSUAL:
        case = Case.named(name, size, quick, **settings)
        case.labels()
        taken = alternate({"ours": case.labels}, 1)["ours"]
        extra = peak_extra_mb(case.labels)
        with_pamr = case.refiner.protocol.pamr_steps > 0
        floor = case.pixel_count * (1 + (12 if with_pamr else 0)) / 1e6
        yield Row(
            name=f"memory: {label}, {case}",
            goal=f"≤ {LIMIT_MB} MB",
            measured=f"{megabytes(extra)}, {seconds(taken)}",
            floor=megabytes(floor) + (" (labels, image)" if with_pamr else " (labels)"),
            met=extra <= LIMIT_MB,
            detail={
                "extra_mb": extra,
                "ours_s": taken,
                "floor_mb": floor,
                "logits_mb": case.logits_mb,
            },
        )


def sweep_rows(quick: bool) -> Iterator[Row]:
    """A grid of 27 protocols in one pass, against a pass for each, with the same labels."""
    case = Case.named("coco_object", VGA, quick)
    words = case.query_class, case.num_classes
    protocols = [
        case.refiner.protocol.replace(pamr_steps=steps, logit_scale=scale, prob_thd=threshold)
        for steps, scale, threshold in product(STEPS, SCALES, THRESHOLDS)
    ]

    def together() -> list[NDArray[Any]]:
        return list(case.refiner.labels_at(protocols, *words))

    def separate() -> list[NDArray[Any]]:
        return [case.refiner.labels_at([protocol], *words)[0] for protocol in protocols]

    def slowest() -> object:
        return case.refiner.labels_at(protocols[-1:], *words)  # the most steps

    same = all(map(np.array_equal, together(), separate()))
    functions = {"together": together, "separate": separate, "one": slowest}
    taken = alternate(functions, 1 if quick else REPEATS)
    ratio = taken["separate"] / taken["together"]
    yield Row(
        name=f"sweep, coco_object, {case}: {len(protocols)} points of {len(STEPS)} pamr_steps, "
        f"{len(SCALES)} logit_scales, {len(THRESHOLDS)} prob_thds in one pass",
        goal="the same labels; ≥ 5× as fast as apart",
        measured=f"{seconds(taken['together'])}, apart {seconds(taken['separate'])}, "
        f"the slowest alone {seconds(taken['one'])}",
        ratio=ratio,
        met=same and ratio >= 5,
        detail={"seconds": taken, "same_labels": same},
    )


def skipping_rows(quick: bool) -> Iterator[Row]:
    """The demo's CLIP and words on drawn scenes, and on photographs where a folder is given."""
    count, size = (1, (96, 128)) if quick else (SKIPPING_IMAGES, SKIPPING_SIZE)
    scenes = [draw_scene(evaluation_rng(number), *size).image for number in range(count)]
    yield skipping_row("drawn scenes", scenes)
    folder = os.environ.get(PHOTOGRAPHS)
    if folder:
        found = sorted(Path(folder).glob("*.jpg"))[:count]
        yield skipping_row("photographs", [read_image(path) for path in found])


def skipping_row(kind: str, images: Sequence[NDArray[np.uint8]]) -> Row:
    """The share of words that PAMR leaves out as they cannot win, and labels with all of them."""
    from sclip_core.segmentation.backends import numba_decision  # needs Numba

    preset = tables()["presets"]["demo"]
    model = SCLIP.load(preset["model"], preset["pretrained"], device="cpu")
    fields = {name: preset[name] for name in Protocol.model_fields if name in preset}
    protocol = Protocol(**fields).replace(pamr_steps=10)
    bank = model.text_bank(Vocabulary.named("scenes"))
    original, shares, different = numba_decision.dominated, [], 0

    def recorded(cosines: Any) -> NDArray[np.bool_]:
        found = original(cosines)
        shares.append(float(found.mean()))
        return found

    def none(cosines: Any) -> NDArray[np.bool_]:
        return np.zeros(cosines.shape[-1], np.bool_)

    for image in images:
        refiner = model.refiner(image, bank, protocol)
        with patch.object(numba_decision, "dominated", recorded):
            ours = refiner.labels(bank.query_class, bank.num_classes)
        with patch.object(numba_decision, "dominated", none):
            by_all = refiner.labels(bank.query_class, bank.num_classes)
        different += int((ours != by_all).sum())
    return Row(
        name=f"words left out before PAMR, demo CLIP, {len(bank.queries)} words, "
        f"{len(images)} {kind}",
        goal="no label differs",
        measured=f"{np.mean(shares):.1%} left out, at most {max(shares):.0%}; "
        f"{different} labels differ",
        met=different == 0,
        detail={"shares": shares, "labels_that_differ": different},
    )


ROWS: Registry = {
    "pamr": pamr_rows,
    "pamr_21": partial(pamr_rows, classes=21, goal=60),
    "plain": plain_rows,
    "large": large_rows,
    "decision": decision_rows,
    "peaks": peak_rows,
    "skipping": skipping_rows,
    "sweep": sweep_rows,
}
