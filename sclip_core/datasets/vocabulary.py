"""Vocabularies: the classes of a dataset and the words that stand for each in CLIP's queries."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError, tables, unknown
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.frozen import words_in
from sclip_core.config.paths import local
from sclip_core.datasets.word_files import read_text
from sclip_core.datasets.word_lists import Entry, WordList, read_list

BUILT_IN = Path(__file__).with_name("vocabularies")
BACKGROUND = "background"
SEPARATOR = ", "
MOST_CLASSES = 1 << 16  # of label maps in 16 bits
SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".names", ".lst")
SHOWN = 80  # characters of names in one line


@dataclass(frozen=True)
class Vocabulary:
    """Classes in label order, each with one or more words, which are the queries.

    Attributes:
        class_names: one name a class, all different.
        words: the words of each class, in the same order.
        labels: the value of each class in label maps; empty where class k has the value k.
        ignored: the values and names of lines that are no class, such as ``__ignore__``: their
            pixels are not evaluated.
        notes: how the classes were read, where that was not in our own form, a line each.
        separator: what stood between the words of a class in the text that they were read from;
            None: they are from no text.
        distractors: words of no class, each a query of a class of its own beyond the classes.
        closed: whether no pixel may become a distractor, so that they only count in the softmax.

    >>> pets = Vocabulary.from_classes(["cat, kitten", "grass"])
    >>> pets.queries, pets.query_class, pets.class_names
    (('cat', 'kitten', 'grass'), (0, 0, 1), ('cat', 'grass'))
    """

    class_names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...] = ()
    ignored: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    separator: str | None = field(default=None, compare=False, repr=False)
    distractors: tuple[str, ...] = ()
    closed: bool = False

    def __repr__(self) -> str:
        """One line: how many classes and words, the first names."""
        counts = number_of(self.num_classes, "class"), number_of(len(self.queries), "word")
        return f"Vocabulary({', '.join(counts)}: {few(self.class_names)})"

    @property
    def queries(self) -> tuple[str, ...]:
        """All words (Q,), class after class, then the distractors."""
        return (*(word for words in self.words for word in words), *self.distractors)

    @property
    def query_class(self) -> tuple[int, ...]:
        """The class (Q,) of each query, counted from 0; of distractors the numbers that follow."""
        own = (index for index, words in enumerate(self.words) for _ in words)
        return (*own, *range(self.num_classes, self.num_classes + len(self.distractors)))

    @property
    def named_words(self) -> list[tuple[str, tuple[str, ...]]]:
        """Of each class its name and its words."""
        return list(zip(self.class_names, self.words, strict=True))

    @property
    def num_classes(self) -> int:
        """The number of classes, including the background."""
        return len(self.words)

    def words_of(self, name: str) -> tuple[int, ...]:
        """The queries that a name stands for, as indices into ``queries``.

        Args:
            name: the name of a class or all its words (``"cat, kitten"``), which stand for all
                its queries; or one word, which stands for its query alone.

        Raises:
            UserError: there is neither a class nor a word of this name.

        >>> pets = Vocabulary.from_classes(["cat, kitten", "grass"])
        >>> pets.words_of("cat"), pets.words_of("kitten")
        ((0, 1), (1,))
        """
        for index, words in enumerate(self.words):
            if name in (self.class_names[index], SEPARATOR.join(words)):
                return tuple(q for q, of in enumerate(self.query_class) if of == index)
        if name not in self.queries:
            raise unknown("word", name, dict.fromkeys((*self.class_names, *self.queries)))
        return (self.queries.index(name),)

    @classmethod
    def named(cls, name: str) -> Self:
        """A built-in vocabulary, e.g. ``Vocabulary.named("voc21")``; ``-`` stands for ``_``.

        Raises:
            UserError: there is none of that name.
        """
        plain = name.lower().replace("-", "_").removesuffix("164k")
        known = {path.stem: path for path in BUILT_IN.glob("*.txt")}
        benchmark = tables()["benchmarks"].get(plain, {})
        if "words" in benchmark:  # of a user's own
            known[plain] = Path(benchmark["words"])
        if plain not in known:
            raise unknown("vocabulary", name, known)
        vocabulary = cls.from_file(known[plain])
        return vocabulary.with_background() if benchmark.get("background") else vocabulary

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a file with one class a line, its words separated by ``", "``.

        The first word is the name of the class. Line k is label k-1, so that blank lines are
        allowed only at the end. Lists of other projects are read too, where their meaning is plain
        (docs/own-data.md); ``notes`` says how.

        Raises:
            UserError: the file cannot be read, is not UTF-8 or is empty; it has a blank line, an
                empty word, or two classes of the same name; it could be read in two ways.
        """
        frozen = words_in(Path(path))
        if frozen is not None:
            return cls(**frozen)
        text = read_text(Path(path))
        if not text.strip():
            raise UserError(f"{path} is empty: expected one class a line, e.g. 'grass, lawn'")
        return cls._from_text(text, str(path), Path(path).suffix.lower())

    @classmethod
    def given(cls, classes: str | Path, single: bool = False) -> Self:
        """The classes of a command: a file, or words written out, ``"cat, kitten; grass"``.

        Args:
            classes: the path of a file, or classes with ``;`` between them, ``", "`` between the
                words of one; also ``"cat,dog"`` and a JSON list.
            single: whether one word without any mark is a class rather than a missing file.

        Raises:
            UserError: as for ``from_file``.
        """
        text = str(classes)
        written_out = any(mark in text for mark in ";,|\n\t[") or single
        named_as_file = text.lower().endswith(SUFFIXES) or (os.sep in text and " " not in text)
        if os.path.exists(local(text)) or not written_out or named_as_file:
            return cls.from_file(text)
        if not text.strip(" ;"):
            raise UserError(
                f"--classes: empty word in '{text}': expected a file, or 'cat, kitten; grass'"
            )
        return cls._from_text(text, "--classes", inline=True)

    @classmethod
    def _from_text(cls, text: str, source: str, suffix: str = "", inline: bool = False) -> Self:
        """The vocabulary of a text; ``source`` names it in errors and notes."""
        try:
            found = read_list(text, suffix, inline)
        except UserError as error:
            between = " " if str(error).startswith(("is ", "has ")) else ", "
            raise UserError(f"{source}{between}{error}") from None
        return cls._of_list(found, source)

    @classmethod
    def _of_list(cls, found: WordList, source: str) -> Self:
        """The vocabulary of a list of classes, without what is no class."""
        numbers = [k if e.number is None else e.number for k, e in enumerate(found.entries)]
        pairs = list(zip(numbers, found.entries, strict=True))
        if not pairs:
            raise UserError(f"{source} has no class: expected one a line, e.g. 'grass, lawn'")
        ignored = tuple((number, e.words[0].strip()) for number, e in pairs if e.is_ignored)
        kept = [(number, entry) for number, entry in pairs if not entry.is_ignored]
        if not kept:
            raise UserError(f"{source} has no class to evaluate: all of it is '{ignored[0][1]}'")
        entries = [entry for _, entry in kept]
        read = cls._checked(
            [entry.words for entry in entries], lambda index: f"{source}, {entries[index].place}"
        )
        if max(numbers) >= MOST_CLASSES:
            raise UserError(
                f"{source}: a class has the number {max(numbers)}: expected values of label maps, "
                f"at most {MOST_CLASSES - 1}"
            )
        labels = tuple(number for number, _ in kept)
        notes = [f"{source}: {'; '.join(found.how)}"] if found.how else []
        notes += [
            f"{source}: '{name}' is no class: pixels of label {number} are not evaluated"
            f"{_as_a_class(name)}"
            for number, name in ignored
        ]
        if read.num_classes == 1:
            notes.append(f"{source}: one class, so every pixel becomes {_one_class(read.words[0])}")
        identity = labels == tuple(range(len(labels)))
        read = replace(
            read,
            labels=() if identity else labels,
            ignored=ignored,
            notes=tuple(notes),
            separator=found.separator,
        )
        return read.with_background() if entries[0].name else read

    @classmethod
    def from_classes(cls, classes: Sequence[str] | Sequence[Sequence[str]] | Vocabulary) -> Self:
        """From a list, in which ``"grass, lawn"`` or ``["grass", "lawn"]`` is one class.

        Raises:
            UserError: it is not such a list or is empty; it has an empty word, two classes of the
                same name, or a name such as ``void``, which in double quotes is a class.
        """
        if isinstance(classes, Vocabulary):
            return replace(classes) if isinstance(classes, cls) else cls(**vars(classes))
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            raise UserError(
                f"classes: expected a list such as ['cat', 'grass, lawn'], found {classes!r}"
            )
        if not classes:
            raise UserError("classes: the list is empty; give at least one class")
        words = [entry.split(SEPARATOR) if isinstance(entry, str) else entry for entry in classes]
        words = [_as_class(entry, f"classes[{k}]") for k, entry in enumerate(words)]
        return cls._checked(words, lambda index: f"classes[{index}]")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The value of each class in label maps (C,), without ``reduce_zero_label``."""
        return self.labels or tuple(range(self.num_classes))

    @property
    def highest_class(self) -> int:
        """The highest value of a class in label maps."""
        return max(self.numbers)

    @property
    def highest(self) -> int:
        """The highest value in label maps that the vocabulary names."""
        return max([*self.numbers, *(number for number, _ in self.ignored)])

    @property
    def is_raw(self) -> bool:
        """Whether 0 is no class: the numbers are those of maps in which 0 means "none"."""
        return 0 not in self.numbers

    def as_values(self, classes: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """A map of classes as a map of the values that label maps have for them.

        Args:
            classes: any shape; values beyond the classes, which stand for "no label", stay.
        """
        if not self.labels:
            return classes
        wide = classes.astype(np.uint16)
        values = np.array(self.labels, np.uint16)
        inside = wide < len(values)
        wide[inside] = values[wide[inside]]
        return (
            wide if self.highest_class > np.iinfo(classes.dtype).max else wide.astype(classes.dtype)
        )

    @property
    def summary(self) -> str:
        """The classes in one line, as a run and a plan print them.

        >>> Vocabulary.from_classes(["cat, kitten", "grass"]).summary
        '2 classes, 3 words: cat, grass; background: none'
        """
        counts = (number_of(self.num_classes, "class"), number_of(len(self.queries), "word"))
        shown: list[str] = []
        length = 0
        for name in self.class_names:
            length += len(name) + 2
            if shown and length > SHOWN:
                shown.append("\N{HORIZONTAL ELLIPSIS}")
                break
            shown.append(
                name if len(name) <= SHOWN else f"{name[: SHOWN - 1]}\N{HORIZONTAL ELLIPSIS}"
            )
        return f"{', '.join(counts)}: {', '.join(shown)}; background: {self._background_shown()}"

    def _background_shown(self) -> str:
        """The name of the background, and what else may be meant as one."""
        if self.background is not None:
            return self.background
        other = next((k for k, w in enumerate(self.words) if _names_background(w)), None)
        if other is None:
            return "none"
        return f"none ('{self.class_names[other]}' is class {other}, and only class 0 can be)"

    @property
    def background(self) -> str | None:
        """The name of class 0 if it or one of its words is ``background``, in any case of letters.

        Only ``background`` itself counts where pixels get a label by it (``has_background``).
        """
        called = self.has_background or _names_background(self.words[0])
        return self.class_names[0] if called else None

    @property
    def has_background(self) -> bool:
        """Whether class 0 is the background: what no other class names."""
        return self.class_names[0] == BACKGROUND

    def with_background(self) -> Self:
        """A copy whose class 0 is named ``background`` and keeps its words.

        Raises:
            UserError: another class has that name.
        """
        if BACKGROUND in self.class_names[1:]:
            index = self.class_names.index(BACKGROUND, 1)
            raise UserError(
                f"class {index} is called '{BACKGROUND}', which here is class 0: "
                f"move its words to the first class"
            )
        return replace(self, class_names=(BACKGROUND, *self.class_names[1:]))

    @classmethod
    def _checked(cls, words: Sequence[Sequence[str]], place: Callable[[int], str]) -> Self:
        """Check and strip the words of each class; ``place`` names a class in an error."""
        if len(words) > MOST_CLASSES:
            raise UserError(
                f"{len(words):,} classes, the first in {place(0)}: at most {MOST_CLASSES:,}; "
                "is it a vocabulary, a line for each class of the labels?"
            )
        stripped: list[tuple[str, ...]] = []
        first_of: dict[str, int] = {}
        for index, entry in enumerate(words):
            stripped.append(_class_words(entry, place(index)))
            name = stripped[-1][0]
            if name in first_of:
                raise UserError(
                    f"{place(index)}: a class called '{name}' is already there "
                    f"({place(first_of[name])}); put their words on one line or rename one"
                )
            first_of[name] = index
        return cls(tuple(first_of), tuple(stripped))


def _as_class(words: Sequence[str], place: str) -> Sequence[str]:
    """The words of a class of a Python list, without quotes around a name such as ``"void"``.

    Raises:
        UserError: it is a name for pixels that are not evaluated.
    """
    if not isinstance(words, Sequence) or len(words) != 1 or not isinstance(words[0], str):
        return words
    entry, bare = Entry(tuple(words), place), words[0].strip().strip('"')
    if entry.is_ignored:
        raise UserError(
            f"{place} is '{words[0]}', which stands for pixels that are not evaluated, and every "
            f"pixel of an image becomes one of the classes: leave it out{_as_a_class(words[0])}"
        )
    return [bare] if replace(entry, words=(bare,)).is_ignored else words


def _names_background(words: Sequence[str]) -> bool:
    """Whether one of the words is ``background``."""
    return any(word.strip().strip("_").casefold() == BACKGROUND for word in words)


def _one_class(words: Sequence[str]) -> str:
    """The only class, and how its words are written as classes."""
    if len(words) == 1:
        return f"'{words[0]}'"
    several = "; ".join(words[:3]) + ("; ..." if words[3:] else "")
    return f"'{words[0]}': for {len(words)} classes write '{several}'"


def _as_a_class(name: str) -> str:
    """How to have a word as a class that stands for "not evaluated"."""
    return "" if name.startswith("__") else f' (as a class, write "{name}" in double quotes)'


def _class_words(entry: Sequence[str], place: str) -> tuple[str, ...]:
    """The words of one class, stripped; at least one, none of them empty."""
    if not isinstance(entry, Sequence) or not all(isinstance(word, str) for word in entry):
        raise UserError(f"{place}: expected a word or a list of words, found {entry!r}")
    words = tuple(word.strip() for word in entry)
    if not words or not all(word.strip(",") for word in words) or words[-1].endswith(","):
        raise UserError(
            f"{place}: empty word in '{SEPARATOR.join(entry)}'; "
            f"write the words of a class as 'grass{SEPARATOR}lawn'"
        )
    return words
