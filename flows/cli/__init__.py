"""The ``sclip`` command.

This module imports only the standard library; the rest is imported once signals are handled.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from flows.signals import STOPPED, Watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command; None: those of the process, which ends with the command.

    Returns:
        0: done; 2: a mistake of the user's (one line says what to do); 1: images were left out,
        output cannot be written, or an internal error; 130: stopped by Ctrl-C, 143: by SIGTERM.
    """
    if not _can_print():
        return 1
    watch = Watch(sys._getframe(), own_process=arguments is None)
    try:
        with watch:
            try:
                return watch.done(_run(arguments, watch))
            except BaseException as stop:
                if not _stops(stop):
                    raise
                _say(STOPPED)
                return watch.done(watch.exit_code(stop))
    except KeyboardInterrupt as again:  # while the message about the first was printed
        return watch.done(watch.exit_code(again))


def _run(arguments: Sequence[str] | None, watch: Watch) -> int:
    from flows.cli.garbage import search_seldom

    if watch.own_process:
        search_seldom()
    from flows.cli.exits import execute

    watch.work()
    return execute(arguments)


def _stops(error: BaseException) -> bool:
    """Whether a signal was the cause; Prefect raises a class of its own for SIGTERM."""
    return isinstance(error, KeyboardInterrupt) or type(error).__name__ == "TerminationSignal"


def _can_print() -> bool:
    """Let any character be printed, escaped if need be; False: standard output is closed."""
    if sys.stderr is None:  # closed by `2>&-`
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:  # the next file that is opened would take its place
        _say("standard output is closed: leave it open, or send it to /dev/null")
        return False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return True


def _say(line: str) -> None:
    with suppress(OSError):  # /dev/full
        print(f"sclip: {line}", file=sys.stderr)


def __getattr__(name: str) -> Any:
    """``app``, which has all commands, ``run`` and ``plan``, imported on first use."""
    if name not in ("app", "run", "plan"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.cli import commands

    return getattr(commands, name)
