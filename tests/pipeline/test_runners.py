"""Other processes: the same labels and results as in one; what they could not use is told."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import UserError, resolve, resolve_several
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.pipeline import executing, runners, work
from sclip_core.pipeline.executing import followed, pieces, take
from sclip_core.pipeline.pipeline import Pipeline, run_pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.work import at_hand, run_shard
from sclip_core.progress import Silent
from sclip_core.store.objects import artifact as object_artifacts
from sclip_core.store.objects import ledger as object_ledgers
from sclip_core.store.objects.faults import StorageError
from sclip_core.store.objects.ledger import ObjectLedger

from ..conftest import TINY
from ..flows.conftest import write_own
from .conftest import areas, write_voc

ROOT = Path(__file__).parents[2]


@pytest.fixture
def given(voc, tmp_path):
    return {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path / "there", **TINY}


@pytest.fixture
def own(tmp_path):
    return write_own(tmp_path / "own", 3)


def labels(**given) -> dict[str, np.ndarray]:
    """The label map of each image, by its digest."""
    stage = Pipeline.of(Run(resolve(**given))).labels
    return {digest: np.asarray(stage.read(row)) for digest, row in stage.rows().items()}


def elsewhere(stage):
    """Execute a stage as a process would that has nothing open, in this one."""
    for piece in pieces(stage):
        if not piece.away:
            run_shard(piece)
            continue
        mine = work._opened.pop(piece.command)  # which this process then does not know
        try:
            report = run_shard(piece)
        finally:
            work._opened.clear()
            work._opened[piece.command] = mine
        take(piece, report)


class TwoWorkers:
    """Two processes that keep what they have open; a shard goes to the other one each stage."""

    def __init__(self):
        self.opened = [{}, {}]
        self.turn = 0

    def __call__(self, stage):
        self.turn += 1
        for piece in reversed(pieces(stage)):
            if not piece.away:
                run_shard(piece)
                continue
            worker = (piece.shard + self.turn) % 2
            mine, work._opened = work._opened, self.opened[worker]
            try:
                report = run_shard(piece)
            finally:
                work._opened = mine
            take(piece, report)


class Heard(Silent):
    def __init__(self):
        self.warnings = []

    def warn(self, line):
        self.warnings.append(line)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The settings of a run over 200 scenes of the demo, and what one process makes of them."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root / "scenes", 200)
    given = {"preset": "demo", "dataset": "scenes", "data_root": root / "scenes"}
    one = run_pipeline(Run(resolve(**given, artifacts=root / "one")))
    return given, one, labels(**given, artifacts=root / "one"), areas(root / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    "runner", ["processes", "dask", pytest.param("ray", marks=pytest.mark.long)]
)
def test_labels_and_results_are_those_of_one_process(runner, scenes, tmp_path):
    if runner != "processes":
        pytest.importorskip({"dask": "distributed"}.get(runner, runner))
    given, one, expected, results = scenes
    there = {**given, "artifacts": tmp_path / "there"}
    two = run_pipeline(Run(resolve(**there, runner=runner, shards=2)))
    assert two.run_id == one.run_id
    assert areas(there["artifacts"]) == results
    found = labels(**there)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(found[digest], expected[digest]) for digest in expected)
    for name, outcome in one.outcomes.items():
        other = two.outcomes[name]
        assert (other.computed, other.cached, other.key) == (outcome.computed, 0, outcome.key)
    again = Run(resolve(**there, runner=runner))
    assert {o.state for o in run_pipeline(again).outcomes.values()} == {"cached"}
    assert again.runner._pool is None  # nothing was started for nothing


def test_runs_that_share_a_pass(given):
    """Each counts what the pass made for it, and force makes all of it anew once."""
    grid = {"attention": "csa,kk", "pamr_steps": "0,2", "shards": 2}
    for force in ((), ("refine",)):
        settings = resolve_several(**given, **grid, force=force)
        for run in (runs := Run.several(settings)):
            run.runner = FakeRunner()
        finished = run_pipelines(runs, elsewhere)
        assert [each.outcomes["refine"].computed for each in finished] == [4] * 4
        expected = 0 if force else 4
        dense = [each.outcomes["dense_features"].computed for each in finished]
        assert dense == [expected, 0, expected, 0]
        for ledger in given["artifacts"].glob("refine/*/ledger.jsonl"):
            lines = map(json.loads, ledger.read_text().splitlines())
            stored = [row["id"] for line in lines for row in line["rows"]]
            assert len(stored) == (8 if force else 4)


def test_what_others_store_in_a_bucket_is_seen(given, bucket, monkeypatch):
    """A listing is taken to be true for seconds, but not where a stage begins and ends."""
    monkeypatch.setattr(object_ledgers, "FRESH", 1e9)
    monkeypatch.setattr(object_artifacts, "ledger_of", ObjectLedger)  # each process has its own
    stored, append = [], ObjectLedger.append

    def noted(self, rows, seconds):
        stored.extend((self._folder, row.id) for row, _ in rows)
        append(self, rows, seconds)

    monkeypatch.setattr(ObjectLedger, "append", noted)
    run = Run(resolve(**{**given, "artifacts": bucket}, shards=2))
    run.runner = FakeRunner()
    (finished,) = run_pipelines([run], TwoWorkers())
    assert finished.num_images == 4
    assert {each.computed for each in finished.outcomes.values() if each.unit == "images"} == {4}
    assert len(stored) == len(set(stored))  # nobody computes what another one has stored


def test_rows_that_failed_elsewhere_are_known(tmp_path):
    """The command's own process does not try them again, such as when it mends others."""
    data = write_voc(tmp_path / "VOC2012", 4)
    image = sorted((data / "JPEGImages").iterdir())[1]
    image.write_bytes(image.read_bytes()[:3000])
    given = {"dataset": "voc21", "data_root": data, "artifacts": tmp_path / "there", **TINY}
    run = Run(resolve(**given, shards=2))
    run.runner = FakeRunner()
    failed = {}

    def noted(stage):
        elsewhere(stage)
        failed[stage.name] = getattr(stage, "failed", None)

    run_pipelines([run], noted)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert failed["dense_features"] == {digest}


class FakeRunner:
    places = 2

    def check(self):
        """Nothing is missing."""

    def close(self):
        """Nothing is open."""

    start = stop = close


def test_storage_that_fails_while_rows_are_counted_is_no_matter(given, monkeypatch):
    """Nobody could read the traceback of a thread, and the work goes on."""
    monkeypatch.setattr(executing, "LOOK", 0.01)
    raised, asked = [], []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    run = Run(resolve(**given))
    run.runner = FakeRunner()
    stage = Pipeline.of(run).dense_features

    def fail():
        asked.append(1)
        raise StorageError("s3://bucket/a cannot be read")

    monkeypatch.setattr(stage.artifact, "refresh", fail)
    with followed(stage):
        while len(asked) < 3 and not raised:
            time.sleep(0.01)
    assert not raised


def test_failures_are_those_of_the_run(tmp_path):
    data = write_voc(tmp_path / "VOC2012", 4)
    names = sorted((data / "JPEGImages").iterdir())
    names[1].write_bytes(names[1].read_bytes()[:3000])
    (data / "SegmentationClass" / f"{names[2].stem}.png").write_bytes(b"no label map")
    given = {"dataset": "voc21", "data_root": data, **TINY, "shards": 2}
    heard = [Heard(), Heard()]
    here = run_pipeline(Run(resolve(**given, artifacts=tmp_path / "here"), heard[0]))
    run = Run(resolve(**given, artifacts=tmp_path / "there"), heard[1])
    run.runner = FakeRunner()
    there = run_pipelines([run], elsewhere)[0]
    assert len(here.failures) == 2
    assert there.failures == here.failures
    assert sorted(heard[1].warnings) == sorted(heard[0].warnings)
    assert there.run_id == here.run_id
    assert there.row["num_failed"] == 2


@pytest.mark.parametrize("lossy", ["dense_features", "refine", "metrics"])
@pytest.mark.parametrize("scored", [True, False])
def test_rows_that_a_worker_loses_stop_the_results(lossy, scored, own, tmp_path, monkeypatch):
    """Without a recorded failure they are no images that were left out."""
    if lossy == "metrics" and not scored:
        pytest.skip("there are none")
    paths = {"images": own / "images", "classes": own / "classes.txt", "save_vis": tmp_path / "v"}
    given = {**paths, **TINY, "artifacts": tmp_path / "there", "shards": 2}
    given |= {"labels": own / "labels"} if scored else {}
    run = Run(resolve(**given))
    run.runner = FakeRunner()
    lost = []

    def loses(stage):
        elsewhere(stage)
        if stage.name == lossy:
            lost.extend(list(stage.rows())[1:2])
            stage.table.strike([stage.rows()[row_id] for row_id in lost])

    with pytest.raises(UserError, match="1 of 3 images") as error:
        run_pipelines([run], loses)
    assert "run again" in str(error.value)
    assert not (given["artifacts"] / "results" / "runs").exists()
    again = run_pipeline(Run(resolve(**given)))
    assert again.num_images == 3


def test_older_commands_are_forgotten(given):
    """A worker has one command's runs open, and no lease while it has nothing to do."""
    works = []
    for _ in range(3):
        with at_hand(pipelines := Pipeline.of_several([Run(resolve(**given))])):
            works.append(pipelines[0].text_bank.work)
    try:
        for each in works:
            run_shard(each)
            assert list(work._opened) == [each.command]
            assert not list((given["artifacts"] / ".leases").glob("*.jsonl"))
    finally:
        work._opened.clear()


def test_relative_paths_begin_where_the_command_does(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_bytes(Path(TINY["model"]).read_bytes())
    settings = {**given, "artifacts": Path("there"), "model": "tiny.json"}
    with at_hand(pipelines := Pipeline.of_several([Run(resolve(**settings))])):
        piece = pipelines[0].text_bank.work
    monkeypatch.chdir("/")
    try:
        report = run_shard(piece)
    finally:
        work._opened.clear()
    assert report.outcome.path.startswith(str(tmp_path / "there"))


def test_default_artifacts_are_those_of_the_command(given, tmp_path, monkeypatch):
    """A worker may begin in another folder."""
    monkeypatch.chdir(tmp_path)
    given.pop("artifacts")
    pipeline = Pipeline.of(Run(resolve(**given)))
    with at_hand([pipeline]):
        piece = pipeline.text_bank.work
    monkeypatch.chdir(tmp_path.parent)
    (opened,) = work.unpacked(piece.settings, piece.folder)
    assert opened.artifacts == tmp_path / "artifacts"


@pytest.mark.slow
def test_all_processes_have_their_share_of_the_threads(given, monkeypatch):
    """And none of them gets the terminal's Ctrl-C, however early."""
    for name in runners.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runners, "core_count", lambda: 6)
    runner = runners.Processes(resolve(**given, runner="processes", shards=3), 0)
    try:
        runner.start()
        ids = [process.pid for process in multiprocessing.active_children()]
        assert len(ids) == 3
        wait([runner._pool.submit(time.sleep, 0.2) for _ in range(6)])  # they are there
        for pid in ids:
            begun = Path(f"/proc/{pid}/environ").read_text().split("\0")
            assert {f"{name}=2" for name in runners.THREADS} <= set(begun)
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            (blocked,) = (line.split()[1] for line in status if line.startswith("SigBlk"))
            assert int(blocked, 16) & (1 << (signal.SIGINT - 1))
    finally:
        runner.close()


def test_a_worker_with_other_weights_is_named(given):
    run = Run(resolve(**given))
    run.runner = FakeRunner()

    def other(stage):
        for piece in pieces(stage):
            mine = work._opened.pop(piece.command)
            try:
                report = run_shard(piece)
            finally:
                work._opened.clear()
                work._opened[piece.command] = mine
            take(piece, replace(report, outcome=replace(report.outcome, key="0")))

    with pytest.raises(UserError, match="the worker has other weights, code or settings"):
        run_pipelines([run], other)


def test_work_ends_with_its_command(given, monkeypatch):
    """A worker whose command was killed, or has ended, stores what it is at and stops."""
    monkeypatch.setattr(work, "LOOK", 0.01)
    run = Run(resolve(**given, pamr_steps=1, batch_size=1))
    with at_hand(pipelines := Pipeline.of_several([run])):
        piece = replace(pipelines[0].dense_features.work, owner="gone-1-0.jsonl")
    from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage

    compute = DenseFeaturesStage.compute_shared

    def slow(self, *rest):
        for row in compute(self, *rest):
            yield row
            time.sleep(0.2)

    monkeypatch.setattr(DenseFeaturesStage, "compute_shared", slow)
    try:
        run_shard(pipelines[0].text_bank.work)
        with pytest.raises(UserError, match="dense_features was stopped"):
            run_shard(piece)
    finally:
        work._opened.clear()
    assert 1 <= len(pipelines[0].dense_features.rows()) < 4


class TestCommand:
    """``sclip run --direct --runner processes`` as a process of its own."""

    @pytest.fixture
    def command(self, tmp_path, request):
        runner = getattr(request, "param", "processes")
        pytest.importorskip({"dask": "distributed", "ray": "ray"}.get(runner, "sys"))
        data = write_voc(tmp_path / "VOC2012", 40)
        given = {"dataset": "voc21", "data-root": data, "artifacts": tmp_path / "a", **TINY}
        given |= {"runner": runner, "shards": 2, "pamr-steps": 40, "batch-size": 1}
        flags = [f"--{name}={value}" for name, value in given.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", "--direct", *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        for _ in range(3000):
            ledgers = list((tmp_path / "a" / "refine").glob("*/ledger.jsonl"))
            if ledgers and ledgers[0].read_text().count("\n") >= 1:
                break
            time.sleep(0.1)
        yield process, ledgers[0]
        process.kill()

    def children(self, process):
        task = Path(f"/proc/{process.pid}/task")
        pids = [
            int(pid) for each in task.iterdir() for pid in (each / "children").read_text().split()
        ]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def ended(self, pids):
        for _ in range(300):
            alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            if not alive:
                return True
            time.sleep(0.1)
        return False

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_its_processes_end_with_it(self, command, number):
        process, ledger = command
        pids = self.children(process)
        assert len(pids) >= 2
        rows = ledger.read_text().count("\n")
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (-9 if number is signal.SIGKILL else 128 + number)
        assert self.ended(pids)
        assert ledger.read_text().count("\n") >= rows
        if number is not signal.SIGKILL:
            assert said.strip().splitlines()[-1] == "sclip: stopped; what was computed is kept"
            assert "Traceback" not in said

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "command", [pytest.param("dask", marks=pytest.mark.long), "ray"], indirect=True
    )
    def test_interrupted_by_the_terminal(self, command):
        """Of all processes of the command, none of which may say more than one line."""
        process, ledger = command
        rows = ledger.read_text().count("\n")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=90)
        assert process.returncode == 130
        assert said.strip().splitlines()[-1] == "sclip: stopped; what was computed is kept"
        assert "Traceback" not in said
        assert "WARNING" not in said
        assert ledger.read_text().count("\n") >= rows

    @pytest.mark.slow
    def test_one_that_is_killed_is_said_in_one_line(self, command):
        process, ledger = command
        rows = ledger.read_text().count("\n")
        os.kill(self.children(process)[-1], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "Traceback" not in said
        assert said.strip().splitlines()[-1] == (
            "sclip: a process of --runner processes ended before its work, killed or out of "
            "memory; what was computed is kept: run again, with fewer processes (--shards N) if "
            "memory was short"
        )
        assert ledger.read_text().count("\n") >= rows


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", 2), ("4,2", 2)])
def test_threads_of_a_process(said, threads, monkeypatch):
    """As many as the user says, else its share of the cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(runners, "core_count", lambda: 4)
    settings = resolve(images="i", classes="c", labels="l", runner="processes", shards=2)
    assert runners.Processes(settings, 0).threads == threads


@pytest.mark.slow
def test_a_scheduler_of_dask_without_workers(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(runners, "WAITING", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        settings = resolve(images="i", classes="c", labels="l", runner="dask", address=address)
        with pytest.raises(UserError, match=f"{address} has no workers, .*: start one, dask work"):
            runners.Dask(settings, 0).start()
