"""What ``sclip sweep`` prints: a line a point, which is best, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column, Table

from flows.cli.console import STANDS_OUT, TITLE, right, whole
from sclip_core.config import printable
from sclip_core.config.counts import number_of
from sclip_core.evaluation import Interval
from sclip_core.progress import duration
from sclip_core.results.comparison import few_images
from sclip_core.results.points import Points


def points_table(points: Points) -> Table:
    """A line a point, in the order of the grid; the best one is marked."""
    title = f"{printable(points.dataset)}, {number_of(points.images, 'image')}, {_count(points)}"
    interval = Column("95 % interval", justify="right", no_wrap=True)
    scores = (right("mIoU"), interval, *map(right, ("mAcc", "aAcc", "refine")))
    table = Table(*points.varied, *scores, whole("run"), title=title, **TITLE)
    for point, run_id in enumerate(points.run_ids):
        best = len(points) > 1 and point == points.ranked[0]
        miou, seconds = points.miou(point), points.seconds[point]
        table.add_row(
            *(points.value(point, name) or "-" for name in points.varied),
            f"{'* ' if best else ''}{miou.value:.2f}",
            _interval(miou),
            *(f"{points.scores.of(score, point).value:.2f}" for score in ("macc", "aacc")),
            "cached" if seconds is None else duration(seconds),
            run_id,
            style=STANDS_OUT if best else "",
        )
    return table


def verdict(points: Points) -> Iterator[str]:
    """The best point, and how far it can be trusted; nothing if there is one point."""
    best, *others = points.ranked
    if not others:
        return
    miou = points.miou(best)
    yield f"best: {points.described(best)}: mIoU {miou.value:.2f} {_interval(miou)}"
    same = [point for point in others if points.miou(point).value == miou.value]
    if same:
        more = f", and {len(same) - 1} more" if len(same) > 1 else ""
        yield f"the same mIoU: {points.described(same[0])}{more}"
    lower = others[len(same) :]
    if lower:
        yield f"next: {_against(points, best, lower[0])}"
    usual = points.usual
    if usual is not None and usual in lower[1:]:
        yield f"the protocol's own: {_against(points, best, usual)}"
    elif usual == best:
        yield "the best is the protocol's own"
    unsure = sum(not points.gain(best, other).excludes_zero for other in others)
    told_apart = {0: "tell it from all others", len(others): "tell it from none of the others"}
    yield (
        f"The best of {_count(points)} was chosen on the images that it is scored on, which "
        "flatters it; they "
        + told_apart.get(unsure, f"do not tell it from {unsure} of the {len(others)} others")
        + "."
    )
    if few := few_images(points.images):
        yield few


def _against(points: Points, best: int, other: int) -> str:
    """Another point, and whether these images tell it from the best one."""
    gain = points.gain(best, other)
    line = f"{points.described(other)}: mIoU {points.miou(other).value:.2f}; the best has "
    line += f"{gain.value:+.2f} {_interval(gain, '+.2f')}"
    return line if gain.excludes_zero else f"{line}: these images cannot tell the two apart"


def _interval(each: Interval, form: str = ".2f") -> str:
    return f"[{each.low:{form}}, {each.high:{form}}]"


def _count(points: Points) -> str:
    return f"{len(points)} point{'s' if len(points) > 1 else ''}"
