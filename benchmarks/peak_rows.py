"""Memory and time where users go beyond the usual: nothing grows with words × height × width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case
from benchmarks.measure import Row, alternate, peak_extra_mb
from benchmarks.segmentation_rows import VGA
from benchmarks.text import joined, megabytes, seconds

LIMIT_MB = 1000  # what a user with an 8 GB laptop does not notice
TWELVE_MEGAPIXELS = (3000, 4000)

CASES: tuple[tuple[str, str, tuple[int, int], dict[str, Any]], ...] = (
    ("coco_object, prob_thd, area_thd 0.1", "coco_object", VGA, {"area_thd": 0.1}),
    ("coco_stuff, slide_crop 0", "coco_stuff", VGA, {"slide_crop": 0}),
    ("cityscapes", "cityscapes", (1024, 2048), {}),
    ("cityscapes, PAMR 10 steps", "cityscapes", (1024, 2048), {"pamr_steps": 10}),
    ("coco_stuff", "coco_stuff", TWELVE_MEGAPIXELS, {}),
    ("coco_stuff, PAMR 2 steps", "coco_stuff", TWELVE_MEGAPIXELS, {"pamr_steps": 2}),
)


def peak_rows(quick: bool) -> list[Row]:
    """Extra memory and seconds from features to labels."""
    return [
        _peak(label, Case.named(name, size, quick, **settings))
        for label, name, size, settings in CASES
    ]


def _peak(label: str, case: Case) -> Row:
    """One image: time first, as the kernels are warm then."""
    case.labels()
    taken = alternate({"ours": case.labels}, 1)["ours"]
    extra = peak_extra_mb(case.labels)
    with_pamr = case.refiner.protocol.pamr_steps > 0
    floor = case.pixel_count * (1 + (12 if with_pamr else 0)) / 1e6
    return Row(
        name=f"memory: {label}, {case}",
        goal=f"≤ {LIMIT_MB} MB",
        measured=joined(megabytes(extra), seconds(taken)),
        floor=megabytes(floor) + (" (labels, image)" if with_pamr else " (labels)"),
        met=extra <= LIMIT_MB,
        detail={
            "extra_mb": extra,
            "ours_s": taken,
            "floor_mb": floor,
            "logits_mb": case.logits_mb,
        },
    )


ROWS: dict[str, Callable[[bool], list[Row]]] = {"peaks": peak_rows}
