"""Stage ``text_bank``: words to vectors, one row a word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.encoder import TextBank
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.encoder.text import TEMPLATES
from sclip_core.encoder.words import check_words
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.known_words import KnownWords
from sclip_core.store.arrays import ArrayTable, DamagedRow, NewRow, RowGone
from sclip_core.store.ledger import Row
from sclip_core.store.tables import array_table


class TextBankStage(SharingStage):
    """The vectors of the vocabulary's words, fp32."""

    name = "text_bank"
    version = 1
    unit = "words"
    batch_rows = 64
    _said = False

    def settings(self) -> dict[str, Any]:
        """Text tower, templates, words."""
        config = self.run.models.spec.config
        templates = "\n".join(
            template("{}") for template in TEMPLATES[self.run.settings.template_set]
        )
        return {
            "embed_dim": config["embed_dim"],
            "text_cfg": config["text_cfg"],
            "quick_gelu": bool(config.get("quick_gelu")),
            "templates": hashlib.sha256(templates.encode()).hexdigest()[:16],
            "words": list(self.run.inputs.dataset.vocabulary.queries),
        }

    def pass_settings(self) -> dict[str, Any]:
        """All but the words: a word of several lists is encoded once."""
        return {name: value for name, value in self.settings().items() if name != "words"}

    def weights_sha256(self) -> str:
        """The digest of CLIP's weights."""
        return self.run.models.weights_sha256

    def needed_for(self, image_ids: Sequence[str]) -> Sequence[str]:
        """All words, whatever the images."""
        return self.wanted()

    def wanted(self) -> Sequence[str]:
        """The words of the vocabulary, without repetitions."""
        return list(dict.fromkeys(self.run.inputs.dataset.vocabulary.queries))

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode words, each in all templates, but for those that any list has already."""
        kept = [_kept_rows(stage, self.forced) for stage in self.together]
        asking = {other: lacking & {*other.wanted()} for other, lacking in others.items()}
        encode: Callable[[str], NDArray[np.float32]] | None = None
        known = None if self.forced else self.known_words()
        for word in ids:
            vector = _kept(word, kept)
            if vector is None and known is not None:
                vector = known.vector(word)
            if vector is None:
                encode = encode or self._encoded(shard)  # loads the model
                vector = encode(word)
            row = NewRow(word, vector)
            yield self, [row]
            for other in (stage for stage, lacking in asking.items() if word in lacking):
                yield other, [row]

    def known_words(self) -> KnownWords:
        """The words of all lists in the store that the same tower has encoded."""
        return KnownWords(self.run.root, self.artifact.identity, self.run.models.spec.width)

    def _encoded(self, shard: int) -> Callable[[str], NDArray[np.float32]]:
        """What encodes a word, (1, D)."""
        clip, templates = self.run.models.clip(shard), self.run.settings.template_set
        with self.run.lock:
            self._say_of_hub()
        return lambda word: clip.encode_word(word, templates).float().cpu().numpy()[None]

    def _say_of_hub(self) -> None:
        """Say, the first time, what is to be known of the words of a tokenizer of the hub."""
        if self._said or _has_own_tokenizer(self):
            return
        self._said = True
        for line in _checked([self]):
            self.run.reporter.note(line)

    @cached_property
    def table(self) -> ArrayTable:
        """One row of D floats a word."""
        return array_table(self.artifact, "float32", self.run.models.spec.width, compress=False)

    def bank(self) -> TextBank:
        """The bank of the run's vocabulary, on the CPU."""
        vocabulary, rows = self.run.inputs.dataset.vocabulary, self.rows()
        words = self.wanted()
        read = self.table.read_many(self.row(word, rows) for word in words)
        vectors = dict(zip(words, read, strict=True))
        return TextBank(
            embeddings=torch.from_numpy(np.concatenate([vectors[w] for w in vocabulary.queries])),
            query_class=torch.tensor(vocabulary.query_class),
            class_names=vocabulary.class_names,
            queries=vocabulary.queries,
        )


def _kept_rows(stage: Stage, forced: bool) -> tuple[Stage, Mapping[str, Row]]:
    """The words that another list has; where all are made anew, those that were so already."""
    rows = stage.rows()
    return stage, {w: rows[w] for w in stage.fresh if w in rows} if forced else rows


def _kept(
    word: str, stages: Iterable[tuple[Stage, Mapping[str, Row]]]
) -> NDArray[np.float32] | None:
    """The vector of a word that another list has; None: none has."""
    for stage, rows in stages:
        if word in rows:
            with suppress(DamagedRow, RowGone):
                table: Any = stage.table
                vector: NDArray[np.float32] = table.read(rows[word])
                return vector
    return None


def word_notes(stages: Sequence[TextBankStage]) -> list[str]:
    """What a user should know of the words of a command's runs, a line each.

    A tokenizer of the hub, which may have to be fetched, is asked when words are encoded.

    Raises:
        UserError: a word that the model cannot read, or two classes that it cannot tell apart.
    """
    return _checked(stages) if _has_own_tokenizer(stages[0]) else []


def _has_own_tokenizer(stage: TextBankStage) -> bool:
    """Whether the model has CLIP's own tokenizer, which comes with open_clip."""
    return not stage.run.models.spec.config["text_cfg"].get("hf_tokenizer_name")


def _checked(stages: Sequence[TextBankStage]) -> list[str]:
    run = stages[0].run
    vocabulary = run.inputs.dataset.vocabulary
    classes = [*vocabulary.named_words, *((word, (word,)) for word in vocabulary.distractors)]
    templates = dict.fromkeys(stage.run.settings.template_set for stage in stages)
    spec = run.models.spec
    return check_words(load_tokenizer(spec), classes, templates, Path(spec.weights))
