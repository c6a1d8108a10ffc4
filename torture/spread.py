"""Cases side by side: workers that are forks of this process, each with its share."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from torture.forked import forked

Case = TypeVar("Case")
Result = TypeVar("Result")
LONGEST = 4000.0  # seconds for all cases of a part


def spread(
    cases: Sequence[Case], work: Callable[[Case, Path], Result], folder: Path, workers: int
) -> list[Result]:
    """Do each case in one of several workers.

    Args:
        cases: what to do.
        work: does one, in a folder of its own that is taken away behind it.
        folder: for all of them.
        workers: how many at a time.

    Returns:
        The results, in the order of the cases.

    Raises:
        RuntimeError: the harness itself failed.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def share(first: int) -> int:
        """Do every so many cases, beginning with this one, and write down what they gave."""
        done = []
        for number in range(first, len(cases), workers):
            place = folder / f"case-{number}"
            place.mkdir()
            done.append(work(cases[number], place))
            shutil.rmtree(place, ignore_errors=True)
        (folder / f"{first}.pickle").write_bytes(pickle.dumps(done))
        return 0

    children = [forked(lambda n=n: share(n), folder / "workers") for n in range(workers)]
    ended = [child.wait(LONGEST) for child in children]
    for each in ended:
        if each.code:
            raise RuntimeError(f"a worker ended with {each.code}: {each.err[-3000:]}")
    shares = [pickle.loads((folder / f"{n}.pickle").read_bytes()) for n in range(workers)]
    shutil.rmtree(folder, ignore_errors=True)
    return [shares[n % workers][n // workers] for n in range(len(cases))]


def in_child(work: Callable[[], Result], folder: Path) -> Result:
    """Do something in a child, whose limits and mounts end with it, and take its result.

    Raises:
        RuntimeError: the harness itself failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "result.pickle"

    def write() -> int:
        target.write_bytes(pickle.dumps(work()))
        return 0

    ended = forked(write, folder).wait(LONGEST)
    if ended.code:
        raise RuntimeError(f"a child ended with {ended.code}: {ended.err[-3000:]}")
    result: Result = pickle.loads(target.read_bytes())
    return result


def cores() -> int:
    """How many workers there is room for."""
    return max(1, len(os.sched_getaffinity(0)))
