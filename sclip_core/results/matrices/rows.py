"""Which runs make a row of the table: those of one method that differ in nothing that is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sclip_core.config import ROLES, SEVERAL, UserError
from sclip_core.config.errors import few, printable, unknown
from sclip_core.results.settings import (
    NO_SETTINGS,
    described_mode,
    differing_settings,
    method_name,
    setting,
)

Run = Mapping[str, Any]  # a row of the table ``runs``
BY_DATASET = "by dataset"  # in place of a value that a method sets for each
# Columns of ``runs`` that somebody chose, so that two values of one are two rows of the table.
CHOSEN = tuple(
    name
    for name in dict.fromkeys((*SEVERAL, *ROLES))
    if ROLES[name].part in ("model", "dense", "decision", "masks")
    and name not in NO_SETTINGS
    and name not in ("method", "attention")
)
# Settings whose absence means that the run does not read them: another value says more.
UNREAD_OFTEN = {"pamr_dilations", "logit_scale"} | {
    name for name in CHOSEN if ROLES[name].part == "masks"
}
COMPARED = ("num_images", "num_failed", "words_sha256", "ground_truth")  # beside the settings


class Row(NamedTuple):
    """What the runs of a row have in common."""

    method: str
    values: tuple[str | None, ...]  # of the columns; None: not what tells this method's rows apart


class Grid(NamedTuple):
    """Runs in rows and columns."""

    columns: tuple[str, ...]  # settings that tell rows apart
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    runs: dict[tuple[Row, str], Run]  # by row and dataset; not all have one

    def of_row(self, row: Row) -> dict[str, Run]:
        """The runs of a row, by dataset."""
        found = {name: self.runs.get((row, name)) for name in self.datasets}
        return {name: run for name, run in found.items() if run is not None}

    def label(self, row: Row) -> str:
        """``csa, pamr_steps 10``."""
        pairs = zip(self.columns, row.values, strict=True)
        return ", ".join([row.method, *(f"{n} {v}" for n, v in pairs if v not in (None, "-"))])

    def shown(self, row: Row) -> tuple[str, ...]:
        """What stands before the numbers: the method, and the value of each column."""
        cells = [row.method]
        for name, value in zip(self.columns, row.values, strict=True):
            found = {_value(run, name) for run in self.of_row(row).values()}
            cells.append(value or (found.pop() if len(found) == 1 else BY_DATASET))
        return tuple(cells)


def grid_of(runs: Sequence[Run], chosen: Sequence[str] | None = None) -> Grid:
    """Arrange runs: a row for each method and each value of what its runs differ in.

    Args:
        runs: rows of the table ``runs``; rows and columns come in their order.
        chosen: settings that tell rows apart, beside the method; None: those in which runs of one
            method on one dataset differ.

    Raises:
        UserError: a setting that there is not, or two runs for one cell.
    """
    unique = list({run["run_id"]: run for run in runs}.values())
    by_method: dict[str, list[Run]] = {}
    for run in unique:
        by_method.setdefault(method_of(run), []).append(run)
    if chosen is None:
        telling = {method: _telling(some) for method, some in by_method.items()}
    else:
        _check(chosen, unique)
        telling = dict.fromkeys(by_method, tuple(dict.fromkeys(chosen)))
    order = ("mode", *CHOSEN) if chosen is None else tuple(chosen)
    columns = tuple(n for n in dict.fromkeys(order) if any(n in some for some in telling.values()))
    found: dict[tuple[Row, str], Run] = {}
    for run in unique:
        method = method_of(run)
        own = telling[method]
        row = Row(method, tuple(_value(run, n) if n in own else None for n in columns))
        other = found.setdefault((row, run["dataset"]), run)
        if other is not run:
            raise _two_runs(other, run, chosen)
    rows = tuple(dict.fromkeys(row for row, _ in found))
    datasets = tuple(dict.fromkeys(run["dataset"] for run in unique))
    return Grid(columns, _together(rows), datasets, found)


def method_of(run: Run) -> str:
    """What a run is called by: its method or attention, or what it does where it has none."""
    return printable(method_name(dict(run)) or described_mode(dict(run)))


def _together(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of one method one after the other, in the order of the methods."""
    methods = list(dict.fromkeys(row.method for row in rows))
    return tuple(sorted(rows, key=lambda row: methods.index(row.method)))


def _telling(runs: Sequence[Run]) -> tuple[str, ...]:
    """What runs of one method differ in on some dataset."""
    by_dataset: dict[str, list[Run]] = {}
    for run in runs:
        by_dataset.setdefault(run["dataset"], []).append(run)

    def differs(name: str) -> bool:
        """Whether two runs on one dataset have two values; what a run does not read is none."""
        values = [{_value(run, name) for run in some} for some in by_dataset.values()]
        unread = {"-"} if name in UNREAD_OFTEN else set[str]()
        return any(len(each - unread) > 1 for each in values)

    return tuple(name for name in ("mode", *CHOSEN) if differs(name))


def _value(run: Run, name: str) -> str:
    return setting(dict(run), name)


def _check(chosen: Iterable[str], runs: Sequence[Run]) -> None:
    """Raise for a name that no run has."""
    known = dict.fromkeys(name for run in runs for name in run)
    for name in chosen:
        if name not in known:
            raise unknown("setting in --rows:", name, known)


def _two_runs(one: Run, other: Run, chosen: Sequence[str] | None) -> UserError:
    """The error for two runs that would stand in one cell."""
    names = differing_settings([dict(one), dict(other)], together=True)
    names += [n for n in COMPARED if one.get(n) != other.get(n) and n not in names]
    said = few([f"{n} {_value(one, n)} and {_value(other, n)}" for n in names], 4)
    differ = f"they differ in {said}" if names else "no setting differs, so the files do"
    free = [name for name in names if name not in (chosen or ())]
    a_row_each = f", or pass --rows {','.join([*(chosen or ()), *free])}" if free else ""
    return UserError(
        f"{one['run_id']} and {other['run_id']} are both {method_of(one)} on {one['dataset']} "
        f"({differ}), and a cell has one run: name the runs that you want{a_row_each}"
    )
