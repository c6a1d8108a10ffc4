"""What a tokenizer makes of words: those that CLIP cannot read, or not tell apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.encoder.text import TEMPLATES
from sclip_core.encoder.zoo import is_simple

TABLE = "token_embedding.weight"
LONGEST = 40  # characters of a word that are shown
SPECIAL = 2  # tokens around a prompt: where it begins and ends
Words = Sequence[tuple[str, Sequence[str]]]  # of each class its name and its words


def check_words(
    tokenizer: Any,
    classes: Words,
    templates: Iterable[str] = ("openai",),
    weights: Path | None = None,
) -> list[str]:
    """Look at words as the text tower gets them.

    Args:
        tokenizer: of an open_clip model.
        classes: of each class its name and its words, in label order.
        templates: names in ``TEMPLATES`` that the words are put into.
        weights: the model's file; the tokens that it has no vector for are looked up in one of
            safetensors.

    Returns:
        What a user should know, a line each: words that two classes share, of which the first
        class gets all pixels; words whose prompts are cut; words in letters that an English
        tokenizer takes apart; words that the model was never trained with.

    Raises:
        UserError: a word has no token, or more than a prompt may have; or two classes have the
            same words after the tokenizer's clean-up of case, spaces and odd characters, or none
            that the model was trained with.
    """
    tokens = {word: tuple(token_ids(tokenizer, word)) for _, words in classes for word in words}
    room = tokenizer.context_length - SPECIAL
    for name, words in classes:
        for word in words:
            _refuse_unreadable(name, word, tokens[word], _unknown_id(tokenizer), room)
    notes = _shared(classes, tokens) + _untrained(classes, tokens, weights)
    longest = max(
        len(token_ids(tokenizer, template("x"))) - 1
        for named in templates
        for template in TEMPLATES[named]
    )
    cut = [shown(word) for word, ids in tokens.items() if len(ids) + longest > room]
    if cut:
        notes.append(
            f"prompts of {few(cut)} are cut: with the longest template they have more than the "
            f"{room} tokens that the model reads"
        )
    foreign = [shown(word) for word in tokens if _is_foreign(word)]
    if foreign and is_simple(tokenizer):
        notes.append(
            f"{few(foreign)}: no Latin letters, which this model's English tokenizer takes apart "
            "byte by byte: expect no sense of them, and write English words"
        )
    return notes


def _untrained(
    classes: Words, tokens: Mapping[str, Sequence[int]], weights: Path | None
) -> list[str]:
    """A line on words whose tokens all have the vector 0.

    A model of a small world, such as the demo's, has it for tokens that no caption had: all such
    words are the same to it.

    Raises:
        UserError: no class has other words.
    """
    empty = _without_vector({i for ids in tokens.values() for i in ids}, weights)
    unseen = {word for word, ids in tokens.items() if empty >= set(ids)}
    lost = [shown(name) for name, words in classes if unseen >= set(words)]
    if len(lost) > 1:
        line = (
            f"classes {few(lost, 5)}: this model was trained with none of their words, so they are "
            "all the same to it; take other words or another model"
        )
        if len(lost) == len(classes):
            raise UserError(line)
        return [line]
    if not unseen:
        return []
    names = few([shown(word) for word in tokens if word in unseen], 5)
    what = "are all the same" if len(unseen) > 1 else "means nothing"
    return [f"this model was not trained with {names}, which {what} to it"]


def _without_vector(ids: Set[int], weights: Path | None) -> Set[int]:
    """Those of the tokens that have the vector 0 in a file of safetensors."""
    if weights is None or weights.suffix != ".safetensors":
        return set()
    with suppress(OSError, SafetensorError), safe_open(weights, "pt") as file:
        names = file.keys()
        name = next((name for name in names if name.endswith(TABLE)), None)
        table = file.get_slice(name) if name else None
        if table is not None and table.get_shape()[0] > max(ids):
            return {i for i in ids if not table[i : i + 1].any()}
    return set()


def token_ids(tokenizer: Any, text: str) -> Sequence[int]:
    """The tokens of a text, all of them, without those that mark where it begins and ends."""
    if is_simple(tokenizer):
        found: Sequence[int] = tokenizer.encode(text)
        return found
    cleaned = tokenizer.clean_fn(text)
    of_hub: Sequence[int] = tokenizer.tokenizer(cleaned, add_special_tokens=False).input_ids
    return of_hub


def _unknown_id(tokenizer: Any) -> int | None:
    """The token that stands for what the tokenizer does not know, if it has one."""
    found = getattr(getattr(tokenizer, "tokenizer", None), "unk_token_id", None)
    return found if isinstance(found, int) else None


def _refuse_unreadable(
    name: str, word: str, ids: Sequence[int], unknown: int | None, room: int
) -> None:
    """Raise if the model cannot read a word, or only the beginning of it."""
    place = f"class {shown(name)}: the word {shown(word)}"
    if not ids or set(ids) == {unknown}:
        raise UserError(f"{place} has nothing that the model's tokenizer knows: write another word")
    if len(ids) > room:
        raise UserError(
            f"{place} has {len(ids)} tokens, and the model reads {room}: the rest would be cut off "
            "without a trace, so shorten it"
        )


def _shared(classes: Words, tokens: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A line on the words of several classes.

    Raises:
        UserError: two classes have no word that tells them apart.
    """
    first: dict[tuple[int, ...], int] = {}  # the class that has these tokens
    twice: list[str] = []
    sets = [{tokens[word] for word in words} for _, words in classes]
    for index, (name, words) in enumerate(classes):
        for word in words:
            other = first.setdefault(tokens[word], index)
            if other == index:
                continue
            if sets[other] == sets[index]:
                raise UserError(
                    f"classes {shown(classes[other][0])} and {shown(name)} have the same words to "
                    "the model, which does not see case, spaces or odd characters: every pixel of "
                    "either would become the first; make them one class, or give each a word of "
                    "its own"
                )
            dead = sets[index] <= first.keys() and all(first[t] < index for t in sets[index])
            lost = f", so that no pixel becomes {shown(name)}" if dead else ""
            twice.append(f"{shown(word)} of {shown(classes[other][0])} and {shown(name)}{lost}")
    if not twice:
        return []
    return [f"words of two classes, of which the first gets the pixels: {few(twice, 5)}"]


def shown(word: str) -> str:
    """A word in quotes, shortened where it is long."""
    return f"'{word if len(word) <= LONGEST else word[: LONGEST - 3] + '...'}'"


def _is_foreign(word: str) -> bool:
    """Whether a word has letters and none of them is Latin."""
    letters = [character for character in word if character.isalpha()]
    return bool(letters) and not any("LATIN" in unicodedata.name(c, "") for c in letters)
