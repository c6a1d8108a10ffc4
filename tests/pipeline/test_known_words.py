"""A word that some list of the store has is not encoded again with the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import resolve
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that the text tower gets."""
    words: list[str] = []
    real = CLIP.encode_word

    def counted(self, word, templates="openai"):
        words.append(word)
        return real(self, word, templates)

    monkeypatch.setattr(CLIP, "encode_word", counted)
    return words


def bank(artifacts: Path, voc: Path, words: str, **settings):
    """The text bank of a run over the four pictures with these words, computed."""
    images = voc / "JPEGImages"
    given = {"images": images, "classes": words, "artifacts": artifacts, **TINY, **settings}
    made = Pipeline.of(Run(resolve(**given)))
    made.text_bank.execute()
    return made.text_bank


def test_only_new_words_are_encoded(tmp_path, voc, encoded):
    bank(tmp_path, voc, "cat; dog, puppy")
    assert encoded == ["cat", "dog", "puppy"]
    encoded.clear()
    second = bank(tmp_path, voc, "puppy; tree; cat")
    assert encoded == ["tree"]
    alone = bank(tmp_path / "apart", voc, "puppy; tree; cat")
    np.testing.assert_array_equal(second.bank().embeddings, alone.bank().embeddings)
    encoded.clear()
    bank(tmp_path, voc, "tree; dog")
    assert encoded == []


@pytest.mark.parametrize("other", [{"method": "gem"}, {"force": "text_bank"}])
def test_other_templates_and_force_encode(tmp_path, voc, encoded, other):
    bank(tmp_path, voc, "cat; dog")
    encoded.clear()
    bank(tmp_path, voc, "cat; tree", **other)
    assert encoded == ["cat", "tree"]


def test_a_damaged_list_is_not_read(tmp_path, voc, encoded):
    first = bank(tmp_path, voc, "cat; dog")
    for chunk in first.artifact.path.glob("segments/*.zarr/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"\0" * chunk.stat().st_size)
    encoded.clear()
    bank(tmp_path, voc, "cat; tree")
    assert encoded == ["cat", "tree"]


def test_a_manifest_that_was_edited_is_not_believed(tmp_path, voc, encoded):
    first = bank(tmp_path, voc, "cat; dog")
    manifest = first.artifact.path / "manifest.json"
    content = json.loads(manifest.read_text())
    content["settings"]["words"] = ["tree", "dog"]
    manifest.write_text(json.dumps(content))
    encoded.clear()
    bank(tmp_path, voc, "tree; cat")
    assert encoded == ["tree", "cat"]
