"""The recipe of the README on loopback: server, pool, deploy, worker, run, watch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path

import cv2
import httpx
import pytest

from flows.server import DEFAULTS

from ..conftest import TINY
from ..pipeline.test_resume import ledger_ids

pytestmark = [pytest.mark.flow, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
RUN = ("deployment", "run", "sclip-benchmark/sclip-benchmark")


class Prefect:
    """The ``prefect`` command against a server of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home = home
        self.api = f"http://127.0.0.1:{self.port}/api"
        quiet = DEFAULTS  # what commands that ran in this process before have set
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in quiet},
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "SCLIP_HOME": str(ROOT),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "prefect", *arguments]

    def start(self, log: Path, *arguments: str) -> None:
        self.processes.append(
            subprocess.Popen(
                self.command(*arguments),
                cwd=self.home,  # not where the deployments were made
                env=self.environment,
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def wait_for_server(self) -> None:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.api}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError("the Prefect server did not start")

    def read(self, what: str) -> list[dict]:
        return httpx.post(f"{self.api}/{what}/filter", json={}).raise_for_status().json()

    def stop(self) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    home = tmp_path_factory.mktemp("prefect")
    prefect = Prefect(home)
    try:
        prefect.start(home / "server.log", "server", "start", "--port", str(prefect.port))
        prefect.wait_for_server()
        assert prefect.run("work-pool", "create", "local", "--type", "process").returncode == 0
        deployed = prefect.run("--no-prompt", "deploy", "--prefect-file", "pipeline.yaml", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        assert prefect.run("work-pool", "set-concurrency-limit", "local", "1").returncode == 0
        prefect.start(home / "worker.log", "worker", "start", "--pool", "local")
        yield prefect
    finally:
        prefect.stop()


def states(prefect: Prefect, run_name: str) -> dict[str, str]:
    run = next(r for r in prefect.read("flow_runs") if r["name"] == run_name)
    return {
        task["name"].rsplit("-", 1)[0]: task["state_name"]
        for task in prefect.read("task_runs")
        if task["flow_run_id"] == run["id"]
    }


def test_worker(prefect, own, tmp_path):
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    given = {"dataset": "custom", **paths, **TINY, "artifacts": tmp_path / "artifacts"}
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]

    first = prefect.run(*RUN, *parameters, "--flow-run-name", "first", "--watch")
    assert first.returncode == 0, first.stdout + (prefect.home / "worker.log").read_text()
    assert set(states(prefect, "first").values()) == {"Completed"}

    again = prefect.run(
        *RUN, *parameters, "-p", "pamr_steps=5", "--flow-run-name", "pamr", "--watch"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert states(prefect, "pamr") == {
        "text_bank": "Cached",
        "dense_features": "Cached",
        "refine": "Completed",
        "metrics": "Completed",
        "results": "Completed",
    }

    before = len(prefect.read("flow_runs"))
    for wrong in ("pamr_stpes=5", "pamr_steps=abc", "pamr_steps=-1", "dtype=fp8"):
        refused = prefect.run(*RUN, *parameters, "-p", wrong)
        assert refused.returncode != 0, wrong
        assert wrong.split("=")[0] in refused.stdout + refused.stderr
    assert len(prefect.read("flow_runs")) == before


def of_run(prefect: Prefect, name: str) -> dict:
    return next(r for r in prefect.read("flow_runs") if r["name"] == name)


def wait_for(what, seconds: float) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def slow_run(own, artifacts) -> list[str]:
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    given = {"dataset": "custom", **paths, **TINY, "artifacts": artifacts, "pamr_steps": 1000}
    given |= {"batch_size": 1, "workers": 0}
    return [word for name, value in given.items() for word in ("-p", f"{name}={value}")]


def processes_of(artifacts: Path) -> list[int]:
    """Those of flow runs: they hold the leases of what they compute."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            files = [os.readlink(f) for f in (entry / "fd").iterdir()] if b"prefect" in line else []
        except OSError:
            continue
        if any(file.startswith(f"{artifacts}/") for file in files):
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    "how", ["cancelled", pytest.param("terminated", marks=pytest.mark.long), "killed"]
)
def test_a_run_that_is_stopped_keeps_its_rows(prefect, own, tmp_path, how):
    """To cancel, the worker sends SIGTERM, which Prefect raises as a class of its own."""
    artifacts = tmp_path / "artifacts"
    for number in range(12):  # long enough for Prefect's own command to come in between
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture = cv2.imread(str(own / folder / f"{number % 3}.png"), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), picture[number // 3 :])
    shutil.copy(own / "classes.txt", tmp_path)
    parameters = slow_run(tmp_path, artifacts)
    assert prefect.run(*RUN, *parameters, "--flow-run-name", how).returncode == 0
    wait_for(lambda: list(artifacts.glob("refine/*/ledger.jsonl")), 120)  # it is at its images
    wait_for(lambda: ledger_ids(artifacts, "refine"), 60)
    processes = processes_of(artifacts)
    assert len(processes) == 1
    if how == "cancelled":
        assert prefect.run("flow-run", "cancel", of_run(prefect, how)["id"]).returncode == 0
    else:
        os.kill(processes[0], signal.SIGTERM if how == "terminated" else signal.SIGKILL)
    wait_for(lambda: not processes_of(artifacts), 20)
    wait_for(lambda: of_run(prefect, how)["state_type"] not in ("RUNNING", "CANCELLING"), 30)
    log = (prefect.home / "worker.log").read_text()
    expected = "CANCELLED" if how == "cancelled" else "CRASHED"
    assert of_run(prefect, how)["state_type"] == expected, log
    assert len(ledger_ids(artifacts, "dense_features")) == 12
    kept = ledger_ids(artifacts, "refine")
    assert 1 <= len(kept) < 12

    # neither the pool's slot nor the rows are held by what is gone
    name = f"after-{how}"
    assert prefect.run(*RUN, *parameters, "--flow-run-name", name, "--watch").returncode == 0
    assert sorted(set(ledger_ids(artifacts, "refine"))) == sorted(ledger_ids(artifacts, "refine"))
    assert len(ledger_ids(artifacts, "refine")) == 12
    assert states(prefect, name)["dense_features"] == "Cached"


def test_a_folder_that_is_not_there_is_named(prefect, tmp_path):
    parameters = ("-p", "dataset=voc21", "-p", f"data_root={tmp_path / 'nowhere'}")
    run = prefect.run(*RUN, *parameters, "--flow-run-name", "nowhere", "--watch")
    assert run.returncode == 1
    said = of_run(prefect, "nowhere")["state"]["message"]
    assert str(tmp_path / "nowhere") in said
    assert "data_root" in said
    assert "--" not in said
    assert "\n" not in said


def test_runs_of_all_deployments_wait_for_each_other_in_order(prefect, own, tmp_path):
    """By the limit of the pool, which is what guards a GPU."""
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    given = {"dataset": "custom", **paths, **TINY, "artifacts": tmp_path / "artifacts"}
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    for number, deployment in enumerate(("sclip-benchmark", "voc20", "sclip-benchmark")):
        named = ("deployment", "run", f"sclip-benchmark/{deployment}", *parameters)
        asked = prefect.run(*named, "-p", "data_root=null", "--flow-run-name", f"turn-{number}")
        assert asked.returncode == 0, asked.stdout + asked.stderr
    names = [f"turn-{number}" for number in range(3)]
    wait_for(lambda: all(of_run(prefect, n)["end_time"] for n in names), 200)
    runs = [of_run(prefect, name) for name in names]
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * 3
    for before, after in pairwise(runs):
        assert before["end_time"] <= after["start_time"]


def test_the_automation_for_zombies_can_be_made(prefect):
    made = prefect.run("automation", "create", "--from-file", "zombies.yaml")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "sclip-zombies" in prefect.run("automation", "ls").stdout
