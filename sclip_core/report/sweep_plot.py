"""The plot of a sweep: mIoU over the setting with most values, a line for each of the others'."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sclip_core.config import printable
from sclip_core.config.optional import optional
from sclip_core.report.plots import COLOURS, FAINT, INK
from sclip_core.results.points import Points
from sclip_core.store.files import write_whole, written_to

NUMBERS = ("pamr_steps", "logit_scale", "prob_thd", "area_thd")
MOST_LINES = 6  # the best; more could not be told apart
MOST_BANDS = 3  # lines whose intervals are bands; of more they are bars
STEP_ASIDE = 0.006  # of the axis, by which a line's bars stand beside those of the next
APART = 0.08  # likewise, where the axis has names
Choice = tuple[str | None, ...]  # of the other settings; None: it changes no label


@dataclass(frozen=True)
class Line:
    """Points that differ in one setting."""

    label: str
    points: tuple[int, ...]  # ascending in it
    flat: bool  # the one point does not depend on it


def axis_of(points: Points) -> str:
    """The setting that goes along: the number with most values, else what has most.

    Args:
        points: of a sweep in which something varies.
    """

    def count(name: str) -> int:
        return len({points.value(point, name) for point in range(len(points))} - {None})

    numbers = [name for name in points.varied if name in NUMBERS]
    return max(numbers or points.varied, key=count)


def lines_of(points: Points, along: str) -> list[Line]:
    """One for each choice of the other settings, the one with the best point first.

    A point on which a choice has no say, such as that of dilations without PAMR, is on every line.
    """
    others = [name for name in points.varied if name != along]
    choices: dict[Choice, list[int]] = {}
    for point in range(len(points)):
        choice = tuple(points.value(point, name) for name in others)
        choices.setdefault(choice, []).append(point)
    lines = []
    for choice in choices:
        if any(choice != other and _covers(choice, other) for other in choices):
            continue  # its points are on the lines of the others
        on = [p for other, found in choices.items() if _covers(other, choice) for p in found]
        on.sort(key=lambda point: getattr(points.settings[point], along))
        named = zip(others, choice, strict=True)
        label = ", ".join(f"{name} {value}" for name, value in named if value is not None)
        flat = all(points.value(point, along) is None for point in on)
        lines.append(Line(label, tuple(on), flat))
    return sorted(lines, key=lambda line: min(map(points.ranked.index, line.points)))


def _covers(choice: Choice, other: Choice) -> bool:
    """Whether what is chosen in one is chosen so in the other."""
    return all(one is None or one == two for one, two in zip(choice, other, strict=True))


def draw(points: Points, target: Path) -> None:
    """Draw a sweep.

    Args:
        points: in which something varies.
        target: a PNG, or an SVG by its ending.

    Raises:
        UserError: matplotlib is not installed, or the picture cannot be written.
    """
    along = axis_of(points)
    lines = lines_of(points, along)
    shown = lines[:MOST_LINES]
    figure = optional("matplotlib.figure", "plot").Figure(
        (7.2, 3.6 + 0.2 * (len(shown) > 1) * len(shown)), layout="constrained"
    )
    chart = Chart(figure.subplots(), points, along, len(shown))
    for number, line in enumerate(shown):
        chart.draw(line, number)
    chart.label(len(lines) - len(shown))
    if len(shown) > 1:
        figure.legend(loc="outside lower left", frameon=False, fontsize=9)
    kind = "svg" if target.suffix.lower() == ".svg" else "png"
    with written_to(target, "choose another path"):
        write_whole(target, partial(figure.savefig, format=kind, dpi=150))


class Chart:
    """The axes of a plot, and what is drawn on them."""

    def __init__(self, axis: Any, points: Points, along: str, lines: int) -> None:
        """Find the places of the points: by their number, or one after the other."""
        self._axis, self._points, self._along, self._lines = axis, points, along, lines
        self._numeric = along in NUMBERS
        standing = [p for p in range(len(points)) if points.value(p, along) is not None]
        values = list(dict.fromkeys(points.value(point, along) for point in standing))
        self._places = {
            point: float(getattr(points.settings[point], along))
            if self._numeric
            else float(values.index(points.value(point, along)))
            for point in standing
        }
        self._ringed = False

    def draw(self, line: Line, number: int) -> None:
        """One line with the intervals of its points, and a ring around the best of all."""
        colour = COLOURS[number]
        if line.flat:
            value = self._points.miou(line.points[0]).value
            self._axis.axhline(value, color=colour, linestyle="--", label=line.label)
            return
        standing = [point for point in line.points if point in self._places]
        across = [self._places[point] for point in standing]
        scores = [self._points.miou(point) for point in standing]
        values, low, high = ([score[part] for score in scores] for part in range(3))
        if self._numeric and self._lines <= MOST_BANDS and len(standing) > 1:
            self._axis.fill_between(across, low, high, color=colour, alpha=0.13, linewidth=0)
        else:
            across = [place + self._aside(number) for place in across]
            self._axis.vlines(across, low, high, color=colour, linewidth=1.2, alpha=0.6)
        style = "-o" if self._numeric else "o"
        self._axis.plot(across, values, style, color=colour, markersize=4.5, label=line.label)
        best = self._points.ranked[0]
        if best in standing and not self._ringed:
            place = standing.index(best)
            ring = {"markersize": 13, "mfc": "none", "mec": INK}
            self._axis.plot(across[place], values[place], "o", **ring)
            self._ringed = True

    def _aside(self, number: int) -> float:
        """How far a line steps aside, so that bars do not hide each other."""
        wide = max(self._places.values()) - min(self._places.values()) or 1
        step = STEP_ASIDE * wide if self._numeric else APART
        return (number - (self._lines - 1) / 2) * step

    def label(self, hidden: int) -> None:
        """Axes, title, ticks at the values that were tried."""
        axis, points = self._axis, self._points
        parts = [f"{printable(points.dataset)}, {points.images} images"]
        parts += [f"the best of {len(points)} points is ringed"] if self._ringed else []
        parts += [f"the {self._lines} best of {self._lines + hidden} lines"] if hidden else []
        axis.set_title("; ".join(parts), loc="left", fontsize=10, color=INK, parse_math=False)
        axis.set_xlabel(self._along, color=INK)
        axis.set_ylabel("mIoU in %, with 95 % interval", color=INK)
        ticks = {place: points.value(point, self._along) for point, place in self._places.items()}
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=9)
        axis.grid(axis="y", color="#e4e6ea")
        if not self._numeric:
            axis.set_xlim(-0.5, max(self._places.values()) + 0.5)
