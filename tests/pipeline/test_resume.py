"""A process killed in the middle loses at most the batch that it was at."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import TINY
from .conftest import areas, computed, run, write_voc

COUNT = 12
SETTINGS = {"pamr_steps": 4, "batch_size": 1, "workers": 0}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("many") / "VOC2012", COUNT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, many):
    root = tmp_path_factory.mktemp("undisturbed")
    return root, run(root, many, **SETTINGS)


def ledger_ids(root: Path, stage: str) -> list[str]:
    lines = [line for path in root.glob(f"{stage}/*/ledger.jsonl") for line in path.open()]
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row["id"] for entry in whole for row in entry["rows"]]


def start(root: Path, data: Path) -> subprocess.Popen[bytes]:
    flags = {**TINY, **SETTINGS, "data_root": data, "artifacts": root, "dataset": "voc21"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    command = [sys.executable, "-m", "flows.cli", "run", "--direct", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "stage", ["dense_features", pytest.param("refine", marks=pytest.mark.slow)]
)
def test_killed(tmp_path, many, undisturbed, stage):
    root = tmp_path / "artifacts"
    process = start(root, many)
    while len(ledger_ids(root, stage)) < 3:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = ledger_ids(root, stage)
    assert 3 <= len(there) < COUNT

    finished = run(root, many, **SETTINGS)
    assert computed(finished)[stage] == COUNT - len(there)
    ids = ledger_ids(root, stage)
    assert len(ids) == len(set(ids)) == COUNT
    assert finished.outcomes["text_bank"].state == "cached"

    other, whole = undisturbed
    assert areas(root) == areas(other)
    for score in ("miou", "macc", "aacc", "run_id"):
        assert finished.row[score] == whole.row[score]


def each_once(root: Path, stage: str) -> bool:
    ids = ledger_ids(root, stage)
    return len(ids) == len(set(ids)) == COUNT


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path, many, undisturbed):
    """Started together with one command, they compute every row once."""
    root = tmp_path / "artifacts"
    processes = [start(root, many) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    for stage in ("dense_features", "refine", "metrics"):
        assert each_once(root, stage), stage
    words = ledger_ids(root, "text_bank")
    assert len(words) == len(set(words))
    assert areas(root) == areas(undisturbed[0])
    assert computed(run(root, many, **SETTINGS)) == {}


@pytest.mark.slow
def test_one_of_two_is_killed(tmp_path, many, undisturbed):
    """The other takes over what it had claimed; nothing is lost, nobody waits for the dead."""
    root = tmp_path / "artifacts"
    one, two = (start(root, many) for _ in range(2))
    while len(ledger_ids(root, "dense_features")) < 3:
        assert one.poll() is None, "finished before it could be killed"
        time.sleep(0.005)
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert two.wait(120) == 0
    assert each_once(root, "refine")
    assert areas(root) == areas(undisturbed[0])
