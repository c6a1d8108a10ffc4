"""``sclip freeze``, and ``sclip run --config`` with what it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows.parameters import in_parameters
from sclip_core.config import resolve_several

from ..conftest import TINY
from .conftest import flags

MODEL = [f"--{name}={value}" for name, value in TINY.items()]


@pytest.fixture
def frozen(small, tmp_path, sclip) -> Path:
    """The file of a run over the three small pictures."""
    assert sclip("run", "--direct", *flags(small, tmp_path / "a"))[0] == 0
    code, out, err = sclip("freeze", "-o", tmp_path / "run.yaml", "--artifacts", tmp_path / "a")
    assert code == 0, err
    assert out.splitlines() == [str(tmp_path / "run.yaml")]
    return tmp_path / "run.yaml"


def test_the_same_run_by_its_own_comment(frozen, small, tmp_path, sclip, monkeypatch):
    """The line at the head of the file, with the paths filled in, from another folder."""
    monkeypatch.chdir(tmp_path)
    moved = Path(shutil.copytree(small, tmp_path / "moved"))
    (moved / "classes.txt").unlink()
    line = frozen.read_text().splitlines()[1]
    assert line == "#   sclip run --config run.yaml --images DIR --labels DIR --model FILE " + (
        "--pretrained FILE"
    )
    data = ["--images", "moved/images", "--labels", "moved/labels"]
    code, out, err = sclip(
        "run", "--direct", "--config", "run.yaml", *data, *MODEL, "--artifacts", "b"
    )
    assert code == 0, err
    run_id = yaml.safe_load(frozen.read_text())["frozen"]["run_id"]
    assert out.splitlines()[-1] == f"same run as frozen: {run_id}, mIoU equal to the last digit"

    code, out, _ = sclip(
        "plan", "--config", "run.yaml", *data, *MODEL, "--artifacts", "b", "--json"
    )
    assert {stage["state"] for stage in json.loads(out)} == {"complete"}
    keys = yaml.safe_load(frozen.read_text())["frozen"]["keys"]
    assert {stage["stage"]: stage["key"] for stage in json.loads(out)} == keys


def test_what_differs_is_one_line(frozen, small, tmp_path, sclip):
    data = ["--images", small / "images", "--labels", small / "labels", *MODEL]
    given = ["--config", frozen, *data, "--artifacts", tmp_path / "b"]
    for command in (["run", "--direct"], ["plan"]):
        code, _, err = sclip(*command, *given, "--pamr")
        assert (code, err) == (
            2,
            "sclip: not the run of run.yaml: pamr_steps is 0 there, 10 here; add --allow-changes "
            "to run it all the same\n",
        )
    code, out, err = sclip("run", "--direct", *given, "--pamr-steps=1,2", "--allow-changes")
    assert code == 0, err
    assert "note: not the run of run.yaml: pamr_steps is 0 there, 1 here" in err
    lines = [line for line in out.splitlines() if line.startswith("not the run of run.yaml")]
    assert len(lines) == 2
    assert all("the key of refine is the first that differs" in line for line in lines)


def test_a_wrong_ending_and_an_unknown_run(small, tmp_path, sclip):
    code, _, err = sclip("freeze", "-o", tmp_path / "run.txt", "--artifacts", tmp_path)
    assert (code, err.strip().partition(": the")[2]) == (
        2, " frozen run is written as .yaml, .yml; change the ending"
    )  # fmt: skip
    code, _, err = sclip("freeze", "-o", tmp_path / "run.yaml", "--artifacts", tmp_path)
    assert code == 2
    assert "no runs under" in err


def test_the_parameters_of_the_flow(frozen, small):
    """A deployment's parameter ``config`` takes the file too; messages are in its words."""
    places = {"images": small / "images", "labels": small / "labels"}
    [settings] = resolve_several(str(frozen), None, **places, **TINY)
    assert settings.frozen == frozen
    assert settings.classes == frozen
    assert in_parameters("add --allow-changes to run it") == "add allow_changes to run it"


def test_bibtex_of_runs(scenes_runs, tmp_path, sclip):
    artifacts = ["--artifacts", scenes_runs]
    code, printed, _ = sclip("cite", "latest", *artifacts)
    assert code == 0
    assert printed.startswith("@misc{sclip-benchmark,\n")
    assert "@article{achanta2012slic,\n" in printed
    code, out, _ = sclip("cite", "-o", tmp_path / "used.bib", *artifacts)
    assert (code, out) == (0, f"{tmp_path / 'used.bib'}\n")
    assert (tmp_path / "used.bib").read_text("utf-8") == printed
    code, _, err = sclip("cite", "-o", tmp_path / "used.txt", *artifacts)
    assert (code, err.count("\n")) == (2, 1)
    assert "BibTeX is written as .bib" in err
