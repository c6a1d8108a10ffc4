"""The table of goals: what was asked for, what was measured, what the machine would need at least.

python -m benchmarks [--only NAME...] [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    data_rows,
    encoder_rows,
    gpu_rows,
    mask_rows,
    peak_rows,
    pipeline_rows,
    results_rows,
    segmentation_rows,
    skipping_rows,
    sweep_rows,
)
from benchmarks.machine import machine
from benchmarks.measure import Row
from sclip_core.store.files import write_whole

REGISTRY: dict[str, Callable[[bool], list[Row]]] = {
    **segmentation_rows.ROWS,
    **encoder_rows.ROWS,
    **peak_rows.ROWS,
    **pipeline_rows.ROWS,
    **skipping_rows.ROWS,
    **sweep_rows.ROWS,
    **mask_rows.ROWS,
    **data_rows.ROWS,
    **results_rows.ROWS,
    **gpu_rows.ROWS,
}
HEADER = ("what", "goal", "measured", "ratio", "floor", "met")
LOG_WIDTH = 160  # characters, where there is no terminal


def measured(names: Sequence[str], quick: bool) -> Iterator[Row]:
    """Rows in order; one that fails is a row that says so.

    Args:
        names: of the registry.
        quick: tiny sizes: nothing is judged.
    """
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            rows = REGISTRY[name](quick)
        except Exception as error:
            traceback.print_exc()
            said = f"failed: {type(error).__name__}: {error}"
            yield Row(name, "", said, met=False, detail={"error": traceback.format_exc()})
        else:
            yield from (replace(row, met=None) if quick else row for row in rows)


def table_of(rows: Sequence[Row]) -> Table:
    """The table as a person reads it."""
    table = Table(*HEADER, show_lines=True)
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.3g}×"
        met = {None: "–", True: "yes", False: "no"}[row.met]
        table.add_row(row.name, row.goal, row.measured, ratio, row.floor or "–", met)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        1 where a row failed, else 0, whether or not the goals are met.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=REGISTRY, metavar="NAME", help="these rows")
    parser.add_argument("--json", type=Path, default=Path("artifacts/bench.json"), metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    options = parser.parse_args(arguments)
    if options.quick:  # on a busy machine, handing crumbs to threads takes a hundred times longer
        torch.set_num_threads(1)
    width = None if sys.stdout.isatty() else LOG_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    console.print(str(machine()))
    rows = list(measured(options.only or list(REGISTRY), options.quick))
    console.print(table_of(rows))
    found = {
        "machine": asdict(machine()),
        "quick": options.quick,
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.json, lambda path: path.write_text(text, "utf-8"))
    console.print(f"written to {options.json}")
    return int(any("error" in row.detail for row in rows))


if __name__ == "__main__":
    sys.exit(main())
