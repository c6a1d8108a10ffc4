"""Rows are claimed by one process; claims end with it, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sclip_core.store import leases
from sclip_core.store.files import DiskError, host
from sclip_core.store.leases import Lease

CLAIMER = """
import sys, time
from pathlib import Path
from sclip_core.store.leases import Lease
root = Path(sys.argv[1])
lease = Lease(root)
print(*lease.claim(root / "refine/ab", sys.argv[2].split(","), int(sys.argv[3])), flush=True)
time.sleep(600)
"""
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tmp_path / "refine" / "ab"


@pytest.fixture
def other(tmp_path):
    """Another process that claims: started when it is called, killed in the end."""
    started = []

    def start(ids: str, most: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIMER, tmp_path, ids, str(most)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        process.claimed = process.stdout.readline().split()
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_each_row_once(tmp_path, artifact):
    one, two = Lease(tmp_path), Lease(tmp_path)
    assert one.claim(artifact, IDS, 2) == ["a", "b"]
    assert two.claim(artifact, IDS, 1) == ["c"]
    assert one.claim(artifact, IDS, 9) == ["a", "b", "d"]  # its own are no obstacle
    assert two.claim(artifact, IDS, 9) == ["c"]
    assert set(two.taken(artifact)) == {"a", "b", "d"}
    assert two.taken(artifact)["a"] == f"process {os.getpid()}"
    assert two.claim(artifact.with_name("cd"), IDS, 9) == IDS  # of another artifact


def test_what_is_given_back(tmp_path, artifact):
    one, two = Lease(tmp_path), Lease(tmp_path)
    one.claim(artifact, IDS, 4)
    one.release(artifact, ["b", "z"])
    assert two.claim(artifact, IDS, 9) == ["b"]
    one.close()
    assert two.claim(artifact, IDS, 9) == IDS
    two.close()
    assert sorted(path.name for path in (tmp_path / leases.FOLDER).iterdir()) == ["claims.lock"]


def test_an_iterator_is_read_as_far_as_needed(tmp_path, artifact):
    one, two = Lease(tmp_path), Lease(tmp_path)
    two.claim(artifact, ["a", "c"], 2)
    ids = iter(IDS)
    assert one.claim(artifact, ids, 1) == ["b"]
    assert list(ids) == ["c", "d"]


def test_a_lease_dies_with_its_process(tmp_path, artifact, other):
    process = other("a,b", 2)
    assert process.claimed == ["a", "b"]
    mine = Lease(tmp_path)
    assert mine.claim(artifact, IDS, 9) == ["c", "d"]
    assert mine.taken(artifact) == dict.fromkeys("ab", f"process {process.pid}")
    assert mine.in_use() == {"refine/ab"}
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert mine.taken(artifact) == {}
    assert mine.in_use() == set()
    assert mine.claim(artifact, IDS, 9) == IDS


def test_a_stopped_process_keeps_nobody_waiting_for_long(tmp_path, artifact, other, monkeypatch):
    process = other("a,b", 2)
    process.send_signal(signal.SIGSTOP)
    mine = Lease(tmp_path)
    assert mine.claim(artifact, IDS, 9) == ["c", "d"]
    monkeypatch.setattr(leases, "STOPPED", 0.1)
    time.sleep(0.3)
    assert mine.claim(artifact, IDS, 9) == IDS
    assert mine.in_use() == {"refine/ab"}  # it may go on: nothing of it is cleaned up
    process.send_signal(signal.SIGCONT)
    time.sleep(leases.HEARTBEAT + 0.5)
    monkeypatch.setattr(leases, "STOPPED", 60)
    assert set(mine.taken(artifact)) == {"a", "b"}


def test_another_host_lives_as_long_as_its_heart_beats(tmp_path, artifact, monkeypatch):
    """Whatever its clock says: what counts is that the time of its file changes."""
    folder = tmp_path / leases.FOLDER
    folder.mkdir()
    path = folder / "00000000-12-0123abcd.jsonl"
    path.write_text(json.dumps({"artifact": "refine/ab", "claim": ["a"]}) + "\n")
    wrong = time.time() - 3600
    os.utime(path, (wrong, wrong))
    mine = Lease(tmp_path)
    assert mine.claim(artifact, IDS, 9) == ["b", "c", "d"]
    assert mine.taken(artifact) == {"a": "process 12 on another host"}
    monkeypatch.setattr(leases, "LOST", 0.2)
    for beat in range(3):
        time.sleep(0.1)
        os.utime(path, (wrong + beat + 1, wrong + beat + 1))
        assert set(mine.taken(artifact)) == {"a"}
    time.sleep(0.3)
    assert mine.taken(artifact) == {}


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff\n", b"[]\n", b"5\n", b'{"artifact": 1}\n', b"[" * 9999 + b"\n", b'{"use": 5}\n'],
)
def test_odd_leases_say_nothing(tmp_path, artifact, junk):
    folder = tmp_path / leases.FOLDER
    folder.mkdir()
    for name in ("00000000-12-0123abcd.jsonl", f"{host()}-999999999-0123abcd.jsonl", "x.jsonl"):
        (folder / name).write_bytes(junk)
    assert Lease(tmp_path).claim(artifact, IDS, 9) == IDS


def test_leases_of_hosts_that_are_gone_are_removed(tmp_path, artifact):
    """Containers have a new name each time; what they left would count as used for ever."""
    folder = tmp_path / leases.FOLDER
    folder.mkdir()
    path = folder / "00000000-12-0123abcd.jsonl"
    path.write_text(json.dumps({"use": ["refine/ab"]}) + "\n")
    os.utime(path, (1, 1))
    mine = Lease(tmp_path)
    mine.use([artifact])
    assert not path.exists()
    assert mine.in_use() == set()


def test_a_lease_that_is_begun_again(tmp_path, artifact):
    """The others see its new claims, and not the old ones."""
    one, two = Lease(tmp_path), Lease(tmp_path)
    one.claim(artifact, [f"old {n}" for n in range(50)], 50)
    assert len(two.taken(artifact)) == 50
    one.close()
    one.claim(artifact, ["new"], 1)
    assert list(two.taken(artifact)) == ["new"]


def test_a_fork_does_not_end_the_lease(tmp_path, artifact):
    mine = Lease(tmp_path)
    mine.claim(artifact, IDS, 1)
    child = os.fork()
    if child == 0:
        mine.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert set(Lease(tmp_path).taken(artifact)) == {"a"}


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    lease = Lease(tmp_path / "file")
    lease.use([tmp_path / "file/refine/ab"])  # a run that finds everything needs no lease
    with pytest.raises(DiskError, match=r"cannot be written|is a file"):
        lease.claim(tmp_path / "file/refine/ab", IDS, 1)
