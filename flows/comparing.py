"""What ``sclip compare`` prints: who is compared, the scores, the classes that moved most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from flows.listing import STANDS_OUT, differing_settings, score, setting
from sclip_core.results import Paired
from sclip_core.results.comparison import SCORES
from sclip_core.store.results import read_run

FEW = 30  # images, below which intervals say little
Rows = dict[str, list[dict[str, Any]]]  # of the table of ``compare``, by run


def comparison(pairs: Paired, table: pa.Table, classes: int, artifacts: Path) -> Iterator[Any]:
    """Lines and tables, in the order in which they are printed.

    Args:
        pairs: the runs.
        table: what ``compare_paired`` gives for them.
        classes: how many are shown; 0: all.
        artifacts: the folder of all artifacts.
    """
    letters = dict(zip(pairs.run_ids, _letters(len(pairs.run_ids)), strict=True))
    yield from _who(pairs, letters, artifacts)
    by_run: Rows = {run_id: [] for run_id in pairs.run_ids[1:]}
    for row in table.to_pylist():
        by_run[row["run_id"]].append(row)
    yield _scores(by_run, letters)
    shown = _classes(by_run, letters, classes)
    yield shown
    hidden = len(pairs.class_names) - shown.row_count
    if hidden:
        yield f"{hidden} more moved less: --classes 0 shows all"
    if any(_told(row) for rows in by_run.values() for row in rows):
        yield "* its 95 % interval leaves out 0: more than the choice of images explains"
        if (chance := round(0.05 * len(pairs.class_names))) > 1:
            yield f"  (about {chance} of the classes would have one by chance alone)"
    if len(pairs.images) < FEW:
        yield f"{len(pairs.images)} images: intervals of so few say little"


def _letters(count: int) -> list[str]:
    """A, B, C, ...; beyond Z numbers."""
    return [*ascii_uppercase, *map(str, range(27, count + 1))][:count]


def _who(pairs: Paired, letters: dict[str, str], artifacts: Path) -> Iterator[str]:
    """A line a run: its letter, its id, and in what it differs."""
    runs = [read_run(artifacts, run_id)[0] for run_id in pairs.run_ids]
    names = differing_settings(runs)
    for run in runs:
        what = ", ".join(f"{name} {setting(run, name)}" for name in names)
        yield f"{letters[run['run_id']]}  {run['run_id']}  {what or 'the same settings'}"
    yield (
        f"{len(pairs.images):,} images that all have"
        + (f"; left out: {pairs.left_out:,} that not all have" if pairs.left_out else "")
        + (
            f"; left out: {pairs.other_truth:,} with another ground truth"
            if pairs.other_truth
            else ""
        )
    )


def _scores(by_run: Rows, letters: dict[str, str]) -> Table:
    """mIoU, mAcc and aAcc."""
    table = _columns(["score", "A"], by_run, letters)
    for place, name in enumerate(SCORES):
        rows = [rows[place] for rows in by_run.values()]
        table.add_row(SCORES[name], score(rows[0]["base"]), *_cells(rows))
    return table


def _classes(by_run: Rows, letters: dict[str, str], most: int) -> Table:
    """IoU by class, those that moved most in any of the runs first."""
    by_class: dict[int, list[dict[str, Any]]] = {}
    for rows in by_run.values():
        for row in rows[len(SCORES) :]:
            by_class.setdefault(row["class_id"], []).append(row)
    order = sorted(
        by_class.values(), key=lambda rows: -max(abs(r["difference"] or 0) for r in rows)
    )
    table = _columns(["class, IoU", "images", "A"], by_run, letters)
    for rows in order[: most or None]:
        first = rows[0]
        images = f"{max(row['images'] for row in rows):,}"
        table.add_row(first["class_name"], images, score(first["base"]), *_cells(rows))
    return table


def _columns(first: list[str], by_run: Rows, letters: dict[str, str]) -> Table:
    table = Table()
    for name in first:
        table.add_column(name, justify="right" if name in ("A", "images") else "left")
    for run_id in by_run:
        table.add_column(letters[run_id], justify="right")
        table.add_column(f"{letters[run_id]} - A  [95 %]", no_wrap=True)
    return table


def _cells(rows: list[dict[str, Any]]) -> Iterator[str | Text]:
    """For each run its value, and its difference with the interval."""
    for row in rows:
        yield score(row["value"])
        if row["difference"] is None:
            yield "-"
            continue
        text = f"{row['difference']:+6.2f}"
        if row["low"] is None:
            yield f"{text}  too few images"
            continue
        told = _told(row)
        text += f"  [{row['low']:+.2f}, {row['high']:+.2f}]{' *' if told else ''}"
        yield Text(text, STANDS_OUT if told else "")


def _told(row: dict[str, Any]) -> bool:
    """Whether a difference is more than the choice of images explains."""
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
