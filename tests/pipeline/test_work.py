"""Work as plain data: small, and the same rows from a process that has nothing open."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict

import pytest

from sclip_core.config import resolve_several
from sclip_core.pipeline import work
from sclip_core.pipeline.pipeline import Pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.work import at_hand, packed, run_shard, unpacked

from ..conftest import TINY
from .conftest import areas

GRIDS = [
    {},
    {"pamr_steps": "0,2", "attention": "csa,kk"},
    {"logit_scale": "20,40", "prob_thd": "0,0.3", "pamr_dilations": "8,16;1,2"},
    {"force": "refine,metrics", "ignore_label": "0,255", "strict": True},
]


def given(voc) -> dict[str, object]:
    return {"dataset": "voc21", "data_root": voc, **TINY}


@pytest.mark.parametrize("grid", GRIDS)
def test_settings_are_the_same_after_packing(grid, voc):
    several = resolve_several(**given(voc), **grid)
    again = unpacked(packed(several))
    assert again == several
    assert [one.model_fields_set for one in again] == [one.model_fields_set for one in several]


def test_another_process_opens_the_runs_once(voc, tmp_path, monkeypatch):
    grid = {"pamr_steps": "0,2", "shards": 2}
    here = Run.several(resolve_several(**given(voc), **grid, artifacts=tmp_path / "here"))
    run_pipelines(here)
    there = Run.several(resolve_several(**given(voc), **grid, artifacts=tmp_path / "there"))
    pieces = []
    with at_hand(pipelines := Pipeline.of_several(there)):
        for stage in (stage for pipeline in pipelines for stage in pipeline):
            shards = 2 if stage.shardable else 1
            pieces += [pickle.dumps(stage.work.of_shard(i, shards)) for i in range(shards)]
    assert max(map(len, pieces)) < 1500  # of which most are paths of this test

    opened, several = [], Run.several
    monkeypatch.setattr(Run, "several", lambda *given: opened.append(given) or several(*given))
    try:
        reports = [run_shard(pickle.loads(piece)) for piece in pieces]
    finally:
        work._opened.clear()
    assert len(opened) == 1
    dense = [each.outcome.computed for each in reports if each.outcome.stage == "dense_features"]
    assert (sum(dense[:2]), dense[2:]) == (4, [0, 0])
    made = [(run, stage, count) for each in reports for run, stage, count, _ in each.made]
    filled = {(1, "refine"), (1, "metrics")}  # by the passes of the first run
    assert {(run, stage) for run, stage, _ in made} == filled
    assert sum(count for *_, count in made) == 4 * len(filled)
    assert pickle.loads(pickle.dumps(reports)) == reports
    json.dumps([asdict(each) for each in reports])
    assert areas(tmp_path / "there") == areas(tmp_path / "here")
