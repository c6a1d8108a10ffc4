"""The mistakes that a user can mend, and the words that help to mend them."""

from __future__ import annotations

import difflib
import errno
import reprlib
from collections.abc import Iterable, Sequence

LONGEST = 200  # characters of a value that are shown


class UserError(Exception):
    """A mistake in the input: one line with what was found, what was expected, what to do.

    The ``sclip`` command prints it and exits with 2. What is no sign, such as the line break in
    the name of a file, is escaped: the line stays one, and does nothing to a terminal.
    """

    def __init__(self, line: str) -> None:
        """Take the line."""
        super().__init__(printable(line))


class ImageError(UserError):
    """One image or label map cannot be used; a run goes on and names it at the end."""


# What these say is about the file itself: it is not there, is no file, or cannot be read any more.
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
    """Why the system refused something that says nothing about the content of a file.

    Returns:
        ``not enough memory``, ``Too many open files``, ...; None: the error is of another kind.
    """
    if isinstance(error, OSError):
        return None if error.errno in OF_THE_FILE else error.strerror
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory"
    said = str(error) if isinstance(error, RuntimeError | ImportError) else ""
    return "not enough memory" if any(words in said for words in NO_MEMORY) else None


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a list, with the nearest right spelling first.

    Args:
        what: what the name stands for, e.g. ``"dataset"``.
        name: what was given.
        known: every right name; a long list is cut to the names that resemble the given one.
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
    """A value as a user wrote it, cut where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = LONGEST
    return short.repr(value)


def few(names: Sequence[object], most: int = 3) -> str:
    """The first names of a list, separated by commas; ``...`` stands for the others."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def printable(text: str) -> str:
    """Text that stays one line and does nothing to a terminal: what is no sign is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
