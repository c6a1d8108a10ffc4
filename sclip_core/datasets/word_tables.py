"""Classes in a table with a header: ``Pixel Value, Class`` and the like, as CSV or TSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from sclip_core.config import UserError
from sclip_core.datasets.word_text import Line, shielded, with_quotes

NAMES = (
    *("name", "class name", "classname", "category name", "label name", "class", "category"),
    *("classes", "names", "label", "labels"),
)
NUMBERS = (
    *("pixel value", "value", "pixel", "id", "index", "idx", "class id", "label id", "classid"),
    *("category id", "train id", "trainid", "labelid", "number", "no", "label"),
)
COLOURS = {"r", "g", "b", "red", "green", "blue", "color", "colour", "rgb", "hex", "color rgb"}


def read_table(lines: Sequence[Line], suffix: str) -> tuple[list[Line], str] | None:
    """The classes of a table whose first line names its columns; None: it is no such table.

    Returns:
        A line a class, with its words and its number, and how they were read.

    Raises:
        UserError: a row lacks a cell or has no number, or two columns could be the number.
    """
    if not lines:
        return None
    delimiter = next((mark for mark in "\t;,|" if mark in lines[0].text), ",")
    rows = [_cells(line, delimiter) for line in lines]
    header = [" ".join(cell.casefold().replace("_", " ").split()) for cell in rows[0]]
    name = next((header.index(one) for one in NAMES if one in header), None)
    numbers = [k for k, one in enumerate(header) if one in NUMBERS and k != name]
    if name is None or len(lines) < 2 or not _is_header(header, numbers, suffix):
        return None
    if len(numbers) > 1:
        several = " and ".join(f"'{rows[0][k]}'" for k in numbers)
        raise UserError(f"columns {several} both hold numbers: leave the values of the label maps")
    number = numbers[0] if numbers else None
    found: dict[int, Line] = {}
    for index, (line, cells) in enumerate(zip(lines[1:], rows[1:], strict=True)):
        if not any(cells):
            continue
        value = _value(line, cells, header, name, number, index)
        if value in found:
            raise UserError(f"{line.place}: the number {value} is that of {found[value].place} too")
        words = cells[name].replace(";", ", ") if delimiter != ";" else cells[name]
        text = words if ", " in words else shielded(words)
        found[value] = line.with_text(text, None if number is None else value)
    said = f"read as a table: the class is in column '{rows[0][name]}'"
    if number is None:
        return list(found.values()), f"{said}, row k is label k-1"
    ordered = [found[value] for value in sorted(found)]
    return ordered, f"{said}, its value in the label maps in '{rows[0][number]}'"


def _cells(line: Line, delimiter: str) -> list[str]:
    text = with_quotes(line.text)
    cells = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _is_header(header: Sequence[str], numbers: Sequence[int], suffix: str) -> bool:
    """Whether the first line names columns rather than a class."""
    if len(header) == 1:
        return suffix in (".csv", ".tsv")
    return bool(numbers) or bool(COLOURS & set(header))


def _value(
    line: Line,
    cells: Sequence[str],
    header: Sequence[str],
    name: int,
    number: int | None,
    index: int,
) -> int:
    """The number of a row's class."""
    if len(cells) <= max(name, number or 0) or not cells[name]:
        raise UserError(f"{line.place} has {len(cells)} cells, but the header {len(header)}")
    if number is None:
        return index
    if not cells[number].isdecimal():
        raise UserError(f"{line.place}: expected a number, found '{cells[number]}'")
    return int(cells[number])
