"""A full disk, an interrupt, a damaged file: nothing half-written, and the next run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.stages.encoding import EncodingStage
from sclip_core.results.files import TABLES
from sclip_core.segmentation import Refiner

from ..pipeline.conftest import areas
from .conftest import flags


@pytest.fixture
def run(sclip, small, tmp_path):
    """A direct run: (exit code, lines for the user, all lines with progress)."""

    def command(*arguments: object) -> tuple[int, list[str], list[str]]:
        given = flags(small, tmp_path / "artifacts", batch_size=1, workers=0)
        code, _, err = sclip("run", "--direct", *given, *arguments)
        assert "Traceback" not in err
        lines = err.splitlines()
        return code, [line for line in lines if line.startswith("sclip: ")], lines

    return command


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small) -> Path:
    """Artifacts of a run that nothing disturbs."""
    from flows import cli

    root = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(["run", "--direct", *flags(small, root)]) == 0
    return root


@pytest.fixture
def artifacts(tmp_path, undisturbed) -> Path:
    """A copy of them, where ``run`` looks."""
    return Path(shutil.copytree(undisturbed, tmp_path / "artifacts"))


def full_after(calls: int):
    """An ``fsync`` that finds the disk full after some calls, and the end of the file cut off."""
    fsync = os.fsync

    def replacement(handle: int) -> None:
        nonlocal calls
        calls -= 1
        if calls >= 0:
            return fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.is_file() and path.name != "zarr.json":  # which is renamed when it is whole
            os.truncate(path, max(path.stat().st_size - 7, 0))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return replacement


def test_disk_full(run, tmp_path, undisturbed, monkeypatch):
    """At every third time that something is made durable; what was stored before stays."""
    root = tmp_path / "artifacts"
    lines = []
    for calls in range(0, 100, 3):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full_after(calls))
            code, said, _ = run()
        if code == 0:
            break
        (line,) = said
        assert code == 2
        assert "No space left on device" in line
        assert "free some space" in line
        assert "run again" in line
        lines.append(line)
    assert len(lines) > 3
    assert run()[0] == 0
    assert areas(root) == areas(undisturbed)
    assert not list(root.rglob(".writing*"))


@pytest.mark.parametrize("stage", ["text_bank", "dense_features", "refine", "metrics", "results"])
def test_disk_full_in_every_stage(run, artifacts, undisturbed, monkeypatch, stage):
    monkeypatch.setattr(os, "fsync", full_after(0))
    code, (line,), _ = run("--force", stage)
    assert code == 2
    assert f"/{stage}" in line
    monkeypatch.undo()
    assert run()[0] == 0
    assert areas(artifacts) == areas(undisturbed)


@pytest.mark.parametrize(
    ("cls", "method", "stage"),
    [
        (CLIP, "encode_word", "text_bank"),
        (EncodingStage, "_encode_windows", "dense_features"),
        (Refiner, "labels_at", "refine"),
    ],
)
def test_interrupted(run, tmp_path, undisturbed, monkeypatch, cls, method, stage):
    compute, calls = getattr(cls, method), []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*arguments, **options)

    monkeypatch.setattr(cls, method, interrupted)
    code, lines, _ = run()
    assert (code, lines) == (130, ["sclip: stopped; what was computed is kept"])
    monkeypatch.undo()
    code, _, progress = run()
    assert code == 0
    assert any(line.startswith(f"{stage}: 1 of 3") for line in progress)
    assert areas(tmp_path / "artifacts") == areas(undisturbed)


@pytest.mark.flow
@pytest.mark.slow
def test_interrupted_flow(own, tmp_path):
    """Ctrl-C while Prefect runs the stages: one line, and no more than that."""
    given = flags(own, tmp_path / "artifacts", pamr_steps=1000, workers=0)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")},
        # where the tests run in the background, Ctrl-C is ignored by all that they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("refine: "):
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, "".join(said)
    assert said[-1] == "sclip: stopped; what was computed is kept\n"
    assert not [line for line in said if "Traceback" in line]


class TestResults:
    @pytest.mark.parametrize("content", [b"", b"junk", None])
    def test_unreadable(self, sclip, artifacts, content):
        path = artifacts / "results" / "runs" / "other.parquet"
        if content is None:
            pq.write_table(pa.table({"a": [1]}), path)
        else:
            path.write_bytes(content)
        code, out, err = sclip("results", "--artifacts", artifacts)
        (line,) = err.splitlines()
        assert code == 0  # the other run is listed
        assert out.count("custom-") == 1
        assert line.startswith(f"sclip: {path} ")
        assert "left out: move it away" in line

    @pytest.mark.parametrize("table", TABLES)
    def test_of_this_run(self, sclip, run, artifacts, table):
        (path,) = (artifacts / "results" / table).iterdir()
        path.write_bytes(path.read_bytes()[:-9])
        code, out, err = sclip("report", path.stem, "--artifacts", artifacts)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"sclip: {path} ")
        assert "writes it again" in err
        code, _, lines = run()
        assert code == 0
        (line,) = (line for line in lines if str(path) in line and "note" in line)
        assert line.startswith(f"note: {path} cannot be read")
        assert line.endswith(": the run's tables are written again")
        code, _, lines = run()
        assert not [line for line in lines if "again" in line]

    def test_none(self, sclip, tmp_path):
        code, _, err = sclip("results", "--artifacts", tmp_path)
        assert code == 2
        assert "`sclip run` makes them" in err


def test_damaged_words(run, artifacts):
    """Of which every image needs all."""
    (chunk,) = (artifacts / "text_bank").rglob("c/0/0")
    chunk.write_bytes(b"torn")
    code, _, lines = run("--pamr-steps=1")
    assert code == 0
    assert any("text_bank: stored data of 3 words" in line for line in lines)
