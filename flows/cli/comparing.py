"""What ``sclip compare`` prints: who is compared, the scores, the classes that moved most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.console import least_width
from flows.cli.listing import STANDS_OUT, differing_settings, score, setting
from sclip_core.config import printable
from sclip_core.results import Paired
from sclip_core.results.comparison import FEW, SCORES
from sclip_core.results.files import read_run

Rows = dict[str, list[dict[str, Any]]]  # of the table of ``compare``, by run


class Layout(NamedTuple):
    """What is given up where there is little room."""

    together: bool = False  # all runs in one table
    images: bool = True  # the column
    in_two: bool = False  # lines: the difference, and its interval
    padded: bool = True


LAYOUTS = (  # the widest first
    Layout(together=True),
    Layout(),
    Layout(images=False),
    Layout(images=False, in_two=True),
    Layout(images=False, in_two=True, padded=False),
)


def comparison(
    pairs: Paired, table: pa.Table, classes: int, artifacts: Path, out: Console
) -> Iterator[Any]:
    """Lines and tables, in the order in which they are printed.

    Args:
        pairs: the runs.
        table: what ``compare_paired`` gives for them.
        classes: how many are shown; 0: all.
        artifacts: the folder of all artifacts.
        out: where they are printed: no number is wider than it.
    """
    letters = dict(zip(pairs.run_ids, _letters(len(pairs.run_ids)), strict=True))
    yield from _who(pairs, letters, artifacts)
    by_run: Rows = {run_id: [] for run_id in pairs.run_ids[1:]}
    for row in table.to_pylist():
        by_run[row["run_id"]].append(row)
    for layout in LAYOUTS:
        tables = list(_tables(by_run, letters, classes, layout))
        if all(least_width(each) <= out.width for each in tables):
            break
    yield from tables
    hidden = len(pairs.class_names) - tables[-1].row_count
    if hidden:
        yield f"{hidden} more moved less: --classes 0 shows all"
    if any(_told(row) for rows in by_run.values() for row in rows):
        yield "* its 95 % interval leaves out 0: more than the choice of images explains"
        yield from _by_chance(by_run)
    if (count := len(pairs.images)) < FEW:
        yield f"{count} image{'s' if count > 1 else ''}: intervals of so few say little"


def _by_chance(by_run: Rows) -> Iterator[str]:
    """How many stars there would be without any difference."""
    rows = [row for rows in by_run.values() for row in rows[len(SCORES) :]]
    known = sum(row["low"] is not None for row in rows)
    if (chance := round(0.05 * known)) > 1:
        what = "classes" if len(by_run) == 1 else "differences of classes"
        # percentile intervals of few images are narrow: nearer 8 in 100 were measured
        yield (
            f"  (at least about {chance} of the {known} {what} with an interval would have one "
            "by chance alone)"
        )


def _letters(count: int) -> list[str]:
    """A, B, C, ...; beyond Z numbers."""
    return [*ascii_uppercase, *map(str, range(27, count + 1))][:count]


def _who(pairs: Paired, letters: dict[str, str], artifacts: Path) -> Iterator[str]:
    """A line a run: its letter, its id, and in what it differs."""
    runs = [read_run(artifacts, run_id)[0] for run_id in pairs.run_ids]
    names = differing_settings(runs, together=True)
    for run in runs:
        what = ", ".join(f"{name} {setting(run, name)}" for name in names)
        who = f"{letters[run['run_id']]}  {printable(run['run_id'])}"
        yield f"{who}  {what or 'no setting differs'}"
    yield (
        f"{len(pairs.images):,} image{'s' if len(pairs.images) > 1 else ''} that all have"
        + (f"; left out: {pairs.left_out:,} that not all have" if pairs.left_out else "")
        + (
            f"; left out: {pairs.other_truth:,} with another ground truth"
            if pairs.other_truth
            else ""
        )
    )


def _tables(by_run: Rows, letters: dict[str, str], most: int, layout: Layout) -> Iterator[Table]:
    """Scores and classes of all runs; or of one run after the other."""
    groups = [by_run] if layout.together else [{run_id: by_run[run_id]} for run_id in by_run]
    for group in groups:
        yield _scores(group, letters, layout)
        yield _classes(group, letters, most, layout)


def _scores(by_run: Rows, letters: dict[str, str], layout: Layout) -> Table:
    """mIoU, mAcc and aAcc."""
    lines = []
    for place, name in enumerate(SCORES):
        rows = [rows[place] for rows in by_run.values()]
        lines.append([SCORES[name], score(rows[0]["base"]), *_cells(rows, layout)])
    return _table(["score", "A"], lines, by_run, letters, layout)


def _classes(by_run: Rows, letters: dict[str, str], most: int, layout: Layout) -> Table:
    """IoU by class, those that moved most in any of the runs first."""
    by_class: dict[int, list[dict[str, Any]]] = {}
    for rows in by_run.values():
        for row in rows[len(SCORES) :]:
            by_class.setdefault(row["class_id"], []).append(row)
    order = sorted(
        by_class.values(), key=lambda rows: -max(abs(r["difference"] or 0) for r in rows)
    )
    lines = []
    for rows in order[: most or None]:
        first = rows[0]
        images = [f"{max(row['images'] for row in rows):,}"] if layout.images else []
        name = printable(first["class_name"])
        lines.append([name, *images, score(first["base"]), *_cells(rows, layout)])
    names = ["class, IoU", *(["images"] if layout.images else []), "A"]
    return _table(names, lines, by_run, letters, layout)


def _table(
    first: list[str],
    lines: list[list[str | Text]],
    by_run: Rows,
    letters: dict[str, str],
    layout: Layout,
) -> Table:
    """A table of which no number is cut; names are folded where there is little room."""
    mark = "\n" if layout.in_two else "  "
    heads = [f"{letters[run_id]}{rest}" for run_id in by_run for rest in ("", f" - A{mark}[95 %]")]
    names = [*first, *heads]
    table = Table(padding=(0, 1 if layout.padded else 0))
    table.add_column(names[0], overflow="fold")
    for place, name in enumerate(names[1:], 1):
        cells = [str(line[place]) for line in lines] + [name]
        least = max(len(part) for cell in cells for part in cell.split("\n"))
        justify: Any = "left" if "-" in name else "right"
        table.add_column(name, no_wrap=True, min_width=least, justify=justify)
    for line in lines:
        table.add_row(*line)
    return table


def _cells(rows: list[dict[str, Any]], layout: Layout) -> Iterator[str | Text]:
    """For each run its value, and its difference with the interval."""
    mark = "\n" if layout.in_two else "  "
    for row in rows:
        yield score(row["value"])
        if row["difference"] is None:
            yield "-"
            continue
        text = f"{row['difference']:+6.2f}"
        if row["low"] is None:
            yield f"{text}{mark}too few images"
            continue
        told = _told(row)
        text += f"{mark}[{row['low']:+.2f}, {row['high']:+.2f}]{' *' if told else ''}"
        yield Text(text, STANDS_OUT if told else "")


def _told(row: dict[str, Any]) -> bool:
    """Whether a difference is more than the choice of images explains."""
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
