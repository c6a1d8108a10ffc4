"""How each command grows with the number of images: made rows through the store's own code.

python -m benchmarks.scale [--rows 10000,100000,1000000] [--folder DIR] [--json FILE] [--most S]

For each number N: a folder of N tiny images of different bytes and N label maps, digests of all,
and the metrics of two runs, stored by the stage's own table in its own batches. Features and label
maps are left out: nothing that is measured here reads them. Then each command runs in a process of
its own, of which the time that it computed and the peak of its resident memory are taken. The first
line is a process that imports what all of them import. A command that takes longer than --most
seconds is ended, and the table says so. With --folder and --json, what the file has is not measured
again: a measurement that was stopped goes on where it was.

This module imports nothing large at its top: a process begins with the memory of its parent.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CLASSES = 171  # as COCO-Stuff has
LINEAR = 1.15  # exponent of the growth of seconds up to which it is called linear
STEPS = {"a": "0", "b": "1"}  # --pamr-steps, in which the two runs differ
SQL = "select class_id, avg(iou) as iou, count(*) as n from image_areas group by 1 order by 1"
COMPARED = ("latest~1", "latest")


class Taken(NamedTuple):
    """What one process took."""

    seconds: float  # that it was computing: other processes do not count
    wall: float  # seconds
    peak_mb: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each number of rows and print a table; returns 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rows", default="10000,100000", help="numbers of images")
    parser.add_argument("--folder", type=Path, help="keep what is made here, and use it again")
    parser.add_argument("--json", type=Path, help="write the figures to a file, and go on from it")
    parser.add_argument("--most", type=float, default=600, help="seconds, elapsed, for a command")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    numbers = [int(number) for number in options.rows.split(",")]
    if options.part:
        PARTS[options.part[0]](Path(options.part[1]), numbers[0])
        return 0
    found = figures_in(options.json) if options.folder and options.json else {}
    with tempfile.TemporaryDirectory(prefix="sclip-scale-") as temporary:
        root = options.folder or Path(temporary)
        for number in numbers:
            known = found.setdefault(number, {})
            for name, command in commands_of(root / str(number), number).items():
                if name not in known or math.isnan(known[name].seconds):
                    known[name] = in_process(f"{name}, {number:,}", command, options.most)
                if options.json:
                    plain = {n: {k: t._asdict() for k, t in of.items()} for n, of in found.items()}
                    options.json.write_text(json.dumps(plain, indent=2))
    print(table({number: found[number] for number in numbers}))
    return int(any(math.isnan(found[n][name].seconds) for n in numbers for name in found[n]))


def figures_in(path: Path) -> dict[int, dict[str, Taken]]:
    """The figures of an earlier measurement; none if there is no such file."""
    if not path.exists():
        return {}
    plain = json.loads(path.read_text())
    return {int(n): {k: Taken(**t) for k, t in of.items()} for n, of in plain.items()}


def commands_of(folder: Path, number: int) -> dict[str, list[str]]:
    """The commands for so many images, in the order of their execution."""
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = ["--artifacts", str(folder / "artifacts")]
    run = run_flags(folder, "a")
    part = [sys.executable, "-m", "benchmarks.scale", "--rows", str(number), "--part"]
    sclip = [sys.executable, "-m", "flows.cli"]
    return {
        "imports": [*part, "imports", str(folder)],
        "files made": [*part, "files", str(folder)],
        "digests, first": [*part, "digests", str(folder)],
        "rows of metrics stored, a": [*part, "metrics-a", str(folder)],
        "rows of metrics stored, b": [*part, "metrics-b", str(folder)],
        "sclip plan": [*sclip, "plan", *run, "--json"],
        "stage results, a": [*part, "results-a", str(folder)],
        "stage results, b": [*part, "results-b", str(folder)],
        "stage results, there": [*part, "results-a", str(folder)],
        "sclip results": [*sclip, "results", *artifacts],
        "sclip compare": [*sclip, "compare", *COMPARED, *artifacts],
        "sclip report": [*sclip, "report", *COMPARED, *artifacts],
        "sclip query": [*sclip, "query", SQL, "--format", "csv", *artifacts],
    }


def in_process(name: str, command: Sequence[str], most: float) -> Taken:
    """Run a command; NaN where it failed, which is said; infinite where it took too long."""
    begun = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        ended = threading.Timer(most, process.kill)
        ended.start()
        _, status, usage = os.wait4(process.pid, 0)
        ended.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        wall, seconds = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
        peak = usage.ru_maxrss * 1024 / 1e6
        said.seek(0)
        tail = said.read()[-1500:].decode(errors="replace") if process.returncode else ""
    if process.returncode and wall >= most:
        print(f"{name}: ended after {most:.0f} s", file=sys.stderr, flush=True)
        return Taken(math.inf, wall, peak)
    if process.returncode:
        print(f"{name} ended with {process.returncode}:\n{tail}", file=sys.stderr)
        return Taken(math.nan, math.nan, math.nan)
    line = f"{name}: {seconds:.1f} s in {wall:.1f} s, {peak:.0f} MB"
    print(line, file=sys.stderr, flush=True)
    return Taken(seconds, wall, peak)


def table(found: Mapping[int, Mapping[str, Taken]]) -> str:
    """The figures as a table of Markdown, with a column that says whether growth is linear."""
    numbers = list(found)
    heads = ["command", *(f"{number:,}" for number in numbers)]
    heads += ["growth"] if len(numbers) > 1 else []
    lines = [heads, ["---"] * len(heads)]
    for name in found[numbers[0]]:
        taken = [found[number][name] for number in numbers]
        cells = [shown(each) for each in taken]
        lines.append([name, *cells, *([growth(numbers, taken)] if len(numbers) > 1 else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(taken: Taken) -> str:
    """``1.2 s, 900 MB``."""
    if math.isinf(taken.seconds):
        return f"ended after {taken.wall:.0f} s"
    return f"{taken.seconds:.1f} s, {taken.peak_mb:.0f} MB"


def growth(numbers: Sequence[int], taken: Sequence[Taken]) -> str:
    """How seconds grow from the last but one number to the last: ``n^0.97, linear``.

    The start of a process, the same for every number, makes the exponent smaller than it would be.
    """
    if math.isinf(taken[-1].seconds):
        return "not known"
    times = math.log(numbers[-1] / numbers[-2])
    exponent = math.log(taken[-1].seconds / taken[-2].seconds) / times
    return f"n^{exponent:.2f}, {'linear' if exponent <= LINEAR else 'MORE THAN LINEAR'}"


def run_flags(folder: Path, run: str) -> list[str]:
    """The flags of one of the two runs."""
    given = {
        "images": folder / "images",
        "labels": folder / "labels",
        "classes": folder / "classes.txt",
        "artifacts": folder / "artifacts",
        "pamr-steps": STEPS[run],
    }
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    return ["--preset", "demo", *flags]


def make_files(folder: Path, number: int) -> None:
    """Images, each of bytes of its own, and label maps, which are links to a few files."""
    from benchmarks.scale_rows import make_images

    if not (folder / "classes.txt").exists():
        make_images(folder, number)
        names = ["sky", "grass", *(f"class {k}" for k in range(2, CLASSES))]
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))


def make_digests(folder: Path, number: int) -> None:
    """The digests of all files, as a run takes them."""
    from benchmarks.scale_rows import opened

    assert len(opened(folder, STEPS["a"]).inputs.image_digests) == number


def _metrics(run: str) -> Callable[[Path, int], None]:
    def store(folder: Path, number: int) -> None:
        from benchmarks.scale_rows import store_metrics

        store_metrics(folder, number, STEPS[run], CLASSES, seed=ord(run))

    return store


def _results(run: str) -> Callable[[Path, int], None]:
    def execute(folder: Path, number: int) -> None:
        from benchmarks.scale_rows import results_stage

        results_stage(folder, STEPS[run])

    return execute


def imports(folder: Path, number: int) -> None:
    """Nothing but the imports."""
    import benchmarks.scale_rows  # noqa: F401


PARTS: dict[str, Callable[[Path, int], None]] = {
    "imports": imports,
    "files": make_files,
    "digests": make_digests,
    **{f"metrics-{run}": _metrics(run) for run in STEPS},
    **{f"results-{run}": _results(run) for run in STEPS},
}


if __name__ == "__main__":
    sys.exit(main())
