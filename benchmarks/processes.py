"""A whole ``sclip run`` in a process of its own, which records its times and its memory.

``python -m benchmarks.processes FILE run ...`` is ``sclip run ...``, with what it took in FILE.
This module imports nothing large at its top, which would count as the measured command's memory,
and nothing that asks for a call when the process ends: it shall end as the command does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
WARM = "SCLIP_BENCH_WARM"  # if set, the kernels are loaded before the clock starts
PHASES = "SCLIP_BENCH_PHASES"  # if set, what each thread does is recorded
TAIL = 2000  # characters of the error output of a process that failed

Span = tuple[float, float]  # beginning and end on the monotonic clock, which all processes share


class Call(NamedTuple):
    """One call of a recorded function."""

    span: Span
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Probe:
    """What one process took, in seconds."""

    wall: Span  # the process
    run: Span  # ``run_settings``: from finished settings to the result
    checked: tuple[Span, ...]  # each ``Run.check``: a flow repeats that of the command
    stages: dict[str, float]
    computed: dict[str, int]  # rows, by stage
    imports_mb: float  # resident memory before the run
    peak_mb: float  # the highest resident memory of this process, without Prefect's server
    segments: Sequence[Sequence[Any]] = ()  # of ``phases.Segment``, where they were recorded
    ready: float = 0.0  # the moment at which what is recorded was imported

    def wall_s(self) -> float:
        """The whole process: Python's start, imports, Prefect's start and end."""
        return self.wall[1] - self.wall[0]

    def prefect_start_s(self) -> float:
        """From what is checked before Prefect is imported to the flow's first line; direct: 0."""
        return self.checked[1][0] - self.checked[0][1] if len(self.checked) > 1 else 0.0

    def work_s(self) -> float:
        """The run without imports and without Prefect's start."""
        return self.run[1] - self.run[0] - self.prefect_start_s()

    def after_run_s(self) -> float:
        """From the result to the end of the process: printing, stopping Prefect's server."""
        return self.wall[1] - self.run[1]

    def stages_s(self) -> float:
        """The sum over all stages."""
        return sum(self.stages.values())

    def outside_s(self) -> float:
        """Work outside the stages."""
        return self.work_s() - self.stages_s()

    def ended_s(self) -> float:
        """Work and the end of the process."""
        return self.work_s() + self.after_run_s()

    def detail(self) -> dict[str, Any]:
        """What a row's ``detail`` in the JSON file says of the process."""
        return {
            "wall_s": self.wall_s(),
            "before_run_s": self.run[0] - self.wall[0],
            "prefect_start_s": self.prefect_start_s(),
            "work_s": self.work_s(),
            "after_run_s": self.after_run_s(),
            "stages_s": self.stages,
            "computed": self.computed,
            "imports_mb": self.imports_mb,
            "peak_mb": self.peak_mb,
        }


@cache
def prefect_home() -> TemporaryDirectory[str]:
    """A folder for a Prefect database of our own, which lasts as long as this process."""
    return TemporaryDirectory(prefix="sclip-bench-prefect-", ignore_cleanup_errors=True)


def sclip_run(target: Path, settings: Mapping[str, object], direct: bool, **env: str) -> Probe:
    """Run ``sclip run`` and wait for it.

    Args:
        target: the file in which the process records what it took.
        settings: by name, as flags.
        direct: without Prefect.
        **env: variables for its environment.

    Raises:
        RuntimeError: it failed.
    """
    target.unlink(missing_ok=True)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "benchmarks.processes", str(target), "run", *flags]
    home = {"PREFECT_HOME": prefect_home().name}
    begun = time.perf_counter()
    finished = subprocess.run(
        [*command, "--direct"] if direct else command,
        cwd=ROOT,
        env={**os.environ, **home, **env},
        capture_output=True,
        text=True,
        errors="replace",
    )
    wall = begun, time.perf_counter()
    if finished.returncode or not target.is_file():
        raise RuntimeError(f"sclip {' '.join(command[4:])}: {finished.stderr[-TAIL:]}")
    return Probe(wall=wall, **json.loads(target.read_text("utf-8")))


@contextmanager
def recorded(owner: object, name: str) -> Iterator[list[Call]]:
    """The calls of a function of a module or a class, as they end."""
    from unittest.mock import patch  # which asks for a call when the process ends

    calls: list[Call] = []
    function = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        result = function(*args, **kwargs)
        calls.append(Call((begun, time.perf_counter()), args))
        return result

    with patch.object(owner, name, call):
        yield calls


def main(target: str, *arguments: str) -> int:
    """Run the command and record its times and its memory.

    Args:
        target: the file to write.
        *arguments: of ``sclip``.

    Returns:
        Its exit code. The process ends as the command's own does.
    """
    from flows.signals import Watch

    with Watch(sys._getframe(), own_process=True) as watch:
        return watch.done(_measured(target, arguments))


def _measured(target: str, arguments: Sequence[str]) -> int:
    from benchmarks.measure import status_mb
    from flows import cli
    from flows.cli import console, running
    from sclip_core.pipeline import pipeline  # noqa: F401  # else it is imported during the run
    from sclip_core.pipeline.run import Run

    if os.environ.get(WARM):
        load_kernels()
    imports_mb = status_mb("VmRSS")
    segments: Sequence[Any] = ()
    with (
        ExitStack() as watching,
        recorded(running, "run_settings") as run,
        recorded(Run, "check") as checked,
        recorded(console.ConsoleReporter, "finish") as finished,
    ):
        if os.environ.get(PHASES):
            from benchmarks.phases import watched

            segments = watching.enter_context(watched()).segments
        ready = time.perf_counter()
        code = cli.main(arguments)
    if code == 0:
        outcomes = [call.arguments[1] for call in finished]
        found = {
            "run": run[0].span,
            "checked": [call.span for call in checked],
            "stages": {outcome.stage: outcome.seconds for outcome in outcomes},
            "computed": {outcome.stage: outcome.computed for outcome in outcomes},
            "imports_mb": imports_mb,
            "peak_mb": status_mb("VmHWM"),  # getrusage would include the parent's peak
            "segments": segments,
            "ready": ready,
        }
        Path(target).write_text(json.dumps(found), "utf-8")
    return code


def load_kernels() -> None:
    """Load the compiled kernels, or compile them if no process has yet."""
    from benchmarks.cases import Case

    for steps in (0, 2):
        Case.named("coco_object", (0, 0), quick=True, pamr_steps=steps).labels()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
