"""PAMR, stitching and decision against the eager form, on one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from benchmarks import eager
from benchmarks.cases import Case
from benchmarks.machine import machine
from benchmarks.measure import Row, alternate, available_gb, peak_extra_mb
from benchmarks.text import joined, megabytes, seconds
from sclip_core import pamr
from sclip_core.config import Protocol
from sclip_core.segmentation import decide

VGA = (480, 640)
REPEATS = 3  # of the eager form, which takes minutes
EAGER_GB = 15  # that the eager form wants for one image, with some room


class Share(NamedTuple):
    """How much of the eager form's work is done, where all of it does not fit in memory."""

    part: Tensor
    times: float  # by which its time is to be multiplied
    said: str

    @classmethod
    def of(cls, planes: Tensor, axis: int, what: str) -> Share:
        """All of (Q, H, W), or the first part of an axis called ``what``."""
        available = available_gb()
        count = 1 if available >= EAGER_GB else max(3, math.ceil(1.3 * EAGER_GB / available))
        if count == 1:
            return cls(planes, 1.0, "all of it")
        size = planes.shape[axis]
        kept = math.ceil(size / count)
        said = f"{kept} of the {size} {what}, times {size / kept:.3g}"
        return cls(planes.narrow(axis, 0, kept), size / kept, said)


def pamr_rows(quick: bool, classes: int = 171, goal: float = 100.0) -> list[Row]:
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
    labels_mb, alone_mb = peak_extra_mb(case.labels), peak_extra_mb(alone)
    name = f"PAMR {case}, {protocol.pamr_steps} steps {protocol.pamr_dilations}"
    detail = {"eager": share.said, "eager_s": taken["eager"], "eager_extra_mb": slow_mb}
    flop = case.pamr_flop()
    whole = machine().floor(flop + case.stitching_flop(), case.moved_bytes())
    return [
        compared(
            f"{name}: features to labels",
            goal,
            300,
            taken["labels"],
            labels_mb,
            detail,
            whole,
        ),
        compared(
            f"{name}: function pamr, its result aside",
            goal,
            300,
            taken["alone"],
            max(0.0, alone_mb - case.logits_mb),
            {**detail, "result_mb": case.logits_mb},
            machine().floor(flop, 2e6 * case.logits_mb),
        ),
    ]


def compared(
    name: str,
    goal: float,
    limit_mb: float,
    ours: float,
    extra_mb: float,
    detail: dict[str, Any],
    floor: float,
) -> Row:
    """A row of ours against the eager form."""
    slow = detail["eager_s"]
    return Row(
        name=name,
        goal=f"≥ {goal:.0f}×, ≤ {limit_mb:.0f} MB",
        measured=joined(seconds(ours), megabytes(extra_mb), f"eager {seconds(slow)}"),
        ratio=slow / ours,
        floor=seconds(floor),
        met=slow / ours >= goal and extra_mb <= limit_mb,
        detail={**detail, "ours_s": ours, "extra_mb": extra_mb, "floor_s": floor},
    )


def plain_rows(quick: bool) -> list[Row]:
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
    extra, slow_mb = peak_extra_mb(case.labels), peak_extra_mb(slow)
    floor = machine().floor(case.stitching_flop(), case.moved_bytes())
    return [
        Row(
            name=f"features to labels without PAMR, coco_stuff, {case}",
            goal="≤ 60 ms, ≤ 200 MB",
            measured=joined(
                seconds(taken["ours"]), megabytes(extra), f"eager {seconds(taken['eager'])}"
            ),
            ratio=taken["eager"] / taken["ours"],
            floor=seconds(floor),
            met=taken["ours"] <= 0.06 and extra <= 200,
            detail={
                "ours_s": taken["ours"],
                "extra_mb": extra,
                "eager_s": taken["eager"],
                "eager_extra_mb": slow_mb,
                "floor_s": floor,
            },
        )
    ]


def decision_rows(quick: bool) -> list[Row]:
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
    detail = {
        "eager": share.said,
        "eager_s": taken["eager"] * share.times,
        "eager_extra_mb": slow_mb,
        "portable_decision_on_ready_logits_s": taken["ready"],
    }
    flop = case.stitching_flop() + 2 * case.words * case.pixel_count  # compared and summed once
    name = f"decision {case}, {case.num_classes} classes, prob_thd {protocol.prob_thd}"
    return [
        compared(
            f"{name}: features to labels",
            100,
            200,
            taken["ours"],
            peak_extra_mb(case.labels),
            detail,
            machine().floor(flop, case.moved_bytes()),
        )
    ]


ROWS: dict[str, Callable[[bool], list[Row]]] = {
    "pamr": pamr_rows,
    "pamr_21": partial(pamr_rows, classes=21, goal=40),
    "plain": plain_rows,
    "decision": decision_rows,
}
