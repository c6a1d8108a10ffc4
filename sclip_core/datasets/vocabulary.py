"""Vocabularies: the classes of a dataset and the words that stand for each in CLIP's queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sclip_core.config import UserError, tables, unknown
from sclip_core.config.errors import few

BUILT_IN = Path(__file__).with_name("vocabularies")
BACKGROUND = "background"
SEPARATOR = ", "
MOST_CLASSES = 1 << 16  # of label maps in 16 bits


@dataclass(frozen=True)
class Vocabulary:
    """Classes in label order, each with one or more words, which are the queries.

    Attributes:
        class_names: one name a class, all different.
        words: the words of each class, in the same order.

    >>> pets = Vocabulary.from_classes(["cat, kitten", "grass"])
    >>> pets.queries, pets.query_class, pets.class_names
    (('cat', 'kitten', 'grass'), (0, 0, 1), ('cat', 'grass'))
    """

    class_names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        """One line: how many classes and words, the first names."""
        counts = f"{self.num_classes} classes, {len(self.queries)} words"
        return f"Vocabulary({counts}: {few(self.class_names)})"

    @property
    def queries(self) -> tuple[str, ...]:
        """All words (Q,), class after class."""
        return tuple(word for words in self.words for word in words)

    @property
    def query_class(self) -> tuple[int, ...]:
        """The class (Q,) of each query, counted from 0."""
        return tuple(index for index, words in enumerate(self.words) for _ in words)

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
        """Read a text file with one class a line, its words separated by ``", "``.

        The first word is the name of the class. Line k is label k-1, so that blank lines are
        allowed only at the end.

        Raises:
            UserError: the file cannot be read, is not UTF-8 or is empty; it has a blank line, an
                empty word, or two classes of the same name.
        """
        lines = _read_text(Path(path)).rstrip().split("\n")
        if lines == [""]:
            raise UserError(f"{path} is empty: expected one class a line, e.g. 'grass, lawn'")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise UserError(
                    f"{path}, line {number} is blank: line k names the class of label k-1, "
                    "so remove it or write the class that is missing"
                )
        words = [line.split(SEPARATOR) for line in lines]
        return cls._checked(words, lambda index: f"{path}, line {index + 1}")

    @classmethod
    def from_classes(cls, classes: Sequence[str] | Sequence[Sequence[str]] | Vocabulary) -> Self:
        """From a list, in which ``"grass, lawn"`` or ``["grass", "lawn"]`` is one class.

        Raises:
            UserError: it is not such a list or is empty, or it has an empty word or two classes of
                the same name.
        """
        if isinstance(classes, Vocabulary):
            return cls(classes.class_names, classes.words)
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            raise UserError(
                f"classes: expected a list such as ['cat', 'grass, lawn'], found {classes!r}"
            )
        if not classes:
            raise UserError("classes: the list is empty; give at least one class")
        words = [entry.split(SEPARATOR) if isinstance(entry, str) else entry for entry in classes]
        return cls._checked(words, lambda index: f"classes[{index}]")

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


def _read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark, any line ends as newlines."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no vocabulary file at {path}: expected one class a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save the vocabulary as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from None
