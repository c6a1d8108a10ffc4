"""The points of a sweep: what varies, their scores with intervals, and what the best is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from flows.cli.comparing import FEW
from flows.cli.console import duration
from flows.cli.listing import STANDS_OUT
from sclip_core.config import SEVERAL, Settings, printable, unread, usual_value, value_text
from sclip_core.evaluation import Interval, Resampled, bootstrap
from sclip_core.results import paired
from sclip_core.results.build import run_name
from sclip_core.store.keys import artifact_key

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished


@dataclass(frozen=True, eq=False)
class Points:
    """Runs over the same images that differ in some settings."""

    settings: tuple[Settings, ...]
    run_ids: tuple[str, ...]
    seconds: tuple[float | None, ...]  # of refining and filling; None: it was there
    images: int  # that all of them have
    scores: Resampled  # run by run, on the same draws of images

    @classmethod
    def of(cls, finished: Sequence[Finished]) -> Points:
        """The points of runs that are scored, in their order."""
        run_ids = [each.run_id or "" for each in finished]
        pairs = paired(run_ids, finished[0].settings.artifacts)
        return cls(
            settings=tuple(each.settings for each in finished),
            run_ids=tuple(run_ids),
            seconds=tuple(map(_seconds, finished)),
            images=len(pairs.images),
            scores=bootstrap(pairs.areas),
        )

    def __len__(self) -> int:
        """How many."""
        return len(self.settings)

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.settings[0].dataset

    @property
    def name(self) -> str:
        """Of the sweep, for files: the same points, the same name."""
        return run_name(self.dataset, artifact_key({"stage": "sweep", "runs": list(self.run_ids)}))

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Settings that have several values."""
        return tuple(n for n in SEVERAL if len({getattr(s, n) for s in self.settings}) > 1)

    def value(self, point: int, name: str) -> str | None:
        """A setting as a flag takes it; None where it changes no label of the point."""
        settings = self.settings[point]
        return None if name in unread(settings) else value_text(getattr(settings, name))

    def described(self, point: int) -> str:
        """``pamr_steps 10, pamr_dilations 8,16``."""
        values = ((name, self.value(point, name)) for name in self.varied)
        return ", ".join(f"{name} {value}" for name, value in values if value is not None)

    def miou(self, point: int) -> Interval:
        """In percent, with its interval."""
        return self.scores.of("miou", point)

    def gain(self, point: int, other: int) -> Interval:
        """The mIoU of a point less that of another, image by image, with its interval."""
        return self.scores.difference("miou", point, other)

    @cached_property
    def ranked(self) -> list[int]:
        """Points by mIoU, the best first; of equal ones the earlier."""
        values = self.scores.miou[:, 0]
        return np.argsort(-values, kind="stable").tolist()  # NaN: at the end

    @property
    def usual(self) -> int | None:
        """The point with the values that the protocol has by itself, if it is one of them."""
        for point, settings in enumerate(self.settings):
            read = set(self.varied) - unread(settings)
            if all(getattr(settings, n) == usual_value(settings, n) for n in read):
                return point
        return None


def _seconds(finished: Finished) -> float | None:
    outcomes = (finished.outcomes.get(stage) for stage in ("refine", "hybrid"))
    computed = [o.seconds for o in outcomes if o and o.state == "computed"]
    return sum(computed) if computed else None


def points_table(points: Points) -> Table:
    """A line a point, in the order of the grid; the best one is marked."""
    title = f"{printable(points.dataset)}, {points.images} images, {_count(points)}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in points.varied:
        table.add_column(name)
    table.add_column("mIoU", justify="right")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for name in ("mAcc", "aAcc", "refine"):
        table.add_column(name, justify="right")
    table.add_column("run", no_wrap=True)
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
    """The best point, and how far it can be trusted; nothing of one point."""
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
    told = {0: "tell it from all others", len(others): "tell it from none of the others"}
    yield (
        f"The best of {_count(points)} was chosen on the images that it is scored on, which "
        "flatters it; they "
        + told.get(unsure, f"do not tell it from {unsure} of the {len(others)} others")
        + "."
    )
    if points.images < FEW:
        yield f"{points.images} images: intervals of so few say little"


def _against(points: Points, best: int, other: int) -> str:
    """Another point, and whether these images tell it from the best one."""
    gain = points.gain(best, other)
    line = f"{points.described(other)}: mIoU {points.miou(other).value:.2f}; the best has "
    line += f"{gain.value:+.2f} {_interval(gain, '+.2f')}"
    if gain.excludes_zero:
        return line
    return line + ": these images cannot tell the two apart"


def _interval(each: Interval, form: str = ".2f") -> str:
    return f"[{each.low:{form}}, {each.high:{form}}]"


def _count(points: Points) -> str:
    return f"{len(points)} point{'s' if len(points) > 1 else ''}"
