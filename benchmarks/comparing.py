"""Figures of now beside those of an earlier file: row by row, with their ratio."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Machine, Row
from sclip_core.config import UserError

SAME = {"cpu": "CPU", "cores": "cores", "threads": "PyTorch's threads", "torch": "PyTorch"}
SCALES = {  # what is measured, and what one of a unit is of it
    "µs": ("seconds", 1e-6),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "MB": ("memory", 1.0),
    "GB": ("memory", 1e3),
    "GFLOP/s": ("rate", 1.0),
    "TFLOP/s": ("rate", 1e3),
}
UNITS = "|".join(map(re.escape, (*sorted(SCALES, key=len, reverse=True), "images/s", "%", "×")))
FIGURE = re.compile(rf"(?<![\w.])(1/)?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?) ?((?:{UNITS})(?!\w))?")


class Figure(NamedTuple):
    """What a row measured, first of all."""

    kind: str  # "seconds", "memory"; else the unit itself
    value: float
    text: str  # as it was written

    @classmethod
    def of(cls, measured: str) -> Figure | None:
        """The first figure of what a row says; None: it was not measured, or failed."""
        found = None if measured.startswith(("failed", "not ")) else FIGURE.search(measured)
        if not found:
            return None
        part, number, unit = found.groups(default="")
        kind, scale = SCALES.get(unit, (unit, 1.0))
        return cls(part + kind, float(number) * scale, found[0].strip())


class Old(NamedTuple):
    """What an earlier file holds."""

    path: Path
    machine: Mapping[str, Any]
    quick: bool
    measured: Mapping[str, str]  # by the names of the rows, in order

    @classmethod
    def read(cls, path: Path) -> Old:
        """Read a file that ``python -m benchmarks`` wrote.

        Raises:
            UserError: it cannot be read, or is no such file.
        """
        wanted = "expected a file that `python -m benchmarks --json FILE` wrote"
        try:
            found = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"--compare {path}: {error.strerror}; {wanted}") from None
        except (ValueError, RecursionError):  # no JSON, or no text
            raise UserError(f"--compare {path} is no JSON: {wanted}") from None
        try:
            measured = {str(row["name"]): str(row["measured"]) for row in found["rows"]}
            return cls(path, dict(found["machine"]), bool(found["quick"]), measured)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"--compare {path} holds no rows of measurements: {wanted}") from None


def differences(old: Old, now: Machine, quick: bool) -> Iterator[str]:
    """What was otherwise when the old file was written, a line each."""
    if old.quick != quick:
        yield f"{old.path} was measured {'with' if old.quick else 'without'} --quick"
    this = asdict(now)
    for field, name in SAME.items():
        before = old.machine.get(field, "not said")
        if before != this[field]:
            yield f"{name}: {before} in {old.path}, {this[field]} now"


def compared(old: Old, rows: Sequence[Row]) -> Iterator[tuple[str, str, str, str]]:
    """Rows that both have, and whose figures are of one kind.

    Yields:
        The row's name, the old figure, the new one, and new / old.
    """
    for row in rows:
        before, now = Figure.of(old.measured.get(row.name, "not there")), Figure.of(row.measured)
        if before and now and before.kind == now.kind:
            ratio = f"{now.value / before.value:.2f}×" if before.value else "–"
            yield row.name, before.text, now.text, ratio


def left_out(old: Old, rows: Sequence[Row]) -> Iterator[str]:
    """Which rows were not compared, a line for each reason."""
    names = {row.name for row in rows}
    both = names & old.measured.keys()
    shown = {name for name, *_ in compared(old, rows)}
    for count, why in (
        (len(old.measured.keys() - names), f"only in {old.path}"),
        (len(names - both), "only measured now"),
        (len(both - shown), "without figures of one kind"),
    ):
        if count:
            yield f"{count} rows {why}"
