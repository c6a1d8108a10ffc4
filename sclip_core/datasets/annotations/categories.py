"""The classes of the categories of annotations, matched by name, or else by number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from unicodedata import normalize

from sclip_core.config import UserError, unknown
from sclip_core.config.errors import few
from sclip_core.datasets.vocabulary import BACKGROUND, Vocabulary

Category = str | int  # its name, or its number if the format has no names
NOT_EVALUATED = -2  # class of a pixel that may be of any class
NOTHING = -1  # class of a pixel on which there is no object
# Plain names of categories that stand for no class, where no class has such a word: LabelMe's own
# ``__ignore__`` and ``_background_``, and what other tools call the same.
SPECIAL = {
    **dict.fromkeys(("ignore", "ignored", "void", "unlabeled", "unlabelled"), NOT_EVALUATED),
    **dict.fromkeys(("don't care", "dontcare", "dont care"), NOT_EVALUATED),
    BACKGROUND: NOTHING,
}


def plain(name: str) -> str:
    """A name as it is compared: ``traffic light`` for ``Traffic_light``."""
    return " ".join(normalize("NFC", name).replace("_", " ").replace("-", " ").casefold().split())


def has_background(vocabulary: Vocabulary) -> bool:
    """Whether class 0 is the background, which no annotation covers."""
    return vocabulary.has_background or BACKGROUND in map(plain, vocabulary.words[0])


def match(used: Collection[Category], vocabulary: Vocabulary, source: str) -> dict[Category, int]:
    """The class of each category, as the value that label maps have for it.

    A category's name is that of a class or any of its words, regardless of case and of ``_``,
    ``-`` or space between words; the name of a class goes before a word of another class. Number k
    is class k, line k+1 of the vocabulary. A category without a class may be called ``ignore`` or
    ``void``, which is `NOT_EVALUATED`, or ``background``, which is `NOTHING`.

    Args:
        used: the categories that the annotations use.
        vocabulary: the classes.
        source: what to call the annotations in an error, e.g. their path.

    Raises:
        UserError: a category has no class or two, or it has a number and the vocabulary a
            background, which formats without names do not number.
    """
    numbers = [category for category in used if isinstance(category, int)]
    if numbers:
        _refuse_numbers(numbers, vocabulary, source)
    names = sorted(category for category in used if isinstance(category, str))
    tables = _classes_by(((name,) for name in vocabulary.class_names), vocabulary.words)
    found: dict[Category, int] = {number: number for number in numbers}
    ignored = {plain(name): number for number, name in vocabulary.ignored}
    for name in names:
        classes = next((table[plain(name)] for table in tables if plain(name) in table), set())
        if len(classes) > 1:
            several = " and ".join(repr(vocabulary.class_names[k]) for k in sorted(classes))
            raise UserError(f"category '{name}' of {source} is a word of {several}: rename it")
        if classes:
            (index,) = classes
            found[name] = vocabulary.numbers[index]
        elif plain(name) in ignored:
            found[name] = ignored[plain(name)]
        elif plain(name) in SPECIAL:
            found[name] = SPECIAL[plain(name)]
    missing = [name for name in names if name not in found]
    if missing:
        raise _without_class(missing, set(tables[0]) | set(tables[1]), source)
    return found


def special(classes_of: Mapping[Category, int]) -> tuple[str, ...]:
    """The note on categories that stand for no class, if there are any."""
    ignored = [str(name) for name, label in classes_of.items() if label == NOT_EVALUATED]
    nothing = [str(name) for name, label in classes_of.items() if label == NOTHING]
    parts = [f"{few(ignored)}: its pixels are not evaluated"] if ignored else []
    parts += [f"{few(nothing)}: its pixels count as without annotation"] if nothing else []
    line = f"categories that are no class of the vocabulary: {'; '.join(parts)}"
    return (line,) if parts else ()


def _classes_by(*levels: Iterable[Collection[str]]) -> list[dict[str, set[int]]]:
    """For each level, the classes of each plain word, of which there may be several."""
    tables: list[dict[str, set[int]]] = []
    for level in levels:
        table = defaultdict(set)
        for index, words in enumerate(level):
            for word in words:
                table[plain(word)].add(index)
        tables.append(dict(table))
    return tables


def _without_class(missing: list[str], known: set[str], source: str) -> UserError:
    """The error for categories that the vocabulary lacks."""
    line = f"{source}: {unknown('category', missing[0], known)}"
    if missing[1:]:
        line += f" In all {len(missing)} have no class: {few(missing, 5)}."
    return UserError(f"{line} Add each name to the line of its class in --classes FILE")


def _refuse_numbers(numbers: Iterable[int], vocabulary: Vocabulary, source: str) -> None:
    """Raise if the numbers of categories cannot be those of the vocabulary's classes."""
    advice = "write the names of its categories, one a line, in a classes.txt beside the files"
    if has_background(vocabulary):
        raise UserError(
            f"{source} has numbers without names, and the vocabulary a background, which has no "
            f"number there: {advice}"
        )
    known = {*vocabulary.numbers, *(number for number, _ in vocabulary.ignored)}
    worst = max(numbers, key=lambda number: (number not in known, number))
    if worst not in known:
        raise UserError(
            f"{source} has category number {worst}, counted from 0, but the vocabulary "
            f"{vocabulary.num_classes} classes: give each a line in --classes FILE, or {advice}"
        )
