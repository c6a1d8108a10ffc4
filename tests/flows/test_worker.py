"""The recipe of the README on loopback: server, pool, deploy, worker, run, watch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import pytest

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
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "prefect", *arguments]

    def start(self, log: Path, *arguments: str) -> None:
        self.processes.append(
            subprocess.Popen(
                self.command(*arguments),
                cwd=ROOT,
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


def test_a_cancelled_run_keeps_its_rows(prefect, own, tmp_path):
    """The worker sends SIGTERM, which Prefect raises in the flow as a class of its own."""
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    artifacts = tmp_path / "artifacts"
    given = {"dataset": "custom", **paths, **TINY, "artifacts": artifacts, "pamr_steps": 1000}
    given |= {"batch_size": 1, "workers": 0}
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    assert prefect.run(*RUN, *parameters, "--flow-run-name", "cancelled").returncode == 0
    for _ in range(1200):
        if list(artifacts.glob("refine/*/manifest.json")):  # which is at its first image
            break
        time.sleep(0.1)
    run = next(r for r in prefect.read("flow_runs") if r["name"] == "cancelled")
    assert prefect.run("flow-run", "cancel", run["id"]).returncode == 0
    for _ in range(600):
        run = next(r for r in prefect.read("flow_runs") if r["name"] == "cancelled")
        if run["state_type"] == "CANCELLED":
            break
        time.sleep(0.1)
    assert run["state_type"] == "CANCELLED", (prefect.home / "worker.log").read_text()
    time.sleep(1)  # the process is told first, and ends after the image that it is at
    assert len(ledger_ids(artifacts, "dense_features")) == 3
    assert 1 <= len(ledger_ids(artifacts, "refine")) < 3
