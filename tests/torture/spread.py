"""Work in children of this process: one whose result is taken, or several with a share each."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.torture.forked import forked

Case = TypeVar("Case")
Result = TypeVar("Result")
LONGEST = 4000.0  # seconds for all cases of a part
CORES = max(1, len(os.sched_getaffinity(0)))
_numbers = itertools.count()


def spread(
    cases: Sequence[Case],
    work: Callable[[Case, Path], Result],
    folder: Path,
    workers: int = CORES,
) -> list[Result]:
    """Do each case in one of several workers, which are forks of this process.

    Args:
        cases: what to do.
        work: does one case, in a new folder that is removed afterwards.
        folder: for all of them.
        workers: how many at a time.

    Returns:
        The results, in the order of the cases.

    Raises:
        RuntimeError: a worker failed.
    """

    def share(first: int) -> list[Result]:
        return [one(number) for number in range(first, len(cases), workers)]

    def one(number: int) -> Result:
        own = folder / f"case-{number}"
        own.mkdir()
        result = work(cases[number], own)
        shutil.rmtree(own, ignore_errors=True)
        return result

    started = [_start(partial(share, first), folder) for first in range(workers)]
    shares = [finish() for finish in started]
    shutil.rmtree(folder, ignore_errors=True)
    return [shares[n % workers][n // workers] for n in range(len(cases))]


def in_child(work: Callable[[], Result], folder: Path) -> Result:
    """Do something in a child, whose limits and mounts end with it, and take its result.

    Raises:
        RuntimeError: the child failed.
    """
    return _start(work, folder)()


def _start(work: Callable[[], Result], folder: Path) -> Callable[[], Result]:
    """Start work in a child; calling what is returned waits for the result."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{os.getpid()}-{next(_numbers)}.pickle"

    def write() -> int:
        target.write_bytes(pickle.dumps(work()))
        return 0

    child = forked(write, folder)

    def finish() -> Result:
        ended = child.wait(LONGEST)
        if ended.code:
            raise RuntimeError(f"a child ended with {ended.code}: {ended.err[-3000:]}")
        result: Result = pickle.loads(target.read_bytes())
        return result

    return finish
