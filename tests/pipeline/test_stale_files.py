"""A file that is another one now is never taken for the old one, and neither is its digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sclip_core.config import UserError, resolve
from sclip_core.masks.sources import Sam
from sclip_core.pipeline import models as module
from sclip_core.pipeline.run import Run

from ..conftest import GOLDEN
from .conftest import areas, computed, run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the tiny CLIP's."""
    return Path(shutil.copy(GOLDEN / "tiny_clip.safetensors", tmp_path / "w.safetensors"))


def exchange(path: Path) -> None:
    """Put other weights of the same size and time in place of a file's."""
    before = path.stat()
    others = {
        name: value * 1.5 if value.is_floating_point() else value
        for name, value in load_file(path).items()
    }
    save_file(others, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def opened(artifacts: Path, voc: Path, **settings: Any) -> Run:
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, "device": "cpu"}
    return Run(resolve(**given, model=str(GOLDEN / "tiny_clip.json"), **settings))


def test_other_weights_in_place(tmp_path, voc, weights):
    given = {"pretrained": str(weights), "num_samples": 1}
    first = run(tmp_path / "a", voc, **given)
    exchange(weights)
    second = run(tmp_path / "a", voc, **given)
    assert second.row["weights_sha256"] == sha256(weights) != first.row["weights_sha256"]
    assert "dense_features" in computed(second)
    assert areas(tmp_path / "a")
    assert second.row["miou"] == run(tmp_path / "b", voc, **given).row["miou"]


def test_weights_that_change_before_they_are_loaded(tmp_path, voc, weights):
    one = opened(tmp_path / "a", voc, pretrained=str(weights))
    before = one.models.weights_sha256
    exchange(weights)
    with pytest.raises(UserError, match=r"w\.safetensors was changed while it was in use"):
        one.models.clip()
    again = opened(tmp_path / "a", voc, pretrained=str(weights))
    assert again.models.weights_sha256 == sha256(weights) != before
    again.models.clip()


def test_weights_that_change_while_they_are_loaded(tmp_path, voc, weights, monkeypatch):
    one = opened(tmp_path / "a", voc, pretrained=str(weights))

    def load(*arguments: Any) -> Any:
        exchange(weights)
        return object()

    monkeypatch.setattr(module, "CLIP", load)
    with pytest.raises(UserError, match=r"w\.safetensors was changed while it was in use"):
        one.models.clip()
    assert not one.models._loaded
    assert opened(tmp_path / "a", voc, pretrained=str(weights)).models.weights_sha256 == sha256(
        weights
    )


def test_a_stale_digest_of_weights_is_forgotten(tmp_path, voc, weights):
    """As a file system would leave it that keeps change times and inodes."""
    one = opened(tmp_path / "a", voc, pretrained=str(weights))
    known = one.inputs.digests._look_at(str(weights))
    one.inputs.digests._remember({str(weights): known._replace(sha256="ab" * 32)})
    stale = opened(tmp_path / "a", voc, pretrained=str(weights))
    assert stale.models.weights_sha256 == "ab" * 32
    with pytest.raises(UserError, match="run again"):
        stale.models.clip()
    assert opened(tmp_path / "a", voc, pretrained=str(weights)).models.weights_sha256 == sha256(
        weights
    )


def test_runs_of_several_share_a_model_of_the_same_weights(tmp_path, voc, weights):
    given = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path, "device": "cpu"}
    names = {"model": str(GOLDEN / "tiny_clip.json"), "pretrained": str(weights)}
    one, other = Run.several([resolve(**given, **names, pamr_steps=n) for n in (0, 1)])
    first = one.models.clip()
    assert other.models.clip() is first
    exchange(weights)
    other.inputs.digests.forget(weights)
    del other.models.weights_sha256
    assert other.models.clip() is not first
    assert not torch.equal(other.models.clip().encode_word("cat"), first.encode_word("cat"))


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_sam_that_changes(tmp_path, voc, monkeypatch, when):
    checkpoint = tmp_path / "sam.pth"
    checkpoint.write_bytes(b"one")
    one = opened(tmp_path / "a", voc, mode="hybrid", sam_checkpoint=checkpoint)
    key = one.models.masks_sha256
    opens: list[Path] = []

    def load(self: Sam, *_: Any) -> Any:
        opens.append(self.weights)
        checkpoint.write_bytes(b"two")
        return object()

    monkeypatch.setattr(Sam, "open", load)
    if when == "before":
        checkpoint.write_bytes(b"two")
    with pytest.raises(UserError, match=r"sam\.pth was changed while it was in use: run again"):
        one.models.proposer()
    assert bool(opens) == (when == "meanwhile")
    again = opened(tmp_path / "a", voc, mode="hybrid", sam_checkpoint=checkpoint)
    assert again.models.masks_sha256 == sha256(checkpoint) != key


@pytest.mark.parametrize("fields", [[-2], [-2, -1], [0], [1, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("kind", ["SegmentationClass", "JPEGImages"])
def test_digests_exchanged_in_the_memory(artifacts, voc, finished_once, fields, kind):
    """Everything is cached, so that no file is read: another image's row would be taken."""
    memory = artifacts / "digests.jsonl"
    lines = [json.loads(line) for line in memory.read_text().splitlines() if line]
    one, other = [line for line in lines if kind in line[0]][:2]
    for field in fields:
        one[field], other[field] = other[field], one[field]
    memory.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    again = run(artifacts, voc)
    assert computed(again) == {}
    assert again.row == finished_once[1].row
