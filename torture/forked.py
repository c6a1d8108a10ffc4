"""The ``sclip`` command as a process that starts in milliseconds.

This process imports torch and all the rest once and computes nothing with it: a library that has
started no threads can be forked. Each run is a child whose output lies in files; it is killed,
stopped and limited as any other process. ``spawned`` starts a new interpreter instead.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
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
HUNG = 999  # the exit code of one that does
_numbers = itertools.count()


@dataclass(frozen=True)
class Ended:
    """What remains of a process."""

    code: int  # as the shell gives it, 130 for one that died of SIGINT; HUNG where it was ended
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> list[str]:
        """The lines that are for the user, without those of progress."""
        return [line for line in self.err.splitlines() if line.startswith("sclip: ")]

    @property
    def unclear(self) -> bool:
        """Whether a fault of the program showed."""
        return "Traceback" in self.err or "internal error" in self.err


class Child:
    """A process that was started, and its output."""

    def __init__(self, pid: int, out: Path, err: Path, group: bool = False) -> None:
        """Take note of a process; ``group``: it leads one, which ends with it."""
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
        """Whether it has not ended."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                if self._group:
                    _end_group(self.pid)
        return self._code is None

    def wait(self, longest: float = LONGEST) -> Ended:
        """Wait for the end; one that hangs is killed."""
        limit = time.monotonic() + longest
        while self.running():
            if time.monotonic() > limit:
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, signal.SIGKILL)
                while self.running():
                    time.sleep(0.005)
                self._code = HUNG
                break
            time.sleep(0.003)
        code = self._code if self._code is not None else HUNG
        out, err = (path.read_text("utf-8", errors="replace") for path in self._files)
        return Ended(code if code >= 0 else 128 - code, out, err, time.monotonic() - self._started)


def forked(work: Callable[[], int], folder: Path) -> Child:
    """Do something in a child.

    Args:
        work: gives the exit code.
        folder: for its output.
    """
    out, err = _output(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _be(work, out, err)
    return Child(pid, out, err)


def sclip(words: Sequence[str], folder: Path, prepare: Callable[[], object] | None = None) -> Child:
    """Start the command in a child.

    Args:
        words: its arguments.
        folder: for its output.
        prepare: is called in the child before, e.g. to set limits.
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
        code: the checkout that is imported; None: the one that this is.
        env: what differs in the environment.
    """
    out, err = _output(folder)
    here = str(code or Path(__file__).parents[1])
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
            env={**os.environ, "PYTHONPATH": here, **env},
            start_new_session=True,
            preexec_fn=_usual_signals,
        )
    process.returncode = 0  # who waits for it is Child
    return Child(process.pid, out, err, group=True)


def _output(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{os.getpid()}-{next(_numbers)}"
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    out.touch()
    err.touch()
    return out, err


def _usual_signals() -> None:
    """As in a shell's foreground; what runs in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _be(work: Callable[[], int], out: Path, err: Path) -> None:
    """Do the work, then end as an interpreter does: threads are waited for, output is written."""
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
    """Wait in the end for the threads of this process; those of the parent do not exist here."""
    kept = [call for call in threading._threading_atexits if _is_of_futures(call)]  # type: ignore[attr-defined]
    threading._threading_atexits[:] = kept  # type: ignore[attr-defined]


def _is_of_futures(call: Any) -> bool:
    module = getattr(getattr(call, "func", call), "__module__", "") or ""
    return module.startswith("concurrent.futures")


def _end_group(pid: int) -> None:
    """End what a process that was killed has left behind, such as Prefect's server."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
