"""Stage ``text_bank``: words to vectors, one row a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sclip_core.encoder import TextBank
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.encoder.text import TEMPLATES
from sclip_core.encoder.words import check_words
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.tables import array_table


class TextBankStage(Stage):
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

    def weights_sha256(self) -> str:
        """The digest of CLIP's weights."""
        return self.run.models.weights_sha256

    def needed_for(self, image_ids: Sequence[str]) -> Sequence[str]:
        """All words, whatever the images."""
        return self.wanted()

    def wanted(self) -> Sequence[str]:
        """The words of the vocabulary, without repetitions."""
        return list(dict.fromkeys(self.run.inputs.dataset.vocabulary.queries))

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Encode words, each in all templates."""
        clip, templates = self.run.models.clip(shard), self.run.settings.template_set
        with self.run.lock:
            self._say_of_hub()
        for word in ids:
            vector = clip.encode_word(word, templates)
            yield NewRow(word, vector.float().cpu().numpy()[None])

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
    classes = run.inputs.dataset.vocabulary.named_words
    templates = dict.fromkeys(stage.run.settings.template_set for stage in stages)
    spec = run.models.spec
    return check_words(load_tokenizer(spec), classes, templates, Path(spec.weights))
