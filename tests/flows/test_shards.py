"""Parts of a run: jobs that know nothing of each other, and workers of Prefect."""

from __future__ import annotations

import json

import pytest

from sclip_core import results
from sclip_core.config import UserError
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.pipeline.parts import part_of

from ..pipeline.conftest import areas
from ..pipeline.test_resume import ledger_ids
from .conftest import flags
from .test_worker import Prefect


def test_parts_add_up(sclip, small, tmp_path):
    code, out, said = sclip("run", "--direct", *flags(small, tmp_path / "one"))
    assert code == 0, said
    images = []
    for part in range(3):
        code, out, said = sclip("run", *flags(small, tmp_path / "a"), "--shard", f"{part}/3")
        assert (code, out) == (0, "")
        images.append(len(ledger_ids(tmp_path / "a", "metrics")) if "metrics" in said else 0)
    assert not (tmp_path / "a" / "results").exists()
    assert max(images) == 3
    code, _, said = sclip("run", "--direct", *flags(small, tmp_path / "a"))
    assert code == 0
    stages = [line.split()[:2] for line in said.splitlines() if "  " in line]
    assert [state for name, state in stages if name != "results"] == ["cached"] * 4
    assert areas(tmp_path / "a") == areas(tmp_path / "one")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8/8", "numbered from 0, the last of 8 is 7/8 .an array of SLURM's: --array=0-7."),
        ("0/0", "expected the number of a part and how many"),
        ("3", "expected the number of a part and how many: 0/8"),
        ("-1/8", "expected the number of a part"),
    ],
)
def test_parts_that_there_are_not(text, says):
    with pytest.raises(UserError, match=says):
        part_of(text)


@pytest.mark.flow
@pytest.mark.slow
def test_two_workers_share_a_run(sclip, tmp_path):
    """Labels and results are those of one process."""
    write_scenes(tmp_path / "scenes", 200)
    given = {"preset": "demo", "dataset": "scenes", "data_root": tmp_path / "scenes"}
    own = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    code, _, said = sclip("run", "--direct", *own, f"--artifacts={tmp_path / 'one'}")
    assert code == 0, said
    prefect = Prefect(home := tmp_path / "prefect")
    home.mkdir()
    try:
        prefect.start(home / "server.log", "server", "start", "--port", str(prefect.port))
        prefect.wait_for_server()
        for pool in ("local", "shards"):
            assert prefect.run("work-pool", "create", pool, "--type", "process").returncode == 0
        deployed = prefect.run("--no-prompt", "deploy", "--prefect-file", "shards.yaml", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        prefect.start(home / "local.log", "worker", "start", "--pool", "local")
        for name in ("a", "b"):
            one = ("--pool", "shards", "--name", name, "--limit", "1")
            prefect.start(home / f"{name}.log", "worker", "start", *one)
        asked = {**given, "artifacts": tmp_path / "two", "parts": 2}
        parameters = json.dumps(asked, default=str)
        name = "sclip-spread/sclip-spread"
        done = prefect.run("deployment", "run", name, "--params", parameters, "--watch")
        logs = "".join((home / f"{log}.log").read_text() for log in ("local", "a", "b"))
        assert done.returncode == 0, done.stdout + logs
        assert all((home / f"{log}.log").read_text().count("Completed") for log in "ab"), logs
    finally:
        prefect.stop()
    assert areas(tmp_path / "two") == areas(tmp_path / "one")
    ids = [results.runs(tmp_path / each)["run_id"][0].as_py() for each in ("one", "two")]
    assert ids[0] == ids[1]
