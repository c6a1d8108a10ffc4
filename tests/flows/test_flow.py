"""The Prefect flow: the same artifacts, and the cache where Prefect shows it."""

from __future__ import annotations

import base64
import io
import json
import re

import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefect.client.orchestration import get_client

from flows.benchmark import sclip_benchmark
from flows.cli.running import run_settings
from sclip_core import UserError, results
from sclip_core.config import Settings, resolve, resolve_several
from sclip_core.pipeline.pipeline import run_pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

USUAL = Settings().stages


def settings(own, artifacts, **others):
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    return {**paths, "artifacts": artifacts, **TINY, **others}


def shown_in(markdown: str) -> Image.Image:
    """The picture that is inlined, which a page of Prefect's shows."""
    (inlined,) = re.findall(r"!\[.*\]\(data:image/webp;base64,(.*)\)", markdown)
    return Image.open(io.BytesIO(base64.b64decode(inlined)))


def task_states(flow_run_name: str) -> dict[str, list[str]]:
    """Names of the states of all task runs of a flow run, by task."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
        (run,) = [run for run in runs if run.name == flow_run_name]
        states: dict[str, list[str]] = {}
        for task_run in client.read_task_runs():
            if task_run.flow_run_id == run.id:
                name = task_run.name.rsplit("-", 1)[0]
                states.setdefault(name, []).append(task_run.state_name)
    return states


def edges(flow_run_name: str) -> set[tuple[str, str]]:
    """The edges of the graph that Prefect draws of a flow run."""
    with get_client(sync_client=True) as client:
        (run,) = [run for run in client.read_flow_runs() if run.name == flow_run_name]
        tasks = {t.id: t for t in client.read_task_runs() if t.flow_run_id == run.id}
    return {
        (tasks[one.id].name.rsplit("-", 1)[0], task.name.rsplit("-", 1)[0])
        for task in tasks.values()
        for inputs in task.task_inputs.values()
        for one in inputs
    }


def test_flow(own, tmp_path):
    named = sclip_benchmark.with_options
    given = settings(own, tmp_path / "flow")
    first = named(flow_run_name="first")(**given)
    named(flow_run_name="again")(**given)
    named(flow_run_name="pamr")(**given, pamr_steps=2)
    everything = {stage: ["Completed"] for stage in USUAL}
    cached = {stage: ["Cached"] for stage in USUAL}
    assert task_states("first") == everything
    assert task_states("again") == cached
    assert edges("first") == {
        ("text_bank", "refine"),
        ("dense_features", "refine"),
        ("refine", "metrics"),
        ("metrics", "results"),
    }
    assert task_states("pamr") == {
        **everything, "text_bank": ["Cached"], "dense_features": ["Cached"]
    }  # fmt: skip

    with get_client(sync_client=True) as client:
        made = sorted(client.read_artifacts(), key=lambda artifact: artifact.created)
        artifacts = {artifact.key: artifact for artifact in made}  # of each key the latest
    summary = artifacts["sclip-summary-custom"].data
    assert f"| aAcc | {results.runs(tmp_path / 'flow')['aacc'][0].as_py():.2f} |" in summary
    assert shown_in(summary).width == 900
    assert "ball" in artifacts["sclip-class-iou-custom"].data

    direct = run_pipeline(Run(resolve(**settings(own, tmp_path / "direct"))))
    assert direct.run_id == first.run_id
    tables = [
        pq.read_table(tmp_path / root / "results" / "image_areas" / f"{first.run_id}.parquet")
        for root in ("flow", "direct")
    ]
    assert tables[0].equals(tables[1])


def test_shards_are_tasks(own, tmp_path):
    flow = sclip_benchmark.with_options(flow_run_name="shards")
    finished = flow(**settings(own, tmp_path / "artifacts", shards=2))
    states = task_states("shards")
    for stage in ("dense_features", "refine"):  # by the images' digests, so one may have none
        assert len(states[stage]) == 2
        assert set(states[stage]) <= {"Completed", "Cached"}
    assert states["text_bank"] == states["metrics"] == ["Completed"]
    assert finished.outcomes["dense_features"].computed == 3


def test_mistakes_are_not_retried(own, tmp_path):
    flow = sclip_benchmark.with_options(flow_run_name="mistake")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    given = settings(own, tmp_path / "artifacts")
    with pytest.raises(UserError, match="cannot be read as weights"):
        flow(**{**given, "pretrained": str(tmp_path / "torn.safetensors")})
    assert task_states("mistake") == {"text_bank": ["Failed"]}


@pytest.mark.slow
def test_faults_that_may_pass_are_tried_again(own, tmp_path, monkeypatch):
    from sclip_core.pipeline.stages.metrics import MetricsStage

    compute, faults = MetricsStage.compute_shared, [OSError("the disk was away")]

    def faulty(self, ids, others, shard):
        if faults:
            raise faults.pop()
        return compute(self, ids, others, shard)

    monkeypatch.setattr(MetricsStage, "compute_shared", faulty)
    flow = sclip_benchmark.with_options(flow_run_name="faulty")
    finished = flow(**settings(own, tmp_path / "artifacts"))
    assert finished.outcomes["metrics"].computed == 3
    assert not faults
    assert task_states("faulty")["metrics"] == ["Completed"]


def test_several_values_are_several_runs(own, tmp_path):
    given = settings(own, tmp_path / "flow", attention="csa,kk", pamr_steps=[0, 2])
    finished = sclip_benchmark(**given)
    points = [(each.row["attention"], each.row["pamr_steps"]) for each in finished]
    assert points == [("csa", 0), ("csa", 2), ("kk", 0), ("kk", 2)]
    with get_client(sync_client=True) as client:
        data = [a.data for a in client.read_artifacts() if a.key == "sclip-runs-custom"]
    rows = [row for row in json.loads(data[-1]) if row["run"] in {r.run_id for r in finished}]
    assert [(row["attention"], row["pamr_steps"]) for row in rows] == [
        ("csa", "0"), ("csa", "2"), ("kk", "0"), ("kk", "2")
    ]  # fmt: skip
    for row, each in zip(rows, finished, strict=True):
        assert row["mIoU"] == f"{each.row['miou']:.2f}"  # three images: no interval
    alone = settings(own, tmp_path / "alone", attention="kk", pamr_steps=2)
    assert sclip_benchmark(**alone).run_id == finished[-1].run_id


def test_a_grid_is_in_its_order_through_the_flow(own, tmp_path):
    """Though the flow by itself has another: the scale that stays for prob_thd 0 comes first."""
    grid = {"logit_scale": "20,40", "prob_thd": "0,0.3", "pamr_dilations": "8,16;1,2"}
    several = resolve_several(**settings(own, tmp_path / "artifacts", **grid))
    expected = [(s.logit_scale, s.prob_thd) for s in several]
    assert expected == [(40, 0), (20, 0.3), (40, 0.3)]
    before = run_settings(several[:1], direct=False)  # the runs of one command are not the next's
    assert [(f.settings.logit_scale, f.settings.prob_thd) for f in before] == expected[:1]
    alone = sclip_benchmark(**settings(own, tmp_path / "artifacts", prob_thd=0.3))
    assert alone.settings.prob_thd == 0.3
    finished = run_settings(several, direct=False)
    assert [(each.row["logit_scale"], each.row["prob_thd"]) for each in finished] == expected
