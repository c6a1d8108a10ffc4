"""The table of goals: what was asked for, what was measured, what the machine would need at least.

python -m benchmarks [--only NAME...] [--json FILE] [--compare FILE] [--quick]

Each row is printed and written as soon as it is measured: stopping the command loses none of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.comparing import Old, compared, differences, left_out
from benchmarks.measure import Registry, Row, machine
from sclip_core.config import UserError
from sclip_core.store.files import write_whole

FILES = {  # the entries of each file, in order; a file is imported for its own entries alone
    "segmentation_rows": (
        "pamr",
        "pamr_21",
        "plain",
        "large",
        "decision",
        "peaks",
        "skipping",
        "sweep",
    ),
    "encoder_rows": ("encoder", "policies", "text"),
    "half_rows": ("half",),
    "start_rows": ("start",),
    "whole_rows": ("whole",),
    "pipeline_rows": ("tuning", "cached", "memory", "prefect_share"),
    "mask_rows": ("masks",),
    "method_rows": ("methods", "methods-pass", "methods-memory"),
    "data_rows": ("data", "drawing"),
    "audit_rows": ("audit",),
    "results_rows": ("bootstrap", "bootstrap-million", "report"),
    "store_rows": ("store",),
    "runner_rows": ("processes",),
    "explore_rows": ("explore",),
    "gpu_rows": ("gpu",),
    "gpu_mask_rows": ("gpu-masks",),
    "gpu_more_rows": ("gpu-more",),
}


def _imported(file: str, name: str, quick: bool) -> Iterable[Row]:
    """The rows of an entry; a machine with a GPU may have none of what others need."""
    rows: Registry = import_module(f"benchmarks.{file}").ROWS
    return rows[name](quick)


REGISTRY: Registry = {
    name: partial(_imported, file, name) for file, names in FILES.items() for name in names
}
WIDTHS = {"what": 40, "goal": 26, "measured": 44, "ratio": 9, "floor": 24, "met": 4}  # in parts
LOG_WIDTH = 160  # characters, where there is no terminal


def measured(names: Sequence[str], quick: bool) -> Iterator[Row]:
    """The rows of these entries of the registry, each as soon as it is measured.

    An entry that fails ends with a row that says so. With ``quick``, nothing is judged.
    """
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            for row in REGISTRY[name](quick):
                yield replace(row, met=None) if quick else row
        except Exception as error:
            traceback.print_exc()
            failure = f"failed: {type(error).__name__}: {error}"
            yield Row(name, "", failure, met=False, detail={"error": traceback.format_exc()})


def table_line(*cells: str) -> Table:
    """One line of the table, whose columns are as wide as those of every other line."""
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width in WIDTHS.values():
        line.add_column(ratio=width)
    line.add_row(*cells)
    line.add_row()
    return line


def row_line(row: Row) -> Table:
    """A row as a line of the table."""
    ratio = "–" if row.ratio is None else f"{row.ratio:.3g}×"
    met = {None: "–", True: "yes", False: "no"}[row.met]
    return table_line(row.name, row.goal, row.measured, ratio, row.floor or "–", met)


def write_rows(target: Path, quick: bool, rows: Sequence[Row]) -> None:
    """Write the machine and the rows as JSON, in place of what the file held before."""
    found = {
        "machine": asdict(machine()),
        "quick": quick,
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_whole(target, lambda path: path.write_text(text, "utf-8"))


def print_comparison(console: Console, old: Old, rows: Sequence[Row], quick: bool) -> None:
    """Print old and new figures of the rows that both have, and what else differs."""
    console.print(f"against {old.path}, new / old:")
    for line in differences(old, machine(), quick):
        console.print(f"  NOT THE SAME {line}")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, before, now, ratio in compared(old, rows):
        table.add_row(f"  {name}", before, now, ratio)
    console.print(table)
    for line in left_out(old, rows):
        console.print(f"  {line}")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=REGISTRY, metavar="NAME", help="these rows")
    parser.add_argument("--json", type=Path, default=Path("artifacts/bench.json"), metavar="FILE")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="of an earlier call")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to try the code")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write each row.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        1 if a row failed, 2 if there is nothing to compare with, 130 if Ctrl-C was pressed, else 0,
        whether or not the goals are met.
    """
    options = options_of(arguments)
    try:  # before the file is written, which may be the same
        old = Old.read(options.compare) if options.compare else None
    except UserError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    if options.quick:  # with tiny tensors on a busy machine, several threads are 100 times slower
        torch.set_num_threads(1)
    width = None if sys.stdout.isatty() else LOG_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    console.print(f"{machine()}\n")
    console.print(table_line(*WIDTHS))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        for row in measured(options.only or list(REGISTRY), options.quick):
            rows.append(row)
            write_rows(options.json, options.quick, rows)
            console.print(row_line(row))
    except KeyboardInterrupt:
        kept = f"; {len(rows)} rows are in {options.json}" if rows else ""
        console.print(f"stopped{kept}")
        code = 130
    else:
        console.print(f"written to {options.json}")
        code = int(any("error" in row.detail for row in rows))
    if old and rows:
        print_comparison(console, old, rows, options.quick)
    return code


if __name__ == "__main__":
    sys.exit(main())
