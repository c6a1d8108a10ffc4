"""Other words for the same classes, for an audit: what each list is, is written down here.

Nothing is drawn by a generator of random numbers, whose numbers another version may change: words
are chosen by the digest of the seed and of what they are chosen for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.datasets.vocabulary import BACKGROUND, BUILT_IN, SEPARATOR, Vocabulary

DRAWS = 3  # where nobody says how many
DRAWN = "scenes"  # a list of drawn scenes, which is no benchmark of photographs
Kind = Literal["own", "plain", "draw", "all", "vocabulary", "distractors"]
NAMES = re.compile(r"own|plain|all|draw-\d+|open|closed")  # of the lists that every audit has


@dataclass(frozen=True)
class AuditedList:
    """One of the lists of an audit.

    Attributes:
        name: ``own``, ``plain``, ``draw-1``, ``all``, ``open``, ``closed``, or a user's.
        kind: what it is.
        vocabulary: the dataset's classes with the list's words.
    """

    name: str
    kind: Kind
    vocabulary: Vocabulary


def audited_lists(
    own: Vocabulary,
    dataset: str,
    vocabularies: Mapping[str, str | Path],
    draws: int | None = None,
    distractors: int = 0,
    seed: int = 0,
) -> list[AuditedList]:
    """The lists of an audit, the dataset's own first.

    Args:
        own: the dataset's classes and words.
        dataset: its name: the list of the same name is not asked for other words.
        vocabularies: files of words for the same classes, by the names of their lists.
        draws: how many lists have a word drawn of each class; None: three where there are synonyms.
        distractors: how many words of other benchmarks stand beside the classes; 0: none.
        seed: of the draws and of the distractors.

    Raises:
        UserError: a name that is taken, a file that does not fit the classes, nothing to draw from,
            or more distractors than there are words.
    """
    if draws and all(len(words) == 1 for words in own.words):
        raise UserError(
            f"--draws {draws}: every class of {dataset} has one word, so there is no synonym to "
            "draw: pass --draws 0"
        )
    if draws is None:
        draws = DRAWS if any(len(words) > 1 for words in own.words) else 0
    lists = [AuditedList("own", "own", own), AuditedList("plain", "plain", plain(own))]
    lists += [AuditedList(f"draw-{k}", "draw", drawn(own, k, seed)) for k in range(1, draws + 1)]
    lists.append(AuditedList("all", "all", all_words(own, dataset)))
    for name, file in vocabularies.items():
        if NAMES.fullmatch(name):
            raise UserError(f"--vocabulary {name}={file}: every audit has a list {name}: rename it")
        lists.append(AuditedList(name, "vocabulary", of_file(own, dataset, file)))
    if distractors:
        words = distracting(own, dataset, distractors, seed)
        for closed, name in ((False, "open"), (True, "closed")):
            among = replace(own, distractors=words, closed=closed)
            lists.append(AuditedList(name, "distractors", among))
    return lists


def named_files(given: Iterable[str]) -> dict[str, str]:
    """Files by the names of their lists, of what a command was given: ``NAME=FILE``.

    Raises:
        UserError: no name, no file, or a name twice.
    """
    files: dict[str, str] = {}
    for one in given:
        name, mark, file = one.partition("=")
        name, file = name.strip(), file.strip()
        if not mark or not name or not file:
            raise UserError(f"--vocabulary {one}: expected NAME=FILE, such as clip=words.txt")
        if name in files:
            raise UserError(
                f"--vocabulary {one}: {name} is {files[name]} already: give each list its own name"
            )
        files[name] = file
    return files


def plain(own: Vocabulary) -> Vocabulary:
    """The first word of each class alone."""
    return replace(own, words=tuple(words[:1] for words in own.words))


def drawn(own: Vocabulary, draw: int, seed: int) -> Vocabulary:
    """One of the words of each class, each as likely as the others.

    Args:
        own: the classes.
        draw: number of the draw, from 1.
        seed: of the audit.
    """
    chosen = (
        words[_number(seed, "draw", draw, name) % len(words)] for name, words in own.named_words
    )
    return replace(own, words=tuple((word,) for word in chosen))


def all_words(own: Vocabulary, dataset: str) -> Vocabulary:
    """The own words of each class, then those of the classes of this name in other built-in lists.

    Names are compared without regard to case. The background keeps its words: what is nothing in
    particular differs by benchmark. No class gets a word that another one has.

    Args:
        own: the classes.
        dataset: its name.
    """
    taken = {_plain_word(word) for words in own.words for word in words}
    words = [list(each) for each in own.words]
    of_name = {_plain_word(name): index for index, name in enumerate(own.class_names)}
    of_name.pop(BACKGROUND, None)
    for other in _others(dataset):
        for name, more in other.named_words:
            index = of_name.get(_plain_word(name))
            for word in more if index is not None else ():
                if _plain_word(word) not in taken:
                    taken.add(_plain_word(word))
                    words[index or 0].append(word)
    return replace(own, words=tuple(map(tuple, words)))


def distracting(own: Vocabulary, dataset: str, count: int, seed: int) -> tuple[str, ...]:
    """Words of other benchmarks' lists, none of which is in the own list.

    A smaller number of them is the beginning of a larger one.

    Args:
        own: the classes.
        dataset: its name.
        count: how many.
        seed: of the audit.

    Raises:
        UserError: there are fewer.
    """
    taken = {_plain_word(word) for word in (*own.queries, *own.class_names)}
    pool: dict[str, str] = {}
    for other in _others(dataset):
        for word in other.queries:
            if _plain_word(word) not in taken:
                pool.setdefault(_plain_word(word), word)
    if count > len(pool):
        raise UserError(
            f"--distractors {count}: the other benchmarks have {len(pool)} words that are not in "
            f"the list of {dataset}: pass at most so many"
        )
    ordered = sorted(pool, key=lambda word: _number(seed, "distractor", 0, word))
    return tuple(pool[word] for word in ordered[:count])


def of_file(own: Vocabulary, dataset: str, file: str | Path) -> Vocabulary:
    """The classes with the words of a file, whose classes have the same names or the same order.

    Raises:
        UserError: it cannot be read, or its classes do not fit.
    """
    found = Vocabulary.from_file(file)
    if own.has_background and BACKGROUND not in found.class_names:
        found = found.with_background()
    if found.num_classes != own.num_classes:
        lacking = few([name for name in own.class_names if name not in found.class_names])
        raise UserError(
            f"{file} has {number_of(found.num_classes, 'class')}, but {dataset} has "
            f"{own.num_classes}: write one line for each, in the order of the labels or with the "
            f"same first words{f'; not there: {lacking}' if lacking else ''}"
        )
    places = {_plain_word(name): index for index, name in enumerate(found.class_names)}
    names = [_plain_word(name) for name in own.class_names]
    order = list(range(own.num_classes))
    if places.keys() == set(names):
        order = [places[name] for name in names]
    else:
        for index, name in enumerate(names):
            if places.get(name, index) != index:
                other = next(name for name in own.class_names if _plain_word(name) not in places)
                raise UserError(
                    f"{file}: '{own.class_names[index]}' is its class {places[name] + 1} and class "
                    f"{index + 1} of {dataset}, and '{other}' is not there: write the classes in "
                    "the order of the labels, or with the same first words"
                )
    words = tuple(found.words[index] for index in order)
    return replace(own, words=words, separator=found.separator, notes=found.notes)


def as_text(vocabulary: Vocabulary) -> str:
    """A list as a file that can be read again; distractors are lines of their own at its end."""
    lines = [SEPARATOR.join(words) for words in (*vocabulary.words, *_alone(vocabulary))]
    return "\n".join(lines) + "\n"


def as_nested(vocabulary: Vocabulary) -> list[list[str]]:
    """The same as lists, for words that no text can have as they are."""
    return [list(words) for words in (*vocabulary.words, *_alone(vocabulary))]


def _alone(vocabulary: Vocabulary) -> Sequence[tuple[str]]:
    return [(word,) for word in vocabulary.distractors]


def _others(dataset: str) -> Iterator[Vocabulary]:
    """The built-in lists of other benchmarks, by name."""
    for path in sorted(BUILT_IN.glob("*.txt")):
        if path.stem not in (dataset, DRAWN):
            yield Vocabulary.named(path.stem)


def _plain_word(word: str) -> str:
    """A word without what a tokenizer does not see either."""
    return " ".join(re.sub(r"[\W_]+", " ", word.casefold()).split())


def _number(seed: int, what: str, number: int, name: str) -> int:
    """A whole number of 256 bits that looks random, the same in every version."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{what}:{number}:{name}".encode()).digest(), "big")
