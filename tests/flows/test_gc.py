"""`sclip gc`: looks first, removes only when told to, and says what it did."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def store(tmp_path: Path, scenes_runs: Path) -> Path:
    """A copy of the artifacts of four runs, and data that no row uses."""
    root = Path(shutil.copytree(scenes_runs, tmp_path / "artifacts"))
    lost = next(root.glob("refine/*/segments/*/c")) / "77"
    lost.write_bytes(b"x" * 3000)
    return root


def tree(root: Path) -> set[Path]:
    return {
        path for path in root.rglob("*") if path.suffix != ".lock" and ".lease" not in str(path)
    }


def test_nothing_is_removed_unasked(sclip, store):
    before = tree(store)
    code, out, err = sclip("gc", "--artifacts", store)
    assert (code, err) == (0, "")
    assert "data that no row uses" in out
    assert "2.9 KiB can be removed: sclip gc --delete" in out
    assert tree(store) == before


def test_delete(sclip, store):
    before = tree(store)
    code, out, _ = sclip("gc", "--delete", "--artifacts", store)
    assert code == 0
    assert "2.9 KiB removed" in out
    (gone,) = before - tree(store)
    assert gone.name == "77"
    assert sclip("gc", "--artifacts", store)[1] == f"nothing to remove in {store}\n"


def test_artifacts_that_no_run_refers_to(sclip, store):
    for path in (store / "results" / "runs").iterdir():
        path.unlink()
    assert "no run refers to it" not in sclip("gc", "--artifacts", store)[1]
    assert "no run refers to it" in sclip("gc", "--older-than", "0", "--artifacts", store)[1]
    for path in store.glob("*/*/*"):
        os.utime(path, (1, 1))
    for path in store.glob("*/*"):
        os.utime(path, (1, 1))
    code, _, _ = sclip("gc", "--delete", "--artifacts", store)
    assert code == 0
    assert not list(store.glob("*/*/ledger.jsonl"))


def test_what_runs_refer_to_must_be_known(sclip, store):
    path = next((store / "results" / "runs").iterdir())
    path.write_bytes(b"torn")
    code, _, err = sclip("gc", "--delete", "--artifacts", store)
    assert code == 2
    assert err.startswith("sclip: cannot tell what the runs refer to: ")
    assert len(err.splitlines()) == 1


def test_check(sclip, store):
    code, out, _ = sclip("gc", "--check", "--artifacts", store)
    assert code == 0
    assert " rows checked: 0 damaged, 0 other faults" in out
    chunk = next(store.glob("refine/*/segments/*/c/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    before = tree(store)
    code, out, _ = sclip("gc", "--check", "--artifacts", store)
    assert code == 1
    assert "rows are damaged" in out
    assert tree(store) == before
    code, out, _ = sclip("gc", "--check", "--delete", "--artifacts", store)
    assert "rows struck: the next run that needs them computes them again" in out
    code, out, _ = sclip("gc", "--check", "--artifacts", store)
    assert (code, "0 damaged" in out) == (0, True)


def test_no_such_folder(sclip, tmp_path):
    code, _, err = sclip("gc", "--artifacts", tmp_path / "none")
    assert code == 2
    assert err.startswith("sclip: no folder ")
    assert not (tmp_path / "none").exists()
