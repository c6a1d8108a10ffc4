"""What ``sclip compare`` prints: the runs, their scores, and the classes that moved most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from string import ascii_uppercase
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.console import STANDS_OUT, least_width, score
from sclip_core.config import printable
from sclip_core.config.places import Place
from sclip_core.results import Paired
from sclip_core.results.comparison import few_images, groups_note
from sclip_core.results.files import read_run
from sclip_core.results.measured import score_label
from sclip_core.results.settings import differing_settings, setting

Row = dict[str, Any]
LETTERS = (*ascii_uppercase, *map(str, range(27, 1000)))  # of the runs
# All runs in one table, or one after the other; and whether narrow: without the column of images,
# without padding, intervals on a line of their own. The first that fits is taken, or the last.
LAYOUTS = ((True, False), (False, False), (False, True))


def comparison(
    pairs: Paired, table: pa.Table, classes: int, artifacts: Place, out: Console
) -> Iterator[str | Table]:
    """Lines and tables, in the order in which they are printed.

    Args:
        pairs: the runs.
        table: what ``compare_paired`` gives for them.
        classes: how many are shown; 0: all.
        artifacts: the folder of all artifacts.
        out: where they are printed; no number is wider than it.
    """
    yield from _legend(pairs, artifacts)
    by_run: list[list[Row]] = [[] for _ in pairs.run_ids[1:]]
    for row in table.to_pylist():
        by_run[pairs.run_ids.index(row["run_id"]) - 1].append(row)
    for together, narrow in LAYOUTS:
        others = dict(zip(LETTERS[1:], by_run, strict=False))
        groups = [others] if together else [{letter: others[letter]} for letter in others]
        tables = [t for group in groups for t in _tables(group, classes, narrow)]
        if all(least_width(each) <= out.width for each in tables):
            break
    yield from tables
    hidden = len(pairs.class_names) - tables[-1].row_count
    if hidden:
        yield f"{hidden} more moved less: --classes 0 shows all"
    if any(_excludes_zero(row) for rows in by_run for row in rows):
        yield "* the 95 % interval excludes 0: more than the choice of images explains"
        yield from _by_chance(by_run)
    if few := few_images(len(pairs)) or groups_note(len(pairs)):
        yield few


def _by_chance(by_run: Sequence[Sequence[Row]]) -> Iterator[str]:
    """How many stars there would be without any difference."""
    known = sum(row["low"] is not None for rows in by_run for row in rows if _of_class(row))
    if (chance := round(0.05 * known)) > 1:
        what = "classes" if len(by_run) == 1 else "differences of classes"
        # percentile intervals of few images are narrow: nearer 8 in 100 were measured
        yield (
            f"  (at least about {chance} of the {known} {what} with an interval would have one "
            "by chance alone)"
        )


def _legend(pairs: Paired, artifacts: Place) -> Iterator[str]:
    """A line a run: its letter, its id, and in what it differs; then the images."""
    runs = [read_run(artifacts, run_id)[0] for run_id in pairs.run_ids]
    names = differing_settings(runs, together=True)
    for letter, run in zip(LETTERS, runs, strict=False):
        what = ", ".join(f"{name} {setting(run, name)}" for name in names)
        yield f"{letter}  {printable(run['run_id'])}  {what or 'no setting differs'}"
    line = f"{len(pairs):,} image{'s' if len(pairs) > 1 else ''} that all have"
    if pairs.left_out:
        line += f"; left out: {pairs.left_out:,} that not all have"
    if pairs.other_truth:
        line += f"; left out: {pairs.other_truth:,} with another ground truth"
    yield line


def _tables(others: dict[str, list[Row]], most: int, narrow: bool) -> Iterator[Table]:
    """The scores, and the IoU of classes, those that moved most in any of the runs first.

    Args:
        others: the rows of the runs beside A, by letter.
        most: classes that are shown; 0: all.
        narrow: see ``LAYOUTS``.
    """
    by_name: dict[tuple[str, int | None], list[Row]] = {}
    for row in chain(*others.values()):
        by_name.setdefault((row["score"], row["class_id"]), []).append(row)
    lines = list(by_name.values())
    scores = [rows for rows in lines if not _of_class(rows[0])]
    classes = [rows for rows in lines if _of_class(rows[0])]
    classes.sort(key=lambda rows: -max(abs(row["difference"] or 0) for row in rows))
    yield _table(["score"], scores, others, narrow)
    heads = ["class, IoU"] if narrow else ["class, IoU", "images"]
    yield _table(heads, classes[: most or None], others, narrow)


def _table(heads: list[str], lines: list[list[Row]], letters: Iterable[str], narrow: bool) -> Table:
    """A table in which no number is cut; names are folded where there is little room.

    Args:
        heads: of the columns before the numbers: a name, and maybe images.
        lines: for each line the rows of all runs.
        letters: of these runs.
        narrow: see ``LAYOUTS``.
    """
    mark = "\n" if narrow else "  "
    cells: list[list[str | Text]] = []
    for rows in lines:
        of_class = _of_class(rows[0])
        name = printable(rows[0]["class_name"] if of_class else score_label(rows[0]["score"]))
        images = [f"{max(row['images'] for row in rows):,}"] if len(heads) > 1 else []
        cells.append([name, *images, score(rows[0]["base"]), *_cells(rows, mark)])
    heads = [*heads, "A", *(head for x in letters for head in (x, f"{x} - A{mark}[95 %]"))]
    table = Table(padding=(0, 0 if narrow else 1))
    table.add_column(heads[0], overflow="fold")
    for place, head in enumerate(heads[1:], 1):
        column = "\n".join([head, *(str(line[place]) for line in cells)])
        justify: Any = "left" if "-" in head else "right"
        least = max(map(len, column.split("\n")))
        table.add_column(head, no_wrap=True, min_width=least, justify=justify)
    for line in cells:
        table.add_row(*line)
    return table


def _cells(rows: Sequence[Row], mark: str) -> Iterator[str | Text]:
    """For each run its value, and its difference with the interval."""
    for row in rows:
        yield score(row["value"])
        if row["difference"] is None:
            yield "-"
            continue
        text = f"{row['difference']:+6.2f}{mark}"
        if row["low"] is None:
            yield f"{text}too few images"
            continue
        sure = _excludes_zero(row)
        text += f"[{row['low']:+.2f}, {row['high']:+.2f}]{' *' if sure else ''}"
        yield Text(text, STANDS_OUT if sure else "")


def _of_class(row: Row) -> bool:
    """Whether a row is of a class, and not of the dataset."""
    return row["class_id"] is not None


def _excludes_zero(row: Row) -> bool:
    """Whether a difference is more than the choice of images explains."""
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
