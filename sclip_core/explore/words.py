"""Words as they are typed: classes of them, and their vectors, of which most are there already."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.datasets import Vocabulary
from sclip_core.encoder import TextBank
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.encoder.words import check_words, shown
from sclip_core.explore.desk import Task
from sclip_core.explore.features import FeatureSource
from sclip_core.explore.gallery import Collection
from sclip_core.explore.kept import Kept
from sclip_core.pipeline.stages.known_words import KnownWords
from sclip_core.pipeline.stages.text_bank import TextBankStage

BETWEEN_CLASSES, BETWEEN_WORDS = "; ", ", "
MOST_CLASSES, MOST_WORDS = 1024, 4096
LONGEST = 200  # characters of a word
VECTORS = 2**26  # bytes of vectors that are kept
LISTS = 256  # lists of words whose notes are kept


@dataclass(frozen=True)
class Words:
    """A list of words as it was read.

    Attributes:
        vocabulary: the classes; of the collection where the list is that of its own.
        own: whether it is.
        notes: what is to be known of how it was read, a line each.
    """

    vocabulary: Vocabulary
    own: bool
    notes: tuple[str, ...] = ()


def text_of(vocabulary: Vocabulary) -> str:
    """A vocabulary as it is typed: ``cat, kitten; grass``."""
    return BETWEEN_CLASSES.join(BETWEEN_WORDS.join(words) for words in vocabulary.words)


def parsed(text: str) -> Words:
    """The classes of a typed list: by ``;`` or lines, the words of one by ``,``.

    It may be typed only half: what is empty counts for nothing, and a class or a word that is there
    twice counts once.

    Raises:
        UserError: no word at all, or too many.

    >>> parsed("cat, kitten; grass; ").vocabulary.words
    (('cat', 'kitten'), ('grass',))
    """
    classes: dict[str, tuple[str, ...]] = {}
    twice: list[str] = []
    for part in re.split(r"[;\n]", text):
        words = tuple(dict.fromkeys(" ".join(word.split()) for word in part.split(",")))
        words = tuple(word for word in words if word)
        if not words:
            continue
        twice += [shown(words[0])] if words[0] in classes else []
        classes.setdefault(words[0], words)
    if not classes:
        raise UserError("no words yet: type classes, such as: cat, kitten; grass")
    count = sum(map(len, classes.values()))
    if len(classes) > MOST_CLASSES or count > MOST_WORDS:
        raise UserError(
            f"{len(classes):,} classes of {count:,} words: expected at most {MOST_CLASSES:,} "
            f"classes and {MOST_WORDS:,} words"
        )
    longest = max((word for words in classes.values() for word in words), key=len)
    if len(longest) > LONGEST:
        raise UserError(f"a word has {len(longest):,} characters: expected at most {LONGEST}")
    notes = (f"a class twice, of which the first counts: {few(twice)}",) if twice else ()
    return Words(Vocabulary(tuple(classes), tuple(classes.values())), False, notes)


def words_of(text: str | None, collection: Collection) -> Words:
    """The words of a view; None: those of the collection.

    Raises:
        UserError: there are none.
    """
    own = collection.vocabulary
    if text is None:
        if own is None:
            raise UserError("no words yet: type classes, such as: cat, kitten; grass")
        return Words(own, True)
    found = parsed(text)
    if own is not None and found.vocabulary.words == parsed(text_of(own)).vocabulary.words:
        return Words(own, True)
    return found


class WordBank:
    """Vectors of words, by model and templates: kept, stored by a run, or encoded now."""

    def __init__(self, source: FeatureSource) -> None:
        """Encode nothing.

        Args:
            source: has the models.
        """
        self._source = source
        self._vectors: Kept[Tensor] = Kept(VECTORS)
        self._notes: Kept[tuple[str, ...]] = Kept(LISTS)
        self._stored: dict[Any, KnownWords] = {}
        self._tokenizers: dict[Any, Any] = {}

    def bank(
        self, collection: Collection, vocabulary: Vocabulary, templates: str, task: Task
    ) -> TextBank:
        """The bank of a vocabulary, on the device of the model.

        Args:
            collection: whose model it is.
            vocabulary: the words.
            templates: the set that each word is put into.
            task: is told how far it is; asked between two words.

        Raises:
            UserError: a word's vector is not finite, or the model cannot be loaded.
        """
        words = list(dict.fromkeys(vocabulary.queries))
        vectors: dict[str, Tensor] = {}
        missing: list[str] = []
        for word in words:
            found = self._known(collection, templates, word)
            if found is None:
                missing.append(word)
            else:
                vectors[word] = found
        model = self._model(collection)
        for number, word in enumerate(missing):
            clip = self._source.clip(collection, task)
            task.progress(number, len(missing), "reading words")
            vector = clip.encode_word(word, templates).float().cpu()
            vectors[word] = self._vectors.put((model, templates, word), vector, vector.nbytes)
        return TextBank(
            embeddings=torch.stack([vectors[word] for word in vocabulary.queries]),
            query_class=torch.tensor(vocabulary.query_class),
            class_names=vocabulary.class_names,
            queries=vocabulary.queries,
        ).to(self._source.models(collection).device)

    def notes(self, collection: Collection, vocabulary: Vocabulary, templates: str) -> list[str]:
        """What is to be known of words for the model, a line each.

        What ``sclip run`` refuses, such as two classes that the model cannot tell apart, is a line
        too: the list may be typed only half.
        """
        spec = self._source.models(collection).spec
        model = self._model(collection)
        key = model, templates, vocabulary.words, vocabulary.distractors
        known = self._notes.get(key)
        if known is not None:
            return list(known)
        if model not in self._tokenizers:
            self._tokenizers[model] = load_tokenizer(spec)
        classes = [*vocabulary.named_words, *((w, (w,)) for w in vocabulary.distractors)]
        try:
            found = check_words(self._tokenizers[model], classes, [templates], Path(spec.weights))
        except UserError as error:
            found = [str(error)]
        return list(self._notes.put(key, tuple(found), 1))

    def _model(self, collection: Collection) -> tuple[str, ...]:
        """What decides vectors beside words and templates: one file may serve two architectures."""
        models = self._source.models(collection)
        spec = models.spec
        return (
            spec.name,
            str(spec.pretrained),
            models.weights_sha256,
            models.dtype,
            str(models.device),
        )

    def _known(self, collection: Collection, templates: str, word: str) -> Tensor | None:
        """The vector (D,) of a word that is kept or stored; None: it has to be encoded."""
        model = self._model(collection)
        found = self._vectors.get((model, templates, word))
        if found is not None:
            return found
        place = collection.settings.artifacts, model, templates
        if place not in self._stored:
            self._stored[place] = self._look(collection, templates)
        stored = self._stored[place].vector(word)
        if stored is None:
            return None
        vector = torch.from_numpy(np.array(stored[0], np.float32))
        return self._vectors.put((model, templates, word), vector, vector.nbytes)

    def _look(self, collection: Collection, templates: str) -> KnownWords:
        """The words that text banks of the same model and templates have stored."""
        settings = collection.settings.replace(templates=templates)
        stage = TextBankStage(self._source.pipeline(collection, settings).run)
        identity = stage.artifact.identity
        no_words = replace(identity, settings={**identity.settings, "words": []})
        return KnownWords(stage.run.root, no_words, stage.run.models.spec.width)
