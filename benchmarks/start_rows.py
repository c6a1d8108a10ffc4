"""How soon a command is there, beside what its libraries take to be imported.

Each command is a process of its own, and all of them take turns. The floors are processes too: a
bare ``import torch``, a bare ``import prefect``, and the smallest flow with Prefect's own server.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.measure import Registry, Row, seconds

ROOT = Path(__file__).parents[1]
TURNS = 5
TAIL = 2000  # characters of the error output of a process that failed
FLOW = "import prefect\n@prefect.flow\ndef nothing(): pass\nnothing()"
BARE = {
    "import torch": ["-c", "import torch"],
    "import prefect": ["-c", "import prefect, prefect.flows"],
    "a bare flow": ["-c", FLOW],
}


class Taken(NamedTuple):
    """Seconds of one process."""

    wall: float
    cpu: float  # of the process and those that it waited for, in user mode


class Command(NamedTuple):
    """A row: what is run, its goal, and the floor that it is put beside."""

    name: str
    words: Sequence[str]
    goal: float  # seconds
    floor: str = ""


def taken(words: Sequence[str], **variables: str) -> Taken:
    """Run Python with some words, and wait for its end.

    Raises:
        RuntimeError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    begun = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        errors="replace",
    )
    wall = time.perf_counter() - begun
    if ended.returncode:
        raise RuntimeError(f"{' '.join(words)}: {ended.stderr[-TAIL:]}")
    return Taken(wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)


def commands(run: Sequence[str]) -> list[Command]:
    """What is measured, over a run whose artifacts are all there.

    Args:
        run: the flags of that run.
    """
    return [
        Command("sclip --help", ["--help"], 0.3),
        Command("sclip plan", ["plan", *run], 1.5, "import torch"),
        Command("everything cached, --direct", ["run", "--direct", *run], 3, "import torch"),
        Command("everything cached, with Prefect", ["run", *run], 8, "a bare flow"),
    ]


def start(quick: bool) -> Iterator[Row]:
    """A row a command: the least of several turns, which other processes disturb least."""
    from sclip_core.demo.scenes.files import write_scenes

    with TemporaryDirectory(prefix="sclip-bench-start-", ignore_cleanup_errors=True) as folder:
        write_scenes(Path(folder) / "scenes", 8)
        run = [
            *("--preset", "demo", "--dataset", "scenes", "--num-samples", "8"),
            *("--data-root", f"{folder}/scenes", "--artifacts", f"{folder}/artifacts"),
        ]
        asked = commands(run)
        ways = BARE | {each.name: ["-m", "flows.cli", *each.words] for each in asked}
        home = {
            "PREFECT_HOME": f"{folder}/home",
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PYTHONDONTWRITEBYTECODE": "",  # as on a user's machine: the first turn compiles
        }
        first = {name: taken(ways[name], **home) for name in ways}  # computes, makes databases
        turns: dict[str, list[Taken]] = {name: [] for name in ways}
        for _ in range(1 if quick else TURNS):
            for name, words in ways.items():
                turns[name].append(taken(words, **home))
    least = {
        name: Taken(min(t.wall for t in times), min(t.cpu for t in times))
        for name, times in turns.items()
    }
    floors = ", ".join(f"{name} {seconds(least[name].wall)}" for name in BARE)
    for each in asked:
        found = least[each.name]
        yield Row(
            each.name,
            f"≤ {seconds(each.goal)}",
            f"{seconds(found.wall)}, {seconds(found.cpu)} of CPU time",
            floor=f"{each.floor} {seconds(least[each.floor].wall)}" if each.floor else "",
            met=found.wall <= each.goal,
            detail={
                "wall_s": [turn.wall for turn in turns[each.name]],
                "user_s": [turn.cpu for turn in turns[each.name]],
                "first": first[each.name]._asdict(),
                "floors": floors,
            },
        )


ROWS: Registry = {"start": start}
