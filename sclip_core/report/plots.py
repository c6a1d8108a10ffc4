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
INK, FAINT = "#1c1e22", "#7a7f87"
WIDTH = 7.2  # inches
NUMBERED = 4  # percent of a row from which a cell of a small matrix shows its number


def colour(run: int) -> str:
    """The colour of a run by its place, safe for colour-blind readers (Okabe & Ito 2008)."""
    return COLOURS[run % len(COLOURS)]


def intervals(scores: Mapping[str, Sequence[Interval]], letters: Sequence[str]) -> str:
    """Scores with their intervals: a panel for each score, a row for each run.

    Args:
        scores: by name, for each run, in percent.
        letters: of the runs.
    """
    figure, axes = _figure(0.5 + 0.32 * len(letters), len(scores), sharey=True)
    places = np.arange(len(letters))[::-1]
    for axis, (name, values) in zip(np.atleast_1d(axes), scores.items(), strict=True):
        for run, (place, each) in enumerate(zip(places, values, strict=True)):
            axis.plot([each.low, each.high], [place, place], color=colour(run), linewidth=2.5)
            axis.plot(each.value, place, "o", color=colour(run), markersize=6)
        axis.set_title(name, loc="left", fontsize=10, color=INK)
        axis.set_yticks(places, letters)
        axis.set_ylim(-0.7, len(letters) - 0.3)
        axis.grid(axis="x", color="#e4e6ea")
    return _svg(figure, "mIoU, mAcc and aAcc of each run with 95 % intervals")


def histogram(scores: NDArray[np.float64], letters: Sequence[str]) -> str:
    """The number of images by their mIoU, for scores (K, N) in percent."""
    figure, axis = _figure(2.0)
    bins = np.linspace(0, 100, 21)
    for run, values in enumerate(scores):
        kept = values[~np.isnan(values)]
        axis.hist(kept, bins, histtype="step", color=colour(run), linewidth=1.8, label=letters[run])
    axis.set_xlabel("mIoU of an image, %", color=INK)
    axis.set_ylabel("images", color=INK)
    axis.set_xlim(0, 100)
    axis.yaxis.get_major_locator().set_params(integer=True)
    if len(letters) > 1:
        axis.legend(frameon=False, fontsize=9, loc="upper left")
    return _svg(figure, "Histogram of the mIoU of single images")


def stage_seconds(seconds: Mapping[str, Sequence[float]], letters: Sequence[str]) -> str:
    """The time of each run: a bar for each run, divided by stage.

    Args:
        seconds: by stage, for each run; 0 where it was cached.
        letters: of the runs.
    """
    figure, axis = _figure(0.8 + 0.32 * len(letters))
    left = np.zeros(len(letters))
    places = np.arange(len(letters))[::-1]
    for number, (stage, values) in enumerate(seconds.items()):
        axis.barh(places, values, 0.62, left, color=colour(number), label=stage)
        left += np.array(values, float)
    axis.set_yticks(places, letters)
    axis.set_xlabel("seconds", color=INK)
    axis.legend(frameon=False, fontsize=9, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, "Seconds of each stage that was computed, by run")


def confusion_matrix(shares: NDArray[np.float64], names: Sequence[str]) -> str:
    """A confusion matrix (C, C) in percent of each row."""
    count = len(names)
    side = min(WIDTH, 2.2 + 0.27 * count)
    figure, axis = _figure(side * 0.82, width=side)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    size = 9 if count <= 15 else 6.5
    axis.set_xticks(range(count), names, rotation=90, fontsize=size, parse_math=False)
    axis.set_yticks(range(count), names, fontsize=size, parse_math=False)
    axis.set_xlabel("prediction", color=INK)
    axis.set_ylabel("ground truth", color=INK)
    if count <= 15:
        for (row, column), share in np.ndenumerate(shares):
            if share >= NUMBERED:
                ink = "white" if share > 55 else INK
                axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=ink, size=7)
    return _svg(figure, "Confusion matrix: percent of the pixels of a class, by prediction")


def _figure(height: float, columns: int = 1, width: float = WIDTH, **options: Any) -> Any:
    """A figure and its axes in a plain style."""
    figure = optional("matplotlib.figure", "report").Figure((width, height), layout="constrained")
    axes = figure.subplots(1, columns, **options)
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _svg(figure: Any, described: str) -> str:
    """The figure as an SVG element, with ids that clash with no other figure's."""
    import matplotlib

    into = StringIO()
    # Text stays text: searchable, and a tenth of the size of outlines.
    options = {"svg.fonttype": "none", "svg.hashsalt": described}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has those glyphs
        figure.savefig(into, format="svg", metadata={"Date": None, "Creator": None})
    text = into.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'(width|height)="[\d.]+pt"', "", body, count=2)
    return body.replace("<svg", f'<svg role="img" aria-label="{described}" class="plot"', 1)
