"""Stage ``text_bank``: words to vectors, one row a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sclip_core.encoder import TextBank
from sclip_core.encoder.text import TEMPLATES
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow


class TextBankStage(Stage):
    """The vectors of the vocabulary's words, fp32."""

    name = "text_bank"
    version = 1
    unit = "words"
    batch_rows = 64

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
        for word in ids:
            vector = clip.encode_word(word, templates)
            yield NewRow(word, vector.float().cpu().numpy()[None])

    @cached_property
    def table(self) -> ArrayTable:
        """One row of D floats a word."""
        return ArrayTable(self.artifact, "float32", self.run.models.spec.width, compress=False)

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
