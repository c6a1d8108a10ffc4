"""`sclip gc` and what was made of a user's data: drawn label maps, unpacked Parquet files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sclip_core.maintenance.collect import find_garbage, made_of_data, remove
from sclip_core.store.leases import Lease

from .conftest import flags, write_own
from .test_ground_truth import class_maps, coco
from .test_parquet import table

DAY = 86_400.0


@pytest.fixture(params=["ground_truth", "unpacked"])
def command(request, tmp_path) -> list[str]:
    """A run that draws label maps, or unpacks Parquet files."""
    own = write_own(tmp_path / "own", 2)
    given: dict[str, Path] = {}
    if request.param == "unpacked":
        pq.write_table(table(own), tmp_path / "set.parquet")
        given = {"images": tmp_path / "set.parquet", "labels": tmp_path / "set.parquet"}
    else:
        given = {"labels": coco(class_maps(own), tmp_path / "all.json")}
    return ["run", "--direct", *flags(own, tmp_path / "artifacts", **given)]


@pytest.fixture
def made(command, sclip, tmp_path) -> Path:
    """The folder that the run has made."""
    code, _, err = sclip(*command)
    assert code == 0, err
    (folder,) = made_of_data(tmp_path / "artifacts")
    return folder


def age(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in (folder, *folder.glob("*.json*")):
        os.utime(path, (then, then))


def garbage(folder: Path, older_than: float = 7) -> list:
    root = folder.parents[1]
    return list(find_garbage(root, Lease(root), older_than))


def test_it_is_kept_until_no_run_has_used_it_for_a_week(made, command, sclip, tmp_path):
    gc = ["gc", "--artifacts", tmp_path / "artifacts"]
    assert garbage(made, older_than=0) == []  # less than an hour old
    age(made, 6)
    assert garbage(made) == []
    age(made, 8)
    code, out, _ = sclip(*gc)
    assert code == 0
    assert "no run has used it for 8 days" in " ".join(out.split())
    assert made.is_dir()
    assert sclip(*gc, "--older-than", "9", "--delete")[0] == 0
    assert sclip(*gc, "--check", "--delete")[0] == 0
    assert made.is_dir()
    code, _, err = sclip(*command)  # a use
    assert code == 0, err
    assert garbage(made) == []


def test_it_is_removed_and_made_again_with_the_same_scores(made, command, sclip, tmp_path):
    others = sorted(path for path in tmp_path.rglob("*") if path.is_file() and made not in
                    path.parents and ".lease" not in str(path))  # fmt: skip
    age(made, 8)
    code, out, _ = sclip("gc", "--artifacts", tmp_path / "artifacts", "--delete")
    assert (code, made.exists()) == (0, False), out
    assert all(path.is_file() for path in others)
    code, _, err = sclip(*command)
    assert code == 0, err
    assert "2 images to do" not in err  # the same bytes, so nothing is computed again
    assert made.is_dir()


def test_a_run_in_progress_keeps_it(made):
    age(made, 8)
    (found,) = garbage(made)
    running = Lease(made.parents[1])
    running.use([made])
    assert garbage(made) == []
    assert not remove(found, made.parents[1], Lease(made.parents[1]))
    running.close()
    os.utime(made)  # a run used it after the look
    assert not remove(found, made.parents[1], Lease(made.parents[1]))
    age(made, 9)
    assert remove(found, made.parents[1], Lease(made.parents[1]))


def test_other_folders_of_these_names_are_left_alone(made, tmp_path):
    mine = made.with_name("my-pictures")
    shutil.copytree(made, mine)
    age(mine, 99)
    made.with_name("00aa").symlink_to(mine)
    assert made_of_data(tmp_path / "artifacts") == [made]
