"""Groups of classes, such as things and stuff: one CSV file a list, ``class,group``.

Those of benchmarks are in ``groupings/``; comments at their beginning say where each was published.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sclip_core.config import UserError, unknown
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.config.paths import local

BUILT_IN = Path(__file__).with_name("groupings")
SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Grouping:
    """Groups of the classes of a vocabulary.

    Attributes:
        groups: the classes of each group by number, in the order of the file.
        without: the names of the classes that are in none.
    """

    groups: dict[str, tuple[int, ...]]
    without: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """A line that names the classes without a group."""
        if not self.without:
            return None
        return f"{number_of(len(self.without), 'class')} in no group: {few(self.without)}"


def grouping(source: str | Path, class_names: Sequence[str]) -> Grouping:
    """Read the groups of the classes of a vocabulary.

    Args:
        source: the name of a benchmark that has groups, or a file of lines ``class,group``; a
            class is its name or its number, counted from 0.
        class_names: of the vocabulary.

    Raises:
        UserError: no such list, a line that is none, or a class that there is not.
    """
    text, where = _read(source)
    tabbed = where.lower().endswith(".tsv")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=",\t"[tabbed])]
    if rows and rows[0][0].lower() in ("class", "class_name"):
        del rows[0]
    place = {name: k for k, name in enumerate(class_names)}
    groups: dict[str, list[int]] = {}
    seen: set[int] = set()
    for row in rows:
        if len(row) != 2 or not all(row):
            raise UserError(f"{where}: expected lines `class,group`, found {shown(','.join(row))}")
        number = place.get(row[0], _number(row[0], len(class_names)))
        if number is None:
            raise unknown(f"class in {where}:", row[0], class_names)
        if number in seen:
            raise UserError(f"{where}: {row[0]} stands in two lines: a class has one group")
        seen.add(number)
        groups.setdefault(row[1], []).append(number)
    if not groups:
        raise UserError(f"{where} has no line `class,group`")
    without = tuple(name for k, name in enumerate(class_names) if k not in seen)
    return Grouping({name: tuple(classes) for name, classes in groups.items()}, without)


def benchmark_groups(dataset: str, class_names: Sequence[str]) -> Grouping | None:
    """The groups of a benchmark's classes; None: it has none, or the run has other classes."""
    if dataset not in grouped_benchmarks():
        return None
    try:
        return grouping(dataset, class_names)
    except UserError:
        return None


def grouped_benchmarks() -> list[str]:
    """The benchmarks that have groups."""
    return sorted(path.stem for path in BUILT_IN.glob("*.csv"))


def _number(text: str, count: int) -> int | None:
    """The number of a class that is written as one."""
    return int(text) if text.isascii() and text.isdecimal() and int(text) < count else None


def _read(source: str | Path) -> tuple[str, str]:
    """The text of a list, and how it is called."""
    name = str(source).lower().replace("-", "_")
    if name in grouped_benchmarks():
        return (BUILT_IN / f"{name}.csv").read_text("utf-8"), f"{name}.csv"
    path = Path(source)
    if not os.path.isfile(local(path)):
        known = ", ".join(grouped_benchmarks())
        raise UserError(
            f"no groups {shown(str(source))}: expected a file of lines `class,group`, or one of "
            f"{known}"
        )
    try:
        return path.read_text("utf-8-sig"), str(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8: {error}") from None
