"""Errors that a user can correct, and helpers that word them."""

from __future__ import annotations

import difflib
import errno
import reprlib
from collections.abc import Iterable, Sequence

LONGEST = 200  # characters of a value that are shown


class UserError(Exception):
    """A mistake in the input: one line with what was found, what was expected, what to do.

    The ``sclip`` command prints it and exits with 2. Non-printable characters, such as a line
    break in the name of a file, are escaped, so that it stays one line and cannot control a
    terminal.
    """

    def __init__(self, line: str) -> None:
        """Keep the line, with non-printable characters escaped."""
        super().__init__(printable(line))


class WorkerLostError(UserError):
    """A process that computed for a command ended before its work; the command exits with 1."""


class ImageError(UserError):
    """One image or label map cannot be used; a run continues and names it at the end."""


# These are about the file itself: it does not exist, is not a regular file, or cannot be read.
OF_THE_FILE = {errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, None}
NO_MEMORY = (
    "can't allocate memory",  # PyTorch
    "not enough memory",
    "can't start new thread",
    "bad_alloc",  # C++
    "could not create a",  # oneDNN: a primitive, a memory object
    "failed to map segment",  # the loader of shared libraries
    "annot allocate memory",
)


def refused_by_system(error: BaseException) -> str | None:
    """The reason of the operating system for an error that has nothing to do with a file's content.

    Returns:
        ``not enough memory``, ``Too many open files``, ...; None for any other error.
    """
    if isinstance(error, OSError):
        return None if error.errno in OF_THE_FILE else error.strerror
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory"
    said = str(error) if isinstance(error, RuntimeError | ImportError) else ""
    return "not enough memory" if any(words in said for words in NO_MEMORY) else None


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a list; it suggests the most similar ones.

    Args:
        what: what the name stands for, e.g. ``"dataset"``.
        name: what was given.
        known: the names that exist; of more than 30, only similar ones are shown.
    """
    name = str(name) if len(str(name)) <= LONGEST else f"{str(name)[:LONGEST]}..."
    names = {n.lower(): n for n in sorted(map(str, known))}
    close = [names[n] for n in difflib.get_close_matches(name.lower(), names, n=6, cutoff=0.5)]
    hint = f" Did you mean '{close[0]}'?" if close else ""
    if len(names) <= 30:
        return UserError(f"unknown {what} '{name}'.{hint} Known: {', '.join(names.values())}.")
    others = f" Similar: {', '.join(close[1:])}." if close[1:] else ""
    return UserError(f"unknown {what} '{name}'.{hint}{others}")


def shown(value: object) -> str:
    """``repr`` of a value, shortened where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = LONGEST
    return short.repr(value)


def few(names: Sequence[object], most: int = 3) -> str:
    """The first names of a list, separated by commas; ``...`` stands for the others."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def printable(text: str) -> str:
    """The text with non-printable characters escaped: one line that cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
