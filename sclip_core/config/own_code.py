"""What a user's function does wrong, as one line that names it."""

from __future__ import annotations

import functools
import inspect
import os
import sysconfig
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sclip_core.config.errors import LONGEST, UserError, refused_by_system


def file_of(function: Any) -> str | None:
    """The file that a function, a class or a callable object's class is written in."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function) if callable(function) else function
    if isinstance(function, types.MethodType):
        function = function.__func__
    code = getattr(function, "__code__", None)
    if code is not None:
        return str(code.co_filename)
    kind = function if isinstance(function, type) else type(function)
    codes = (getattr(member, "__code__", None) for member in vars(kind).values())
    here = next((code.co_filename for code in codes if code is not None), None)
    if here is not None:
        return str(here)
    try:
        return inspect.getfile(kind)
    except (TypeError, OSError):
        return None


def line_of(error: BaseException, file: str | None) -> int | None:
    """The last line of a file that an error came through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return lines[-1] if lines else None


def said(error: BaseException) -> str:
    """An error in one line: ``ZeroDivisionError: division by zero``."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def called_from_us(error: BaseException) -> tuple[str, int] | None:
    """File and line of the user's own code that an error came through, called by a package here.

    Returns:
        The innermost such place; None: there is none, so the fault is ours or a library's.
    """
    ours = str(Path(__file__).parents[1])
    libraries = {
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    found, below_us = None, False
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(ours):
            below_us = True
        elif below_us and os.path.isfile(frame.filename):
            of_a_library = any(frame.filename.startswith(f"{place}{os.sep}") for place in libraries)
            beside_us = Path(frame.filename).is_relative_to(Path(ours).parent / "flows")
            if not of_a_library and not beside_us:
                found = frame.filename, frame.lineno or 0
    return found


@contextmanager
def of_user(what: str, function: Any) -> Iterator[None]:
    """While a user's function runs: turn what it raises into one line.

    Args:
        what: the function in words, such as ``method 'mine'``.
        function: it, whose file the line is looked for in.

    Raises:
        UserError: an exception was raised, other than that memory is full.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if refused_by_system(error):
            raise
        file = file_of(function)
        line = line_of(error, file)
        place = f" ({Path(file).name}, line {line})" if file and line else ""
        raise UserError(f"{what} failed: {said(error)}{place}") from error
