"""Torture of the store: how often something is lost, silently wrong or unclear.

python -m tests.torture [--only NAME...] [--short] [--seed N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.torture.cases.bucket import bucket
from tests.torture.cases.corrupted import corrupted
from tests.torture.cases.crowded import crowded
from tests.torture.cases.cut import cut
from tests.torture.cases.killed import killed
from tests.torture.cases.numbers import numbers
from tests.torture.cases.starved import starved
from tests.torture.cases.versions import versions
from tests.torture.loading import load
from tests.torture.place import Place
from tests.torture.tally import BAD, Part

PARTS: dict[str, Callable[[Place, bool], Part]] = {
    part.__name__: part
    for part in (killed, corrupted, crowded, starved, cut, versions, numbers, bucket)
}
PICTURES = 16
LOG_WIDTH = 150  # characters, where there is no terminal
SHOWN = 8  # lines about what went wrong in a part; all of them are in the JSON


def table_of(parts: Sequence[Part]) -> Table:
    """The counts of all parts."""
    table = Table("part", "cases", "as it should be", "not so", "seconds", show_lines=True)
    for part in parts:
        fine, bad = verdicts(part.counts, "\n", explain=True)
        numbers = [f"{name}: {number}" for name, number in part.more.items()]
        told = "\n".join(filter(None, [fine, *numbers, *part.notes]))
        table.add_row(part.name, str(part.cases), told, bad, f"{part.seconds:.0f}")
    return table


def kinds_table(part: Part) -> Table:
    """The counts of a part by kind of case."""
    table = Table(f"{part.name}, by kind", "as it should be", "not so")
    for kind, counts in sorted(part.kinds.items()):
        table.add_row(kind, *verdicts(counts, ", "))
    return table


def verdicts(counts: Counter[str], between: str, explain: bool = False) -> tuple[str, str]:
    """The good verdicts in one cell and the bad ones in another, the most frequent first."""
    fine, bad = [], []
    for verdict, number in counts.most_common():
        if verdict not in BAD:
            fine.append(f"{number} {verdict}")
        else:
            bad.append(f"{number} {verdict}" + (f" ({BAD[verdict]})" if explain else ""))
    return between.join(fine), between.join(bad) or "–"


def run_parts(names: Sequence[str], place: Place, long: bool, console: Console) -> list[Part]:
    """Do the parts one after the other, and print a line about each as soon as it is done."""
    parts = []
    for name in names:
        started = time.monotonic()
        part = PARTS[name](place, long)
        part.seconds = time.monotonic() - started
        parts.append(part)
        console.print(
            f"{name}: {part.cases} cases, {part.bad} not as they should be, {part.seconds:.0f} s"
        )
        for line in part.wrong[:SHOWN]:
            console.print(f"  {line}", soft_wrap=True)
        if len(part.wrong) > SHOWN:
            console.print(f"  ... and {len(part.wrong) - SHOWN} more: see --json")
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the parts, print the tables, write the JSON.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        1 where anything was lost, silently wrong or unclear, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help="these parts")
    parser.add_argument("--short", action="store_true", help="minutes, not an hour: a sample")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    width = None if sys.stdout.isatty() else LOG_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    load()
    with TemporaryDirectory(prefix="sclip-torture-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder), PICTURES, options.seed)
        parts = run_parts(options.only or list(PARTS), place, not options.short, console)
    for part in parts:
        if part.kinds:
            console.print(kinds_table(part))
    console.print(table_of(parts))
    if options.json:
        found = {
            "seed": options.seed,
            "short": options.short,
            "parts": [part.as_json() for part in parts],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return int(any(part.bad for part in parts))


if __name__ == "__main__":
    sys.exit(main())
