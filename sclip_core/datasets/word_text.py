"""Lines of a list of classes: quoted words, comments, and marks around what is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from sclip_core.config import UserError

QUOTED = re.compile(r'(?:(?<=^)|(?<=[\s,;|:=]))(?:"([^"]+)"|“([^”]+)”)(?=$|[\s,;|])')
# A quoted word is kept between two private characters of Unicode, and its ASCII characters are
# moved to private ones, so that no comma, colon or digit in it counts as a mark.
OPEN, CLOSE, MOVED = "\uf8d0", "\uf8d1", 0xF0000
NUMBER_MARKS = re.compile(r"(?<!\d),(?=\S)|,(?=[^\d\s])")


@dataclass(frozen=True)
class Line:
    """A line of a text, counted from 1.

    Attributes:
        text: what is in it; quoted words are protected.
        number: of the line.
        of: what it is called in an error; empty: by its number.
        label: the value in label maps that it names.
    """

    text: str
    number: int
    of: str = ""
    label: int | None = None

    @property
    def place(self) -> str:
        """What it is called in an error."""
        return self.of or f"line {self.number}"

    def with_text(self, text: str, label: int | None = None) -> Self:
        """The line with another text, and its number in label maps."""
        return replace(self, text=text, label=label)


def shielded(text: str) -> str:
    """The text with its ASCII characters moved, so that nothing in it counts as a mark."""
    return "".join(chr(MOVED + ord(c)) if ord(c) < 128 else c for c in text)


def protected(text: str) -> str:
    """The text with its words in double quotes moved out of the way of every mark."""
    return QUOTED.sub(lambda match: f"{OPEN}{shielded(match[1] or match[2])}{CLOSE}", text)


def with_quotes(text: str) -> str:
    """A protected text as it was written."""
    return unprotected(text.replace(OPEN, '"').replace(CLOSE, '"'))


def unprotected(text: str) -> str:
    """The text with its quoted words, without their quotes."""
    bare = text.replace(OPEN, "").replace(CLOSE, "")
    return "".join(chr(ord(c) - MOVED) if MOVED <= ord(c) < MOVED + 128 else c for c in bare)


def is_quoted(text: str) -> bool:
    """Whether all of a protected text is one quoted word."""
    return text.startswith(OPEN) and text.endswith(CLOSE) and text.count(OPEN) == 1


def tight_commas(text: str) -> bool:
    """Whether words are separated by commas without a space; ``1,000`` is none of that.

    >>> tight_commas("sky,clouds"), tight_commas("sky, clouds"), tight_commas("1,000 dollars")
    (True, False, False)
    """
    return NUMBER_MARKS.search(text) is not None


def without_comments(lines: Sequence[Line], how: list[str]) -> list[Line]:
    """The lines without comments: those that begin with ``#`` or ``//``, and what follows `` # ``.

    Blank lines beside a comment go with it.
    """
    kept: list[Line] = []
    comments = after = 0
    blank: list[Line] = []  # not yet known whether a comment follows
    beside = False  # a comment
    for line in lines:
        text = line.text.strip()
        if text.startswith(("#", "//")):
            comments, beside, blank = comments + 1, True, []
        elif not text:
            blank += [] if beside else [line]
        else:
            cut = re.sub(r"\s#.*$", "", line.text)
            after += cut != line.text
            kept += [*blank, replace(line, text=cut)]
            beside, blank = False, []
    if comments:
        how.append(f"{comments} comment {'line' if comments == 1 else 'lines'} left out")
    if after:
        how.append("what follows ' #' left out")
    return kept


def without_marks(lines: list[Line], how: list[str]) -> list[Line]:
    """The lines without list marks before, and separators behind, that every one has.

    The last line may lack the separator, as the last element of a list does.
    """
    filled = [line for line in lines if line.text.strip()]
    for bullet in ("-", "*", "\u2022"):
        if filled and all(line.text.lstrip().startswith(f"{bullet} ") for line in filled):
            how.append(f"'{bullet}' before every class left out")
            lines = [line.with_text(line.text.lstrip()[len(bullet) :]) for line in filled]
            filled = lines
    for mark in (",", ";"):
        behind = [line.text.rstrip().endswith(mark) for line in filled]
        if len(filled) > 1 and all(behind[:-1]):
            how.append(f"'{mark}' at the end of each line left out")
            return [line.with_text(line.text.rstrip().rstrip(mark)) for line in lines]
    return lines


def blank_fault(line: Line) -> UserError:
    """The error for a blank line between classes, which would move all labels behind it."""
    return UserError(
        f"{line.place} is blank: line k names the class of label k-1, so remove it or write the "
        "class that is missing"
    )
