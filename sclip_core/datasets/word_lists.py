"""Lists of classes as projects of this field write them: lines, numbers, tables, JSON and YAML.

Our own form is one class a line, its words separated by ``", "``. What is plainly another form is
read as it is meant, and ``how`` says so; what could mean two things is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sclip_core.config import UserError
from sclip_core.datasets.word_objects import ASSIGNED, NOT_STRUCTURED, entries_of, loaded
from sclip_core.datasets.word_tables import NAMES, read_table
from sclip_core.datasets.word_text import (
    Line,
    blank_fault,
    is_quoted,
    protected,
    tight_commas,
    unprotected,
    without_comments,
    without_marks,
)

SEPARATOR = ", "
# A line of one of these is no class: pixels of its label are not evaluated.
IGNORED_NAMES = frozenset(
    {"__ignore__", "ignore", "ignored", "ignore_label", "__void__", "void", "__unlabeled__"}
    | {"unlabeled", "unlabelled", "not labeled", "not labelled", "invalid_class_id"}
)
LABELME = ("__ignore__", "_background_")  # how LabelMe's labels.txt begins
COLON_NAME = re.compile(r"(background)\s*:\s*(?=\S)", re.IGNORECASE)

SYNSET = re.compile(r"^\s*n\d{8}(?:\s*[,;:=\t]\s*|\s+)(?P<rest>\S.*)$")
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))
CALLED = re.compile(r"\s*\w+\s*(?::[^=]*)?=\s*\w*[(\[{]")  # ``METAINFO = dict(``

# What stands between a number and its words. After the first kinds any different numbers are
# taken; the others occur in words too (`3 door car`), so the numbers must count from 0 or 1.
STRONG = (":", "\t", "=", "|", ",", ";")
WEAK = {".": r"\.\s+", ")": r"\)\s*", "-": r"\s+-+>?\s+", "a space": r"[ ]+"}


@dataclass(frozen=True)
class Entry:
    """One class: its words, where it stands, and its number in label maps if it has one.

    Attributes:
        words: as they were written, not yet stripped.
        place: for errors, ``line 3``.
        number: the value in label maps; None: its place in the list, counted from 0.
        name: of the class, where it is not the first word.
        quoted: it is a single word in quotes, which is never taken for "not evaluated".
    """

    words: tuple[str, ...]
    place: str
    number: int | None = None
    name: str | None = None
    quoted: bool = False

    @property
    def is_ignored(self) -> bool:
        """Whether it is a name for pixels that are not evaluated, rather than a class."""
        name = " ".join(self.words[0].casefold().split())
        return len(self.words) == 1 and not self.quoted and name in IGNORED_NAMES


@dataclass
class WordList:
    """The classes of a text in their order, and how it was read where it is not in our own form.

    Attributes:
        entries: the classes.
        how: what was not in our own form, a phrase each.
        separator: what separates the words of a class; None: JSON, YAML or code says so itself.
    """

    entries: list[Entry] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    separator: str | None = None


def read_list(text: str, suffix: str = "", inline: bool = False) -> WordList:
    """Read a list of classes.

    Args:
        text: of a file, or written out in a command.
        suffix: of the file, ``.json``; empty if there is none.
        inline: it was written out in a command, where ``;`` stands between classes.

    Raises:
        UserError: it could mean two things, or has no class; the line begins with the place.
    """
    found = loaded(text, suffix)
    if found is not NOT_STRUCTURED:
        return _from_object(found, text, suffix)
    how: list[str] = []
    lines = without_comments(_lines(text), how)
    if not any(line.text.strip() for line in lines):
        return WordList()
    table = read_table(lines, suffix)
    if table is not None:
        rows, said = table
        marks = [_separator([line], []) for line in rows]
        entries = [_entry(line, mark) for line, mark in zip(rows, marks, strict=True)]
        usual = next((mark for mark in marks if mark != SEPARATOR), SEPARATOR)
        return WordList(entries, [*how, said], usual)
    lines = without_marks(lines, how)
    if inline or sum(bool(line.text.strip()) for line in lines) == 1:
        lines = _of_one_line(lines, inline, how)
    lines = _without_synsets(_without_colours(lines, how), how)
    lines = _numbered(lines, how)
    _refuse_blank(lines)
    _refuse_headings(lines)
    mark = _separator(lines, how)
    entries = [_entry(line, mark) for line in lines]
    if any(unprotected(line.text) != line.text or "'" in line.text[:1] for line in lines):
        how.append("quotes left out")
    if [line.text.strip() for line in lines[:2]] == [*LABELME] and lines[0].label is None:
        how.append("the list of LabelMe, in which '__ignore__' is -1 and '_background_' is 0")
        del entries[0]
    return WordList(entries, how, mark)


def _from_object(found: Any, text: str, suffix: str) -> WordList:
    """The classes of what JSON or YAML holds."""
    described, several = entries_of(found)
    form = "JSON" if suffix == ".json" or text.strip()[:1] in ("[", "{", "(") else "YAML"
    form = "code" if ASSIGNED.match(text.strip()) else form
    kind = f"read as {form}, {described}"
    entries = [
        Entry(tuple(words), f"entry {index + 1}", number)
        for index, (words, number) in enumerate(several)
    ]
    return WordList(entries, [kind])


def _lines(text: str) -> list[Line]:
    """The lines of a text, without blank ones at its end; quoted words are protected."""
    lines = text.rstrip().split("\n")
    return [Line(protected(line), number) for number, line in enumerate(lines, 1)]


def _of_one_line(lines: Sequence[Line], inline: bool, how: list[str]) -> list[Line]:
    """The classes of a list that is written in one line; a single class where it has no marks."""
    parts: list[Line] = []
    for line in lines:
        mark = _mark_of_one_line(line) if line.text.strip() else ""
        texts = line.text.split(mark) if mark else [line.text]
        while mark and len(texts) > 1 and not texts[-1].strip():
            texts.pop()
        several = [Line(text, line.number, f"class {k}") for k, text in enumerate(texts, 1)]
        parts += several if len(several) > 1 else [line.with_text(texts[0])]
        usual = inline and mark == ";"
        if len(several) > 1 and not usual:
            how.append(f"one line, read as {len(several)} classes separated by '{shown(mark)}'")
    return parts


def _mark_of_one_line(line: Line) -> str:
    """What separates the classes of a list in one line; empty: it is one class.

    Raises:
        UserError: it has both ``a, b`` and ``a,b``.
    """
    text = line.text
    for mark in (";", "|", "\t"):
        if mark in text and not re.match(rf"\d+\s*[{re.escape(mark)}][^{re.escape(mark)}]*$", text):
            return mark
    if not tight_commas(text):
        return ""
    if SEPARATOR in text.rstrip(", "):
        raise UserError(
            f"{line.place} has both 'a, b' and 'a,b': write a class on each line, or ';' between "
            "classes, and ', ' between the words of one"
        )
    return ","


def shown(mark: str) -> str:
    """A mark as it is shown."""
    return {"\t": "tab"}.get(mark, mark)


def _without_colours(lines: list[Line], how: list[str]) -> list[Line]:
    """The lines without the colours that every one has: ``64 0 128 car``, ``car:64,0,128::``."""
    number, gap = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)", r"(?:\s*,\s*|\s+)"
    colour = rf"[\[(]?{number}{gap}{number}{gap}{number}[\])]?"
    forms = (
        re.compile(rf"^(?P<rest>.*[^\W\d].*?)(?:\s*[,;:=\t]\s*|\s+){colour}\s*(?::[^:]*:[^:]*)?$"),
        re.compile(rf"^{colour}(?:\s*[,;:=\t]\s*|\s+)(?P<rest>.*[^\W\d].*)$"),
    )
    for form in forms:
        found = [form.match(line.text.strip()) for line in lines]
        if len(lines) > 1 and all(found):
            how.append("the colour of each class left out")
            pairs = zip(lines, found, strict=True)
            return [line.with_text(m["rest"]) for line, m in pairs if m is not None]
    return lines


def _without_synsets(lines: list[Line], how: list[str]) -> list[Line]:
    """The lines without the ids of WordNet that every one begins with: ``n01440764 tench``."""
    found = [SYNSET.match(line.text) for line in lines]
    if not lines or not all(found):
        return lines
    how.append("the id of WordNet before each class left out")
    return [line.with_text(m["rest"]) for line, m in zip(lines, found, strict=True) if m]


def _numbered(lines: list[Line], how: list[str]) -> list[Line]:
    """The lines with their numbers apart from the words, if every line begins or ends with one."""
    filled = [line for line in lines if line.text.strip()]
    if not filled:
        return lines
    for mark in STRONG:
        first = re.compile(rf"^\s*(?P<n>\d+)[ ]*{re.escape(mark)}\s*(?P<rest>\S.*)$")
        last = re.compile(rf"^\s*(?P<rest>.*[^\W\d].*?)\s*{re.escape(mark)}[ ]*(?P<n>\d+)\s*$")
        for form, example in ((first, f"0{shown(mark)}"), (last, f"{shown(mark)}0")):
            found = [form.match(line.text) for line in filled]
            if all(found):
                return _with_numbers(filled, found, f"numbers ('{example}')", how)
            count = sum(match is not None for match in found)
            if (form is first and mark not in ",;" and count) or 2 * count > len(found) > 2:
                raise _partly(filled, found)
    return _numbered_weakly(filled, how) or lines


def _numbered_weakly(lines: list[Line], how: list[str]) -> list[Line] | None:
    """As ``_numbered`` for marks that occur in words too; None: there are no numbers."""
    for name, gap in WEAK.items():
        form = re.compile(rf"^\s*(?P<n>\d+){gap}(?P<rest>\S.*)$")
        found = [form.match(line.text) for line in lines]
        numbers = [int(match["n"]) for match in found if match]
        if len(numbers) < 2 or len(numbers) < len(lines) - 1:
            continue
        counted = numbers in ([*range(len(numbers))], [*range(1, len(numbers) + 1)])
        if not all(found):
            if counted and found[0] is None:  # a header above them
                raise _partly(lines, found)
            continue
        if counted:
            return _with_numbers(lines, found, f"numbers before '{name}'", how)
        if len(set(numbers)) == len(numbers):
            raise UserError(
                f"every line begins with a number, such as '{unprotected(lines[0].text.strip())}': "
                f"write '{numbers[0]}: ...' if it is the value in the label maps, or the line in "
                "double quotes if it is part of the word"
            )
    behind = [re.match(r"^\s*(?P<stem>.*\S)\s+(?P<n>\d+)\s*$", line.text) for line in lines]
    stems = {match["stem"] for match in behind if match}
    ordered = [int(match["n"]) for match in behind if match] == [*range(len(lines))]
    if len(stems) == len(lines) > 1 and ordered:
        raise UserError(
            f"every line ends with a number, such as '{unprotected(lines[0].text.strip())}': write "
            "'0: ...' if it is the value in the label maps, or the line in double quotes if it is "
            "part of the word"
        )
    return None


def _with_numbers(
    lines: Sequence[Line], found: Sequence[re.Match[str] | None], form: str, how: list[str]
) -> list[Line]:
    """The lines, in the order of their numbers."""
    seen: dict[int, Line] = {}
    numbered = []
    for line, match in zip(lines, found, strict=True):
        assert match is not None
        number = int(match["n"])
        if number in seen:
            raise UserError(
                f"{line.place}: the number {number} is that of {seen[number].place} already: "
                "give each class one of its own"
            )
        seen[number] = line
        numbered.append(line.with_text(match["rest"], number))
    numbered.sort(key=lambda line: line.label or 0)
    how.append(f"{form} are the values in the label maps, {min(seen)} to {max(seen)}")
    return numbered


def _partly(lines: Sequence[Line], found: Sequence[re.Match[str] | None]) -> UserError:
    """The error for numbers in some of the lines."""
    pairs = list(zip(lines, found, strict=True))
    has = next(line for line, match in pairs if match)
    lacks = next((line for line, match in pairs if not match), has)
    return UserError(
        f"{has.place} has a number, '{unprotected(has.text.strip())}', and {lacks.place} has "
        f"none, '{unprotected(lacks.text.strip())}': number every class or none, or write a word "
        "with such a mark in double quotes"
    )


def _refuse_blank(lines: Sequence[Line]) -> None:
    for line in lines:
        if not line.text.strip():
            raise blank_fault(line)


def _refuse_headings(lines: Sequence[Line]) -> None:
    """Raise where words may be no words: a heading, code, or names before colons."""
    code = next((line for line in lines if _is_code(line.text)), None)
    if code is not None:
        raise UserError(
            f"{code.place} is '{unprotected(code.text.strip())}': is it a piece of code? Write one "
            "class a line, a list as JSON, or the line in double quotes if it is a class"
        )
    first = lines[0].text.strip()
    if len(lines) > 2 and " ".join(first.casefold().replace("_", " ").split()) in NAMES:
        raise UserError(
            f"{lines[0].place} is '{first}': is it a heading? Put # before it, or write it in "
            "double quotes if it is a class"
        )
    others = [line for line in lines if not COLON_NAME.match(line.text.strip())]
    if len(others) > 1 and all(re.match(r"\s*[^:]+:\s*\S", line.text) for line in others):
        raise UserError(
            f"{others[0].place} is '{unprotected(others[0].text.strip())}': write the words of a "
            "class with ', ' between them, the name first, or each line in double quotes if the "
            "colon belongs to the word"
        )


def _is_code(text: str) -> bool:
    """Whether a line has brackets that do not close, or begins as an assignment of such."""
    is_open = any(text.count(first) != text.count(last) for first, last in BRACKETS)
    return is_open or CALLED.match(text) is not None


def _separator(lines: Sequence[Line], how: list[str]) -> str:
    """What separates the words of a line: ``", "``, or the one other mark that all lines use.

    Raises:
        UserError: the lines use two of them, or tabs.
    """
    marks: dict[str, Line] = {}
    for line in lines:
        text = line.text.strip()
        kinds = [SEPARATOR] if SEPARATOR in text else []
        kinds += [","] if tight_commas(text) else []
        kinds += [mark for mark in (";", "|", "\t") if mark in text.strip(mark)]
        for kind in kinds:
            marks.setdefault(kind, line)
    tabbed = marks.get("\t")
    if tabbed is not None:
        raise UserError(
            f"{tabbed.place} has a tab, '{unprotected(tabbed.text)}': write one class "
            "a line and ', ' between its words, or a number, a tab and the words on every line"
        )
    others = [mark for mark in marks if mark != SEPARATOR]
    if not others:
        return SEPARATOR
    if len(marks) > 1:
        raise _mixed(marks, others[0])
    (mark,) = others
    how.append(f"words of a class separated by '{mark}'")
    spaced = all(line.text.count(mark) == line.text.count(f"{mark} ") for line in lines)
    return f"{mark} " if spaced else mark


def _words(text: str, mark: str) -> list[str]:
    """The words of a line, not yet stripped."""
    return re.split(r"(?<!\d),|,(?!\d)", text) if mark == "," else text.split(mark)


def _mixed(marks: dict[str, Line], other: str) -> UserError:
    """The error for words that two marks separate."""
    line = marks[other]
    text = unprotected(line.text.strip())
    return UserError(
        f"{line.place}: is '{text}' one word, or are its words separated by '{other}'? Other "
        f"lines have '{SEPARATOR}': write '{SEPARATOR}' between words, and a word that has a "
        f"'{other}' in double quotes"
    )


def _entry(line: Line, mark: str) -> Entry:
    """One class: its words, unquoted."""
    text, name = line.text, None
    marked = COLON_NAME.match(text.strip())
    if marked and line.label in (None, 0):
        name, text = marked[1].lower(), text.strip()[marked.end() :]
    quoted = is_quoted(text.strip())
    if quoted and SEPARATOR in unprotected(text):  # a cell of a table, rather than one word
        return Entry(tuple(unprotected(text).split(SEPARATOR)), line.place, line.label, name)
    words = tuple(_bare(word) for word in _words(text, mark))
    return Entry(words, line.place, line.label, name, quoted)


def _bare(word: str) -> str:
    """A word without its quotes."""
    word = unprotected(word).strip()
    single = len(word) > 2 and word[0] == word[-1] == "'" and "'" not in word[1:-1]
    return word[1:-1] if single else word
