"""The table of methods × datasets: scores, marks, means, significance, and what can't be compared.

A mean over datasets is of runs on all of them. Its interval combines draws of the single datasets,
which are put into another order for each: images of two datasets are drawn independently.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import printable
from sclip_core.config.places import Place
from sclip_core.evaluation.bootstrap import RESAMPLES, Interval, interval
from sclip_core.results.audits import of_other_words
from sclip_core.results.comparison import FEW, FEWEST, SCORES
from sclip_core.results.files import (
    ARTIFACTS,
    ResultsWarning,
    read_run,
    read_runs,
    root_of,
    some_run_ids,
)
from sclip_core.results.matrices.comparable import Classes, Note, notes_of
from sclip_core.results.matrices.rows import Grid, Row, Run, grid_of
from sclip_core.results.measured import drawn_measures, measures_of, score_label
from sclip_core.results.tables import Paired, find_run, paired

Spread = Literal["none", "interval", "half", "se"]
MEAN = "mean"
UNDEFINED = float("nan")


@dataclass(frozen=True)
class Cell:
    """A run on a dataset, or a mean over datasets."""

    value: float = UNDEFINED  # percent; NaN: there is none
    low: float = UNDEFINED  # of the 95 % interval; NaN: not asked for, or of too few images
    high: float = UNDEFINED
    error: float = UNDEFINED  # the bootstrap's standard error
    rank: int = 0  # 1: best of its column, 2: second, by the digits that are shown; 0: neither
    difference: Interval | None = None  # to the reference
    notes: tuple[str, ...] = ()  # letters
    ranked: bool = True  # whether it can be compared with its column
    run_id: str | None = None
    images: int = 0

    @property
    def significant(self) -> bool:
        """Whether the interval of the difference to the reference excludes 0."""
        return self.difference is not None and self.difference.excludes_zero


@dataclass(frozen=True)
class Matrix:
    """Methods × datasets."""

    heads: tuple[str, ...]  # method, and the settings that tell rows apart
    columns: tuple[str, ...]  # datasets, and the mean where there are several
    rows: tuple[tuple[str, ...], ...]  # what stands before the numbers
    cells: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...]  # letter and sentence
    legend: tuple[str, ...]  # what marks and numbers mean
    score: str
    digits: int
    spread: Spread

    def text(self, value: float) -> str:
        """A number as it is shown; ``-``: there is none."""
        return "-" if math.isnan(value) else _rounded(value, self.digits)


def matrix(
    *named: str,
    score: str = "miou",
    spread: Spread = "none",
    reference: str | None = None,
    rows: Sequence[str] | None = None,
    digits: int = 2,
    artifacts: Place | str = ARTIFACTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Matrix:
    """The table of methods × datasets of scored runs.

    Args:
        *named: runs, as ``find_run`` takes them; ``all`` or none: every run, oldest first,
            but for those of audits under other words (a ``ResultsWarning`` says how many).
        score: ``miou``, ``macc``, ``aacc``, ``fwiou``, ... (docs/metrics.md).
        spread: ``interval``: the 95 % interval; ``half``: half its width; ``se``: the bootstrap's
            standard error; ``none``.
        reference: a run, or the method of one row, that the other rows are compared with.
        rows: settings that tell rows apart beside the method; None: those in which the runs of a
            method differ on a dataset.
        digits: behind the point.
        artifacts: the folder of all artifacts.
        resamples: how often images are drawn.
        seed: of the draws.

    Raises:
        UserError: no such run or score; two runs for one cell; a reference that is no single row.
    """
    root = root_of(artifacts)
    runs = _runs(named, root)
    (score,) = measures_of([score])
    grid = grid_of(runs, rows)
    against = None if reference is None else _reference(reference, grid, root)
    classes: dict[str, Classes] = {}

    def classes_of(run: Run) -> Classes:
        """Read once."""
        if run["run_id"] not in classes:
            classes[run["run_id"]] = _classes(root, run["run_id"])
        return classes[run["run_id"]]

    notes = notes_of(grid, classes_of)
    made = _Maker(grid, score, spread, against, root, resamples, seed)
    return _finished(made, notes, digits)


def _runs(named: Sequence[str], root: Place) -> list[Run]:
    """The rows of the named runs, in their order."""
    if not named or tuple(named) == ("all",):
        some_run_ids(root)
        runs, left_out = list(reversed(read_runs(root))), of_other_words(root)
        kept = [run for run in runs if run["run_id"] not in left_out]
        if len(kept) < len(runs):
            count = number_of(len(runs) - len(kept), "run")
            said = f"{count} of audits, under other words, left out of all: name runs to show them"
            warnings.warn(ResultsWarning(said), stacklevel=3)
        return kept
    return [read_run(root, run_id)[0] for run_id in dict.fromkeys(find_run(n, root) for n in named)]


def _classes(root: Place, run_id: str) -> Classes:
    rows = sorted(read_run(root, run_id, "class_iou"), key=lambda row: row["class_id"])
    return Classes(
        tuple(row["class_name"] for row in rows), tuple(row["label"] or 0 for row in rows)
    )


def _reference(name: str, grid: Grid, root: Place) -> Row:
    """The row that the others are compared with.

    Raises:
        UserError: no row has the name, or several.
    """
    fitting = [row for row in grid.rows if row.method == name]
    if not fitting:
        methods = ", ".join(dict.fromkeys(row.method for row in grid.rows))
        try:
            run_id = find_run(name, root)
        except UserError as error:
            raise UserError(f"--reference: {error}; or a method of the table: {methods}") from None
        fitting = [row for (row, _), run in grid.runs.items() if run["run_id"] == run_id]
        if not fitting:
            raise UserError(f"--reference {run_id} is not in the table: name it among the runs")
    if len(fitting) > 1:
        labels = "; ".join(map(grid.label, fitting))
        raise UserError(
            f"--reference {name} has {len(fitting)} rows ({labels}): pass the id of a run in one"
        )
    return fitting[0]


class _Maker:
    """Values and draws of the cells."""

    def __init__(
        self,
        grid: Grid,
        score: str,
        spread: Spread,
        reference: Row | None,
        root: Place,
        resamples: int,
        seed: int,
    ) -> None:
        self.grid, self.score, self.spread, self.reference = grid, score, spread, reference
        self._root, self.resamples, self._seed = root, resamples, seed
        self._own: dict[tuple[Row, str], NDArray[np.float64]] = {}  # (1 + R,)
        self._gains: dict[tuple[Row, str], NDArray[np.float64]] = {}
        self.unpaired: dict[tuple[Row, str], str] = {}  # why there is no difference

    def cell(self, row: Row, dataset: str) -> Cell:
        """One run; without marks."""
        run = self.grid.runs.get((row, dataset))
        if run is None:
            return Cell()
        cell = Cell(run_id=run["run_id"], images=run["num_images"])
        is_drawn = self.spread != "none" and run["num_images"] >= FEWEST
        if is_drawn or self.score not in SCORES:
            drawn = self._drawn(paired([run["run_id"]], self._root), is_drawn)[0]
            cell = replace(cell, value=float(drawn[0]))
            if is_drawn:
                self._own[row, dataset] = drawn
                cell = _with_spread(cell, drawn)
        elif (value := run.get(self.score)) is not None:
            cell = replace(cell, value=float(value))
        return replace(cell, difference=self._difference(row, dataset, run))

    def mean(self, row: Row, cells: Sequence[Cell]) -> Cell:
        """Over all datasets; empty where one is missing, undefined or not to be compared."""
        if self.lacking(row, cells) is not None:
            return Cell()
        value = float(np.mean([cell.value for cell in cells]))
        cell, datasets = Cell(value=value), self.grid.datasets
        if all((row, name) in self._own for name in datasets):
            cell = _with_spread(cell, _mean([self._own[row, name] for name in datasets]))
        if all((row, name) in self._gains for name in datasets):
            gain = interval(_mean([self._gains[row, name] for name in datasets]))
            cell = replace(cell, difference=gain)
        return cell

    def lacking(self, row: Row, cells: Sequence[Cell]) -> str | None:
        """Why a row has no mean."""
        pairs = list(zip(self.grid.datasets, cells, strict=True))
        missing = [name for name, cell in pairs if cell.run_id is None]
        undefined = [name for name, cell in pairs if cell.run_id and math.isnan(cell.value)]
        marked = [name for name, cell in pairs if cell.notes]
        if missing:
            return f"no run on {', '.join(missing)}"
        if undefined:
            return f"no score on {', '.join(undefined)}"
        return f"marked on {', '.join(marked)}" if marked else None

    def _drawn(self, pairs: Paired, again: bool = True) -> NDArray[np.float64]:
        """The score of runs (K, 1 + R), of the dataset first; without ``again`` (K, 1)."""
        resamples = self.resamples if again else 0
        measures = measures_of([self.score])
        return drawn_measures(pairs, measures, self._root, resamples, self._seed)[self.score]

    def _difference(self, row: Row, dataset: str, run: Run) -> Interval | None:
        """To the reference on the images that both have; None: it cannot be told."""
        base = self.grid.runs.get((self.reference, dataset)) if self.reference else None
        if self.reference is None or base is None or row == self.reference:
            return None
        try:
            pairs = paired([base["run_id"], run["run_id"]], self._root)
        except UserError as error:
            self.unpaired[row, dataset] = str(error)
            return None
        if len(pairs) < FEWEST:
            return None
        base_drawn, drawn = self._drawn(pairs)
        self._gains[row, dataset] = drawn - base_drawn
        return interval(self._gains[row, dataset])


def _with_spread(cell: Cell, drawn: NDArray[np.float64]) -> Cell:
    """A cell with its interval and standard error, of draws the first of which is the score."""
    _, low, high = interval(drawn)
    known = drawn[1:][~np.isnan(drawn[1:])]
    error = float(np.std(known, ddof=1)) if len(known) > 1 else UNDEFINED
    return replace(cell, low=low, high=high, error=error)


def _mean(drawn: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Means of independent draws: those of each dataset in an order of its own."""
    total = drawn[0].copy()
    for place, values in enumerate(drawn[1:], 1):
        order = np.random.default_rng(place).permutation(len(values) - 1)
        total[0] += values[0]
        total[1:] += values[1:][order]
    return total / len(drawn)


def _finished(made: _Maker, notes: Mapping[tuple[Row, str], list[Note]], digits: int) -> Matrix:
    """Cells with their marks, in rows, and what the marks mean."""
    grid, letters = made.grid, dict[str, str]()

    def letter(sentence: str) -> str:
        """The same for the same sentence."""
        return letters.setdefault(sentence, _letter(len(letters)))

    lines: list[list[Cell]] = []
    for row in grid.rows:
        cells = []
        for dataset in grid.datasets:
            own = notes.get((row, dataset), [])
            cell = made.cell(row, dataset)
            marks = tuple(letter(note.sentence) for note in own)
            cells.append(replace(cell, notes=marks, ranked=not any(n.of_column for n in own)))
        if len(grid.datasets) > 1:
            mean, why = made.mean(row, cells), made.lacking(row, cells)
            marks = (letter(f"no mean: {why}"),) if why else ()
            cells.append(replace(mean, notes=marks))
        lines.append(cells)
    for place in range(len(lines[0])):
        _rank([line[place] for line in lines], lines, place, digits)
    columns = (*map(printable, grid.datasets), *([MEAN] if len(grid.datasets) > 1 else []))
    return Matrix(
        heads=("method", *grid.columns),
        columns=columns,
        rows=tuple(grid.shown(row) for row in grid.rows),
        cells=tuple(map(tuple, lines)),
        notes=tuple((mark, printable(sentence)) for sentence, mark in letters.items()),
        legend=tuple(_legend(made, lines, digits)),
        score=made.score,
        digits=digits,
        spread=made.spread,
    )


def _rank(column: Sequence[Cell], lines: list[list[Cell]], place: int, digits: int) -> None:
    """Mark the best and the second of a column; cells that show the same number share a mark."""
    shown = [
        None if math.isnan(cell.value) or not cell.ranked else Decimal(_rounded(cell.value, digits))
        for cell in column
    ]
    known = [value for value in shown if value is not None]
    if len(known) < 2:
        return
    for line, value in zip(lines, shown, strict=True):
        if value is not None:
            rank = 1 + sorted(set(known), reverse=True).index(value)
            line[place] = replace(line[place], rank=rank if rank <= 2 else 0)


def _rounded(value: float, digits: int) -> str:
    """The exact value of a float, rounded half to even as Python's formats do."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN))


def _letter(place: int) -> str:
    """``a`` to ``z``, then ``aa``."""
    before, last = divmod(place, 26)
    return (_letter(before - 1) if before else "") + "abcdefghijklmnopqrstuvwxyz"[last]


def _legend(made: _Maker, lines: Sequence[Sequence[Cell]], digits: int) -> list[str]:
    """What the numbers and marks mean, a sentence each."""
    cells = [cell for line in lines for cell in line]
    name = score_label(made.score)
    images = _images(made.grid)
    ranked = "; best of each column bold, second underlined" if any(c.rank for c in cells) else ""
    said = [f"{name} in percent{ranked}. Images: {images}."]
    draws = f"{made.resamples:,} draws of the images"
    means = {
        "interval": f"[ ]: 95 % bootstrap interval, {draws}.",
        "half": f"±: half the width of the 95 % bootstrap interval, {draws}.",
        "se": f"±: bootstrap standard error, {draws}.",
    }
    said += [means[made.spread]] if made.spread in means else []
    if made.reference is not None:
        label = made.grid.label(made.reference)
        said.append(
            f"†: the difference to {label} is more than the choice of images explains (its 95 % "
            "interval by paired bootstrap over the common images excludes 0)."
        )
        for (row, dataset), why in made.unpaired.items():
            said.append(f"{made.grid.label(row)} on {dataset}: no comparison: {why}.")
    if any(not cell.ranked for cell in cells):
        said.append("What is not as the others of its column is neither ranked nor in a mean.")
    few = [c.images for c in cells if c.run_id and c.images < FEW]
    if few and (made.spread != "none" or made.reference is not None):
        said.append(f"Intervals of few images ({min(few)}) say little.")
    return [printable(line) for line in said]


def _images(grid: Grid) -> str:
    """``scenes 50, voc21 1,449``: of each dataset the number that its runs have."""
    counts: dict[str, set[int]] = {}
    for (_, dataset), run in grid.runs.items():
        counts.setdefault(dataset, set()).add(int(run["num_images"]))
    parts: list[Any] = []
    for dataset in grid.datasets:
        numbers = sorted(counts[dataset])
        shown = f"{numbers[0]:,}" + (f" to {numbers[-1]:,}" if len(numbers) > 1 else "")
        parts.append(f"{dataset} {shown}")
    return ", ".join(parts)
