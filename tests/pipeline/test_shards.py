"""Shards: the same results as without them, also without Prefect; one for each GPU by default."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from sclip_core.config import resolve
from sclip_core.pipeline.models import Models
from sclip_core.pipeline.parts import run_part
from sclip_core.pipeline.pipeline import run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.progress import LineReporter, Silent

from ..conftest import TINY
from .conftest import areas, write_voc


class Heard(Silent):
    def __init__(self):
        self.notes = []

    def note(self, line):
        self.notes.append(line)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("data") / "VOC2012", 3)


@pytest.fixture
def executed(monkeypatch):
    """(shard, shards, thread) of each execution of the dense features."""
    seen, execute = [], DenseFeaturesStage.execute

    def noted(self, shard=0, shards=1):
        seen.append((shard, shards, threading.current_thread().name))
        return execute(self, shard, shards)

    monkeypatch.setattr(DenseFeaturesStage, "execute", noted)
    return seen


@pytest.fixture
def run(data, tmp_path):
    def go(folder, **settings):
        given = {"dataset": "voc21", "data_root": data, "artifacts": tmp_path / folder, **TINY}
        heard = Heard()
        finished = run_pipeline(Run(resolve(**given, **settings), heard))
        return finished, areas(tmp_path / folder), [n for n in heard.notes if "GPUs" in n]

    return go


def test_one_after_the_other(run, executed):
    whole, expected, _ = run("whole")
    assert [part[:2] for part in executed] == [(0, 1)]
    executed.clear()
    parts, found, notes = run("parts", shards=2)
    assert [part[:2] for part in executed] == [(0, 2), (1, 2)]
    assert found == expected
    assert parts.run_id == whole.run_id
    assert parts.outcomes["dense_features"].computed == 3
    assert notes == []


def test_each_gpu_has_one(run, executed, monkeypatch):
    """Two GPUs are used though nobody asked for shards, at once, and it is said."""
    _, expected, _ = run("whole")
    executed.clear()
    monkeypatch.setattr(Models, "device_count", 2)
    monkeypatch.setattr(Models, "_device_of", lambda self, _: self.device)  # there are none here
    _, found, notes = run("two")
    assert sorted(part[:2] for part in executed) == [(0, 2), (1, 2)]
    assert all(name.startswith("sclip-shard") for *_, name in executed)
    assert found == expected
    assert notes == ["2 GPUs: each computes its part of the images (--shards 1 or --device cuda:0 "
                     "for one of them)"]  # fmt: skip
    executed.clear()
    _, found, notes = run("one", shards=1)
    assert ([part[:2] for part in executed], notes) == ([(0, 1)], [])
    assert found == expected


@pytest.mark.parametrize(("device", "count"), [("cuda", 2), ("cuda:1", 1), ("cpu", 1)])
def test_gpus_are_counted_where_none_is_named(monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    models = object.__new__(Models)
    models.device = torch.device(device)
    assert models.device_count == count
    places = {str(models._device_of(shard)) for shard in range(4)}
    assert places == ({"cuda:0", "cuda:1"} if count == 2 else {device})


def test_a_shard_that_fails_ends_the_others(run, monkeypatch):
    monkeypatch.setattr(Models, "device_count", 2)
    monkeypatch.setattr(Models, "_device_of", lambda self, _: self.device)
    execute = DenseFeaturesStage.execute

    def fails(self, shard=0, shards=1):
        if shard == 1:
            raise RuntimeError("of one GPU")
        return execute(self, shard, shards)

    monkeypatch.setattr(DenseFeaturesStage, "execute", fails)
    with pytest.raises(RuntimeError, match="of one GPU"):
        run("fails")


def test_compiling_is_no_images_time(run, monkeypatch):
    """Neither of the first image nor of the stage; and only where there is something to compute."""
    calls = []

    def compile_for(device):
        calls.append(device.type)
        time.sleep(1.5)

    monkeypatch.setattr("sclip_core.pipeline.stages.refine.compile_for", compile_for)
    finished, *_ = run("artifacts")
    assert finished.outcomes["refine"].seconds < 1
    run("artifacts")
    assert calls == ["cpu"]


def test_a_stage_is_told_of_once_with_all_its_shards(data, tmp_path):
    """And a part that is computed alone says what it did, though the others never follow."""
    lines = []
    given = {"dataset": "voc21", "data_root": data, **TINY, "shards": 3}
    run_pipeline(Run(resolve(**given, artifacts=tmp_path / "a"), LineReporter(lines.append)))
    of_stage = [line for line in lines if line.startswith("dense_features ")]
    assert len(of_stage) == 1
    assert of_stage[0].startswith("dense_features  computed  3 images in ")

    lines.clear()
    alone = Run(resolve(**given, artifacts=tmp_path / "b"), LineReporter(lines.append))
    run_part([alone], 0, 2)
    computed = len(alone.journal.outcomes) and alone.journal.outcomes["dense_features"].computed
    said = [line for line in lines if line.startswith("dense_features ")]
    assert len(said) == 1
    assert f" {computed} images" in said[0]
