"""Plots of the report by matplotlib, as SVG elements."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.optional import optional
from sclip_core.evaluation.bootstrap import Interval

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#6b6b6b")
INK, FAINT, LINE = "#1c1e22", "#7a7f87", "#e4e6ea"
THEMED = {INK: "var(--ink)", FAINT: "var(--axis)", LINE: "var(--line)"}  # as page.css has them
ON_CELL = {False: "#000000", True: "#ffffff"}  # of numbers, by whether their cell is dark
WIDTH = 7.2  # inches
NARROW = 3.75  # inches, of the plots for a phone: 390 pixels are 280 points
SCALE = 100  # pixels of the page for an inch, at most: 11 pixels are 8 points
SMALL = 8.2  # points, the smallest text
NUMBERED = 4  # percent of a row from which a cell of a small matrix shows its number


def colour(run: int) -> str:
    """The colour of a run by its place, safe for colour-blind readers (Okabe & Ito 2008)."""
    return COLOURS[run % len(COLOURS)]


def ink_on(background: str) -> str:
    """Black or white, whichever is easier to read on a colour ``#rrggbb``.

    The contrast is that of WCAG 2 (relative luminance).

    >>> ink_on("#0072b2"), ink_on("#e69f00")
    ('#fff', '#000')
    """
    srgb = np.array([int(background[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#fff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000"


def intervals(
    scores: Mapping[str, Sequence[Interval]], letters: Sequence[str], narrow: bool = False
) -> str:
    """Scores with their intervals: a panel for each score, a row for each run.

    Args:
        scores: by name, for each run, in percent.
        letters: of the runs.
        narrow: for a phone: the panels below each other.
    """
    height, count = 0.5 + 0.32 * len(letters), len(scores)
    if narrow:
        figure, axes = _figure(count * (height + 0.15), NARROW, rows=count)
    else:
        figure, axes = _figure(height, columns=count, sharey=True)
    places = np.arange(len(letters))[::-1]
    for axis, (name, values) in zip(np.atleast_1d(axes), scores.items(), strict=True):
        for run, (place, each) in enumerate(zip(places, values, strict=True)):
            axis.plot([each.low, each.high], [place, place], color=colour(run), linewidth=2.5)
            axis.plot(each.value, place, "o", color=colour(run), markersize=6)
        axis.set_title(name, loc="left", fontsize=10, color=INK)
        axis.set_yticks(places, letters)
        axis.set_ylim(-0.7, len(letters) - 0.3)
        axis.grid(axis="x", color=LINE)
    return _svg(figure, "mIoU, mAcc and aAcc of each run with 95 % intervals", narrow)


def histogram(scores: NDArray[np.float64], letters: Sequence[str], narrow: bool = False) -> str:
    """The number of images by their mIoU, for scores (K, N) in percent."""
    figure, axis = _figure(2.0, NARROW if narrow else WIDTH)
    bins = np.linspace(0, 100, 21)
    for run, values in enumerate(scores):
        kept = values[~np.isnan(values)]
        axis.hist(kept, bins, histtype="step", color=colour(run), linewidth=1.8, label=letters[run])
    axis.set_xlabel("mIoU of an image, %", color=INK)
    axis.set_ylabel("images", color=INK)
    axis.set_xlim(0, 100)
    axis.yaxis.get_major_locator().set_params(integer=True)
    if len(letters) > 1:
        axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    return _svg(figure, "Histogram of the mIoU of single images", narrow)


def stage_seconds(
    seconds: Mapping[str, Sequence[float]], letters: Sequence[str], narrow: bool = False
) -> str:
    """The time of each run: a bar for each run, divided by stage.

    Args:
        seconds: by stage, for each run; 0 where it was cached.
        letters: of the runs.
        narrow: for a phone.
    """
    across = 2 if narrow else 4
    height = 0.7 + 0.32 * len(letters) + 0.18 * -(-len(seconds) // across)
    figure, axis = _figure(height, NARROW if narrow else WIDTH)
    left = np.zeros(len(letters))
    places = np.arange(len(letters))[::-1]
    for number, (stage, values) in enumerate(seconds.items()):
        axis.barh(places, values, 0.62, left, color=colour(number), label=stage)
        left += np.array(values, float)
    axis.set_yticks(places, letters)
    axis.set_xlabel("seconds", color=INK)
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": across}
    axis.legend(frameon=False, fontsize=9, labelcolor=INK, **place)
    return _svg(figure, "Seconds of each stage that was computed, by run", narrow)


def confusion_matrix(
    shares: NDArray[np.float64], names: Sequence[str], narrow: bool = False
) -> str:
    """A confusion matrix (C, C) in percent of each row; `narrow` for a phone."""
    count = len(names)
    side = NARROW if narrow else min(WIDTH, 2.2 + 0.27 * count)
    figure, axis = _figure(side if narrow else side * 0.82, side)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    size = 9 if count <= 15 and not narrow else SMALL
    axis.set_xticks(range(count), names, rotation=90, fontsize=size, parse_math=False)
    axis.set_yticks(range(count), names, fontsize=size, parse_math=False)
    axis.set_xlabel("prediction", color=INK)
    axis.set_ylabel("ground truth", color=INK)
    if count <= 15:
        for (row, column), share in np.ndenumerate(shares):
            if share >= NUMBERED:
                ink = ON_CELL[bool(share > 55)]
                text = f"{share:.0f}"
                axis.text(column, row, text, ha="center", va="center", color=ink, size=SMALL)
    described = "Confusion matrix: percent of the pixels of a class, by prediction"
    return _svg(figure, described, narrow)


def _figure(
    height: float, width: float = WIDTH, *, rows: int = 1, columns: int = 1, **options: Any
) -> Any:
    """A figure and its axes in a plain style."""
    figure = optional("matplotlib.figure", "report").Figure((width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _svg(figure: Any, described: str, narrow: bool) -> str:
    """The figure as an SVG element in the page's colours; ids clash with no other figure's."""
    import matplotlib

    into = StringIO()
    # Text stays text: searchable, and a tenth of the size of outlines.
    options = {"svg.fonttype": "none", "svg.hashsalt": f"{described} {narrow}"}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has those glyphs
        blank = {"Date": None, "Creator": None}
        figure.savefig(into, format="svg", transparent=True, metadata=blank)
    text = into.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'(width|height)="[\d.]+pt"', "", body, count=2)
    for colour_, name in THEMED.items():
        body = body.replace(colour_, name)
    kind = "narrow" if narrow else "broad"
    most = round(SCALE * figure.get_figwidth())
    head = f'<svg role="img" aria-label="{described}" class="plot {kind}"'
    return body.replace("<svg", f'{head} style="max-width:{most}px"', 1)
