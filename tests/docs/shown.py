"""Commands as a page shows them, with what they print: run again, and compared.

Numbers may differ a little, as processors round otherwise; times and machines may differ.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
FREE = "<!-- not compared"  # before a block: its commands are run, whatever they print
BLOCK = re.compile(rf"(?:^({FREE})[^\n]*-->\n)?^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT_OUT = "..."  # a line that stands for any lines
DURATION = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)? (?:ms|s|min|h)|cached)(?!\w)")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w-])")
RULES = re.compile(r"[━─┏┓┗┛┡┩┳┻╇┃│└┘┴┬├┤┼╭╮╰╯]+")  # the lines of tables, as wide as their cells
TOLERANCE = 0.25  # of a figure in percent


@dataclass(frozen=True)
class Shown:
    """A command of a page, and the lines below it."""

    command: str
    lines: tuple[str, ...]
    compared: bool = True


def shown_in(page: Path) -> Iterator[Shown]:
    """The commands after a prompt in a page's blocks, in order; continued lines are joined."""
    for free, block in BLOCK.findall(page.read_text("utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            while command.endswith("\\"):
                command = f"{command[:-1].rstrip()} {lines.pop(0).strip()}"
            yield Shown(command, tuple(lines), not free)


def run_again(shown: Shown, folder: Path) -> str:
    """What a command prints now, on standard output.

    Raises:
        AssertionError: it fails.
    """
    words = shlex.split(shown.command, comments=True)
    program = [sys.executable, "-m", "flows.cli"] if words[0] == "sclip" else [words[0]]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
        "PREFECT_HOME": str(folder / "prefect"),
    }
    done = subprocess.run(
        [*program, *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{shown.command}\n{done.stdout}{done.stderr}"
    return done.stdout


def differences(shown: Shown, printed: str) -> list[str]:
    """The shown lines that the printed ones do not have in this order; a line each.

    Without any line shown, anything may be printed.
    """
    if not shown.compared:
        return []
    wanted = [line for line in map(_plain, shown.lines) if line]
    found = [line for line in map(_plain, printed.splitlines()) if line]
    if not wanted:
        return []
    place, faults, free = 0, [], False
    for line in wanted:
        if line == LEFT_OUT:
            free = True
            continue
        last = len(found) if free else place + 1
        here = next((k for k in range(place, last) if k < len(found) and same(line, found[k])), -1)
        if here < 0:
            near = found[place] if place < len(found) else "(nothing more)"
            faults.append(f"shown   {line}\nprinted {near}")
            place += not free
            continue
        place, free = here + 1, False
    if not free and place < len(found):
        faults.append(f"printed, and not shown: {found[place]}")
    return faults


def same(one: str, other: str) -> bool:
    """Whether two lines differ at most in numbers, and in these by no more than `TOLERANCE`."""
    if NUMBER.split(one) != NUMBER.split(other):
        return False
    pairs = zip_longest(NUMBER.findall(one), NUMBER.findall(other), fillvalue="nan")
    return all(abs(_number(a) - _number(b)) <= TOLERANCE for a, b in pairs)


def _plain(line: str) -> str:
    """A line without the rules of tables, with one space between words and no times."""
    return " ".join(RULES.sub(" ", DURATION.sub("TIME", MOMENT.sub("TIME", line))).split())


def _number(text: str) -> float:
    return float(text.replace(",", ""))
