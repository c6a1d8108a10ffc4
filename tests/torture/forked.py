"""The ``sclip`` command as a process that starts in milliseconds.

This process imports all libraries and computes nothing: a library that has started no threads can
be forked. Each run is a child that can be killed, stopped and limited like any other process.
``spawned`` starts a new interpreter instead.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 60.0  # seconds for a run of some small pictures; one that takes longer hangs
HUNG = 999  # our exit code for a run that hung
FAULTS = ("Traceback", "internal error")  # as the command prints them
_numbers = itertools.count()


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a process that has ended."""

    code: int  # as in a shell, e.g. 130 after SIGINT; HUNG if it was killed since it did not end
    out: str
    err: str
    seconds: float

    @property
    def output(self) -> str:
        """What it printed as errors, and its exit code."""
        return f"{self.err}\nexit code {self.code}"

    @property
    def said(self) -> list[str]:
        """The error lines, without those of progress."""
        return [line for line in self.err.splitlines() if line.startswith("sclip: ")]

    @property
    def unclear(self) -> bool:
        """Whether a fault of the program was printed."""
        return any(words in self.err for words in FAULTS)


class Child:
    """A process that was started, and its output."""

    def __init__(self, pid: int, out: Path, err: Path, group: bool) -> None:
        """Watch a process; for ``group`` see ``forked``."""
        self.pid = pid
        self._files = out, err
        self._group = group
        self._started = time.monotonic()
        self._code: int | None = None

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.running():
            os.kill(self.pid, number)

    def running(self) -> bool:
        """Whether the process is still running."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                if self._group:  # such as Prefect's server, which a killed run leaves behind
                    with suppress(ProcessLookupError):
                        os.killpg(self.pid, signal.SIGKILL)
        return self._code is None

    def wait(self, longest: float = LONGEST) -> Ended:
        """Wait for the end; after ``longest`` seconds the process is killed."""
        limit = time.monotonic() + longest
        hung = False
        while self.running():
            if not hung and time.monotonic() > limit:
                hung = True
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.003)
        code = HUNG if hung or self._code is None else self._code
        out, err = (path.read_text("utf-8", errors="replace") for path in self._files)
        return Ended(code if code >= 0 else 128 - code, out, err, time.monotonic() - self._started)


def forked(work: Callable[[], int], folder: Path, group: bool = False) -> Child:
    """Start a child.

    Args:
        work: what it does; returns its exit code.
        folder: for its output.
        group: it makes itself the leader of a process group, which is killed when it ends.
    """
    out, err = _output(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _run_and_exit(work, out, err)
    return Child(pid, out, err, group)


def sclip(words: Sequence[str], folder: Path, prepare: Callable[[], object] | None = None) -> Child:
    """Start the command in a child.

    Args:
        words: its arguments.
        folder: for its output.
        prepare: called in the child first, e.g. to set limits.
    """

    def work() -> int:
        from flows.cli import main

        if prepare:
            prepare()
        return main(list(words))

    return forked(work, folder)


def spawned(
    words: Sequence[str], folder: Path, code: Path | None = None, env: Mapping[str, str] = {}
) -> Child:
    """Start the command in an interpreter of its own.

    Args:
        words: its arguments.
        folder: for its output.
        code: the checkout to import from; None: this one.
        env: variables to add to the environment.
    """

    def work() -> int:
        os.setsid()
        here = str(code or Path(__file__).parents[2])
        command = [sys.executable, "-m", "flows.cli", *words]
        os.execve(command[0], command, {**os.environ, "PYTHONPATH": here, **env})

    return forked(work, folder, group=True)


def _output(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{os.getpid()}-{next(_numbers)}"
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    out.touch()
    err.touch()
    return out, err


def _run_and_exit(work: Callable[[], int], out: Path, err: Path) -> None:
    """Do the work, then end as an interpreter does: wait for threads, flush the output."""
    code = 1
    try:
        for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
            handle = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _forget_parents_threads()
        code = work()
        threading._shutdown()  # type: ignore[attr-defined]
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 1
        os._exit(code & 255)


def _forget_parents_threads() -> None:
    """Do not wait at the end for threads of the parent, which do not exist in this process."""
    kept = [call for call in threading._threading_atexits if _is_of_futures(call)]  # type: ignore[attr-defined]
    threading._threading_atexits[:] = kept  # type: ignore[attr-defined]


def _is_of_futures(call: Any) -> bool:
    module = getattr(getattr(call, "func", call), "__module__", "") or ""
    return module.startswith("concurrent.futures")
