"""The text that a function was made from, and the names that it reads."""

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
    """The text of a function and of the file that it is in; of a notebook's cell the first alone.

    Returns:
        Nothing where there is no text, or where it is not the one that the function was made from.
    """
    try:
        lines = "".join(inspect.getsourcelines(code)[0])
        whole = "".join(linecache.getlines(code.co_filename))
        flags = sum(flag for flag in set(FUTURE) if code.co_flags & flag)  # a notebook's go on
        compiled = compile(whole, code.co_filename, "exec", flags=flags, dont_inherit=True)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError):
        return []
    if not any(inner == code for inner in all_codes(compiled)):
        return []
    return [lines, whole] if os.path.isfile(code.co_filename) else [lines]


def all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code and all that is defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from all_codes(constant)


def names_in(code: types.CodeType) -> set[str]:
    """Names of globals and attributes that a code mentions."""
    return {name for inner in all_codes(code) for name in inner.co_names}


def globals_read(code: types.CodeType) -> set[str]:
    """Names of globals that a code reads."""
    return {
        str(step.argval)
        for inner in all_codes(code)
        for step in dis.get_instructions(inner)
        if step.opname.startswith("LOAD") and step.opname.endswith(("GLOBAL", "GLOBALS", "NAME"))
    }
