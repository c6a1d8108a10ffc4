"""The source that a function was compiled from, and the names that it reads."""

from __future__ import annotations
import __future__

import dis
import inspect
import linecache
import os
import types
from collections.abc import Iterator

FUTURE = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]


def source_of(code: types.CodeType) -> list[str]:
    """The source of a function and of the file that it is in; in a notebook the first alone.

    Returns:
        One or two texts; none if there is no source, or the code was compiled from another.
    """
    try:
        lines = "".join(inspect.getsourcelines(code)[0])
        whole = "".join(linecache.getlines(code.co_filename))
        flags = sum(flag for flag in set(FUTURE) if code.co_flags & flag)  # of all cells before
        compiled = compile(whole, code.co_filename, "exec", flags=flags, dont_inherit=True)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError):
        return []
    if not any(inner == code for inner in all_codes(compiled)):
        return []
    return [lines, whole] if os.path.isfile(code.co_filename) else [lines]


def all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from all_codes(constant)


def names_in(code: types.CodeType) -> set[str]:
    """The names of globals and attributes in a code object."""
    return {name for inner in all_codes(code) for name in inner.co_names}


def globals_read(code: types.CodeType) -> set[str]:
    """The names of globals that a code object reads."""
    return {
        str(step.argval)
        for inner in all_codes(code)
        for step in dis.get_instructions(inner)
        if step.opname.startswith("LOAD") and step.opname.endswith(("GLOBAL", "GLOBALS", "NAME"))
    }
