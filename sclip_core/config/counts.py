"""Counted things in messages: ``1 image has``, ``3 images have``."""

from __future__ import annotations

ENDINGS = ("s", "sh", "ch", "x")  # of nouns whose plural has "es"
IRREGULAR = {"have": "has", "are": "is", "were": "was", "do": "does"}


def number_of(number: int, noun: str, verb: str = "", of: int | None = None) -> str:
    """A number and a noun, and a verb that fits the number.

    Args:
        number: of things.
        noun: what they are, one of them.
        verb: what they do, as of several things; empty: none.
        of: how many there are in all; None: that is not said.

    >>> number_of(1, "class"), number_of(1200, "word")
    ('1 class', '1,200 words')
    >>> number_of(1, "image", "have"), number_of(2, "image", "hold")
    ('1 image has', '2 images hold')
    >>> number_of(1, "image", "have", of=3)
    '1 of 3 images has'
    """
    among = number if of is None else of
    plural = noun + ("es" if noun.endswith(ENDINGS) else "s")
    said = f"{number:,}" if of is None else f"{number:,} of {of:,}"
    said = f"{said} {noun if among == 1 else plural}"
    if not verb:
        return said
    return f"{said} {fitting(verb, number)}"


def fitting(verb: str, number: int) -> str:
    """The form of a verb for so many things.

    >>> fitting("have", 1), fitting("have", 2), fitting("hold", 1)
    ('has', 'have', 'holds')
    """
    return IRREGULAR.get(verb, f"{verb}s") if number == 1 else verb
