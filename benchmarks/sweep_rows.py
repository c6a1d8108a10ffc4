"""A grid of steps, scales and thresholds in one pass, against a pass for each of its points."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from benchmarks.cases import Case
from benchmarks.measure import Row, alternate
from benchmarks.segmentation_rows import VGA
from benchmarks.text import joined, seconds

STEPS = (0, 5, 10)
SCALES = (30, 40, 50)
THRESHOLDS = (0.05, 0.1, 0.2)  # of prob_thd
REPEATS = 3


def sweep_rows(quick: bool) -> list[Row]:
    """Features to labels by 27 protocols; each gives the labels that it gives alone."""
    case = Case.named("coco_object", VGA, quick)
    words = case.query_class, case.num_classes
    protocols = [
        case.refiner.protocol.replace(pamr_steps=steps, logit_scale=scale, prob_thd=threshold)
        for steps, scale, threshold in product(STEPS, SCALES, THRESHOLDS)
    ]

    def together() -> list[object]:
        return list(case.refiner.labels_at(protocols, *words))

    def separate() -> list[object]:
        return [case.refiner.labels_at([protocol], *words)[0] for protocol in protocols]

    same = all(map(np.array_equal, together(), separate()))
    one = protocols[-1]  # the most steps
    taken = alternate(
        {
            "together": together,
            "separate": separate,
            "one": lambda: case.refiner.labels_at([one], *words),
        },
        1 if quick else REPEATS,
    )
    ratio = taken["separate"] / taken["together"]
    return [
        Row(
            name=f"sweep, coco_object, {case}: {len(protocols)} points of {len(STEPS)} pamr_steps, "
            f"{len(SCALES)} logit_scales, {len(THRESHOLDS)} prob_thds in one pass",
            goal="the same labels; ≥ 5× as fast as apart",
            measured=joined(
                seconds(taken["together"]),
                f"apart {seconds(taken['separate'])}",
                f"the slowest alone {seconds(taken['one'])}",
            ),
            ratio=ratio,
            met=same and ratio >= 5,
            detail={"seconds": taken, "same_labels": same},
        )
    ]


ROWS: dict[str, Callable[[bool], list[Row]]] = {"sweep": sweep_rows}
