"""The mistakes that a user can mend, and the words that help to mend them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input: one line with what was found, what was expected, what to do.

    The ``sclip`` command prints it and exits with 2.
    """


class ImageError(UserError):
    """One image or label map cannot be used; a run goes on and names it at the end."""


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a list, with the nearest right spelling first.

    Args:
        what: what the name stands for, e.g. ``"dataset"``.
        name: what was given.
        known: every right name; a long list is cut to the names that resemble the given one.
    """
    names = {n.lower(): n for n in sorted(map(str, known))}
    close = [names[n] for n in difflib.get_close_matches(str(name).lower(), names, n=6, cutoff=0.5)]
    hint = f" Did you mean '{close[0]}'?" if close else ""
    if len(names) <= 30:
        return UserError(f"unknown {what} '{name}'.{hint} Known: {', '.join(names.values())}.")
    others = f" Similar: {', '.join(close[1:])}." if close[1:] else ""
    return UserError(f"unknown {what} '{name}'.{hint}{others}")
