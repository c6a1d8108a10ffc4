"""The table as text: Markdown for GitHub, LaTeX with booktabs, CSV, Typst."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence

from sclip_core.results.matrices.build import Cell, Matrix

DAGGER = "†"
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"{\char34}",
    "†": r"$\dagger$", "±": r"$\pm$", "−": r"$-$", "×": r"$\times$",
}  # fmt: skip
FORMULA = re.compile(r"[=+\-@\t\r]")  # how a cell begins that spreadsheets execute
NUMBER = re.compile(r"[+-]?[0-9.,eE+-]*")  # those are none
BOOKTABS = "% in the preamble: \\usepackage{booktabs}"
SMALLEST = 4  # cells of a column of Markdown are padded to at least this width


def markdown(table: Matrix) -> str:
    """Pipes as GitHub reads them; ``**best**``, ``<u>second</u>``, notes as ``<sup>``."""
    rows = [[*map(_md, table.heads), *map(_md, table.columns)]]
    for left, cells in zip(table.rows, table.cells, strict=True):
        rows.append([*map(_md, left), *(_md_cell(table, cell) for cell in cells)])
    widths = [max(SMALLEST, *map(len, column)) for column in zip(*rows, strict=True)]
    first = len(table.heads)
    rule = [
        "-" * w if i < first else "-" * (w - 1) + ":" for i, w in enumerate(widths)
    ]  # numbers stand right
    lines = [_piped(rows[0], widths, first), "| " + " | ".join(rule) + " |"]
    lines += [_piped(row, widths, first) for row in rows[1:]]
    below = [_md(line) for line in table.legend]
    below += [f"<sup>{mark}</sup> {_md(sentence)}" for mark, sentence in table.notes]
    return "\n".join([*lines, "", *_broken(below, "<br>")]) + "\n"


def latex(table: Matrix) -> str:
    r"""A ``tabular`` with the rules of booktabs, and notes in a paragraph below it."""
    first = len(table.heads)
    columns = "l" * first + "r" * len(table.columns)
    heads = [*map(_tex, table.heads), *map(_tex, table.columns)]
    lines = [
        BOOKTABS,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _tex_row(heads),
        r"\midrule",
    ]
    for left, cells in zip(table.rows, table.cells, strict=True):
        names = ["--" if text == "-" else _tex(text) for text in left]
        lines.append(_tex_row([*names, *(_tex_cell(table, cell) for cell in cells)]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    below = [_after_break(_tex(line)) for line in table.legend]
    below += [rf"$^{{\mathrm{{{mark}}}}}$ {_tex(sentence)}" for mark, sentence in table.notes]
    lines += ["", r"\par\smallskip", r"{\footnotesize\raggedright", *_broken(below, r" \\")]
    return "\n".join([*lines, r"\par}"]) + "\n"


def typst(table: Matrix) -> str:
    """A ``table`` whose cells are values, so that no name is read as markup."""
    first = len(table.heads)
    align = ", ".join(["left"] * first + ["right"] * len(table.columns))
    heads = ", ".join(map(_string, [*table.heads, *table.columns]))
    lines = [
        "#table(",
        f"  columns: {first + len(table.columns)},",
        f"  align: ({align}),",
        "  stroke: none,",
        "  table.hline(),",
        f"  table.header({heads}),",
        "  table.hline(stroke: 0.5pt),",
    ]
    for left, cells in zip(table.rows, table.cells, strict=True):
        shown = [*map(_string, left), *(_typst_cell(table, cell) for cell in cells)]
        lines.append(f"  {', '.join(shown)},")
    below = [f"#{_string(line)}" for line in table.legend]
    below += [f'#super("{mark}") #{_string(sentence)}' for mark, sentence in table.notes]
    notes = _broken(below, r" \ ".rstrip())
    lines += ["  table.hline(),", ")", "#text(size: 0.8em)[", *(f"  {x}" for x in notes), "]"]
    return "\n".join(lines) + "\n"


def comma_separated(table: Matrix) -> str:
    """Plain numbers in full precision, with columns for what marks say in the other formats."""
    spread, compared = table.spread != "none", _compared(table)
    names = ["", *(["_low", "_high", "_se"] if spread else [])]
    names += ["_difference", "_difference_low", "_difference_high"] if compared else []
    heads = [f"{column}{name}" for column in table.columns for name in (*names, "_run", "_note")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_plain, [*table.heads, *heads]))
    sentences = dict(table.notes)
    for left, cells in zip(table.rows, table.cells, strict=True):
        line = list(map(_plain, left))
        for cell in cells:
            numbers = [cell.value, *([cell.low, cell.high, cell.error] if spread else [])]
            numbers += (cell.difference or [math.nan] * 3) if compared else []
            line += ["" if math.isnan(number) else repr(number) for number in numbers]
            line += [cell.run_id or "", "; ".join(sentences[mark] for mark in cell.notes)]
        writer.writerow(line)
    return out.getvalue()


WRITERS: dict[str, Callable[[Matrix], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
    "typst": typst,
}


def _plain(name: str) -> str:
    """A name before which an apostrophe stands where spreadsheets would execute it."""
    return f"'{name}" if FORMULA.match(name) and not NUMBER.fullmatch(name) else name


def _compared(table: Matrix) -> bool:
    return any(cell.difference is not None for line in table.cells for cell in line)


def _spread(table: Matrix, cell: Cell) -> str:
    """What stands behind a value: its interval, or its half width or standard error."""
    if math.isnan(cell.low):
        return ""
    if table.spread == "interval":
        return f" [{table.text(cell.low)}, {table.text(cell.high)}]"
    width = cell.error if table.spread == "se" else (cell.high - cell.low) / 2
    return f" ± {table.text(width)}"


def _broken(lines: Sequence[str], by: str) -> Iterable[str]:
    """Lines with a break behind all but the last."""
    return [line + by for line in lines[:-1]] + list(lines[-1:])


def _md(text: str) -> str:
    """Text in which GitHub sees no markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~$\[\]])", r"\\\1", text)


def _md_cell(table: Matrix, cell: Cell) -> str:
    around = {1: "**{}**", 2: "<u>{}</u>"}.get(cell.rank, "{}")
    marks = (DAGGER if cell.significant else "", *cell.notes)
    found = ",".join(mark for mark in marks if mark)
    raised = f"<sup>{found}</sup>" if found else ""
    return around.format(table.text(cell.value)) + _md(_spread(table, cell)) + raised


def _piped(cells: Sequence[str], widths: Sequence[int], first: int) -> str:
    padded = [
        cell.ljust(width) if place < first else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def _tex(text: str) -> str:
    """Text in which TeX sees no command, nor a dash in two hyphens."""
    return re.sub("-(?=-)", "-{}", "".join(LATEX.get(letter, letter) for letter in text))


def _tex_cell(table: Matrix, cell: Cell) -> str:
    around = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.rank, "%s")
    number = table.text(cell.value)
    value = "--" if number == "-" else around % number.replace("-", "$-$")
    marks = [*([r"\dagger"] if cell.significant else []), *(rf"\mathrm{{{m}}}" for m in cell.notes)]
    raised = f"$^{{{','.join(marks)}}}$" if marks else ""
    return value + _tex(_spread(table, cell)) + raised


def _tex_row(cells: Sequence[str]) -> str:
    """A row."""
    return " & ".join(map(_after_break, cells)) + r" \\"


def _after_break(text: str) -> str:
    """Text that is not read as the option or the star of the line break before it."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _string(text: str) -> str:
    """A string of Typst's; text was made printable before."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _typst_cell(table: Matrix, cell: Cell) -> str:
    around = {1: "strong({})", 2: "underline({})"}.get(cell.rank, "{}")
    value = around.format(_string(table.text(cell.value)))
    parts = [value, *([_string(_spread(table, cell))] if _spread(table, cell) else [])]
    marks = (DAGGER if cell.significant else "", *cell.notes)
    found = ",".join(mark for mark in marks if mark)
    parts += [f"super({_string(found)})"] if found else []
    return "[]" if not parts else " + ".join(parts)
