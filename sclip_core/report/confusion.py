"""Which classes are mistaken for which, as the report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.places import Place
from sclip_core.report.pictures import hex_colour
from sclip_core.results.tables import Paired, confusion

NAMED = 3  # mistakes that are named for a class
IN_MATRIX = 30  # classes in the matrix
IN_NARROW = 15  # classes in the matrix for a phone
NO_CLASS_COLOUR = "#707070"  # of pixels whose prediction is no class


@dataclass(frozen=True)
class Mistake:
    """The pixels of a class that were labelled as one other class."""

    name: str
    colour: str
    percent: float  # of the class's pixels


@dataclass(frozen=True)
class ConfusionLine:
    """How the pixels of a class were labelled."""

    name: str
    colour: str
    pixels: int
    right: float  # percent
    mistakes: list[Mistake]  # largest first
    rest: float  # percent, all other mistakes


class Matrix(NamedTuple):
    """Shares of the pixels between the classes that have the most, in the vocabulary's order."""

    names: list[str]
    shares: NDArray[np.float64]  # percent of a row


@dataclass(frozen=True)
class Confused:
    """The confusion of one run."""

    place: int  # of the run on the page
    lines: list[ConfusionLine]
    matrix: Matrix
    narrow: Matrix  # of fewer classes, for a phone


def confused_run(place: int, pairs: Paired, artifacts: Place) -> Confused | None:
    """The confusion of one of the runs; None if it was not kept."""
    table = confusion(pairs.run_ids[place], artifacts)
    if not table.num_rows:
        return None
    names = [*pairs.class_names, "no label"]
    count = len(pairs.class_names)
    label, pixels = table["label_id"].to_numpy(), table["pixels"].to_numpy()
    predicted = table["prediction_id"].fill_null(count).to_numpy()
    lines = []
    for i in np.unique(label).tolist():
        mine = label == i
        total = int(pixels[mine].sum())
        parts = dict(zip(predicted[mine], pixels[mine], strict=True))
        share = {int(j): 100 * float(n) / total for j, n in parts.items()}
        right = share.pop(i, 0.0)
        first = sorted(share, key=lambda j: -share[j])[:NAMED]
        mistakes = [Mistake(names[j], _colour(j, count), share[j]) for j in first]
        rest = max(0.0, 100 - right - sum(each.percent for each in mistakes))
        lines.append(ConfusionLine(names[i], hex_colour(i), total, right, mistakes, rest))
    matrices = (_matrix(label, predicted, pixels, names, n) for n in (IN_MATRIX, IN_NARROW))
    return Confused(place, lines, *matrices)


def _matrix(
    label: NDArray[Any],
    predicted: NDArray[Any],
    pixels: NDArray[Any],
    names: Sequence[str],
    most: int,
) -> Matrix:
    """The shares between at most `most` classes."""
    totals = np.bincount(label, pixels, len(names))
    kept = np.sort(np.argsort(-totals, kind="stable")[: min(most, int((totals > 0).sum()))])
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    shown = (place[label] >= 0) & (place[predicted] >= 0)
    matrix = np.zeros((len(kept), len(kept)))
    matrix[place[label[shown]], place[predicted[shown]]] = pixels[shown]
    return Matrix([names[i] for i in kept], 100 * matrix / totals[kept, None])


def _colour(class_id: int, count: int) -> str:
    return hex_colour(class_id) if class_id < count else NO_CLASS_COLOUR
