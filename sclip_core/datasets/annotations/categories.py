"""The classes that the categories of annotations mean: by name, or by number without names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from sclip_core.config import UserError, unknown
from sclip_core.config.errors import few
from sclip_core.datasets.vocabulary import BACKGROUND, Vocabulary

Category = str | int  # by its name; by its number where the format has no names


def plain(name: str) -> str:
    """A name as it is compared: ``Traffic_light`` is ``traffic light``."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def has_background(vocabulary: Vocabulary) -> bool:
    """Whether class 0 is what no annotation covers."""
    return vocabulary.has_background or BACKGROUND in map(plain, vocabulary.words[0])


def match(used: Collection[Category], vocabulary: Vocabulary, source: str) -> dict[Category, int]:
    """The class of each category.

    A name is that of a class or any of its words; upper and lower case are the same, and so are
    ``_``, ``-`` and a space. The name of one class goes before a word of another. Number k is
    class k, the vocabulary's line k+1.

    Args:
        used: the categories that the annotations use.
        vocabulary: with the classes.
        source: what to call the annotations in an error, e.g. their path.

    Raises:
        UserError: categories without a class, a name of two classes, or numbers and a vocabulary
            with a background, which formats without names do not count.
    """
    numbers = [category for category in used if isinstance(category, int)]
    if numbers:
        _refuse_numbers(numbers, vocabulary, source)
    names = sorted(category for category in used if isinstance(category, str))
    tables = _classes_by(((name,) for name in vocabulary.class_names), vocabulary.words)
    found: dict[Category, int] = {number: number for number in numbers}
    for name in names:
        classes = next((table[plain(name)] for table in tables if plain(name) in table), set())
        if len(classes) > 1:
            several = " and ".join(repr(vocabulary.class_names[k]) for k in sorted(classes))
            raise UserError(f"category '{name}' of {source} is a word of {several}: rename it")
        if classes:
            (found[name],) = classes
    missing = [name for name in names if name not in found]
    if missing:
        raise _without_class(missing, set(tables[0]) | set(tables[1]), source)
    return found


def _classes_by(*levels: Iterable[Collection[str]]) -> list[dict[str, set[int]]]:
    """For each level, the classes (several where a word is theirs all) of each plain word."""
    tables: list[dict[str, set[int]]] = []
    for level in levels:
        table = defaultdict(set)
        for index, words in enumerate(level):
            for word in words:
                table[plain(word)].add(index)
        tables.append(dict(table))
    return tables


def _without_class(missing: list[str], known: set[str], source: str) -> UserError:
    """The error for names that the vocabulary lacks."""
    line = f"{source}: {unknown('category', missing[0], known)}"
    if missing[1:]:
        line += f" In all {len(missing)} have no class: {few(missing, 5)}."
    return UserError(f"{line} --classes FILE has a line for each: add the name to the class's line")


def _refuse_numbers(numbers: Iterable[int], vocabulary: Vocabulary, source: str) -> None:
    """Raise where numbers of categories cannot be those of the vocabulary's classes."""
    advice = "write the names of its categories, one a line, in a classes.txt beside the files"
    if has_background(vocabulary):
        raise UserError(
            f"{source} has numbers and no names, and the vocabulary a background, which is none "
            f"of them: {advice}"
        )
    worst = max(numbers)
    if worst >= vocabulary.num_classes:
        raise UserError(
            f"{source} has category number {worst}, counted from 0, but the vocabulary "
            f"{vocabulary.num_classes} classes: --classes FILE has a line for each; or {advice}"
        )
