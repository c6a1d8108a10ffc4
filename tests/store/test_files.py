"""Files are there whole or not at all."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from sclip_core import UserError
from sclip_core.store.files import DiskError, writable_folder, write_whole, written_to


def test_written(tmp_path):
    write_whole(tmp_path / "a", lambda path: path.write_text("new"))
    assert (tmp_path / "a").read_text() == "new"
    write_whole(tmp_path / "a", lambda path: path.write_text("newer"))
    assert (tmp_path / "a").read_text() == "newer"
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["a"]


def test_the_longest_name(tmp_path):
    write_whole(tmp_path / ("x" * 255), lambda path: path.touch())
    assert os.listdir(tmp_path) == ["x" * 255]


@pytest.mark.parametrize(
    "fault", [KeyboardInterrupt, ZeroDivisionError, OSError(errno.ENOSPC, "full")]
)
def test_a_fault_leaves_what_was_there(tmp_path, fault):
    (tmp_path / "a").write_text("old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise fault

    with pytest.raises((KeyboardInterrupt, ZeroDivisionError, DiskError)):
        write_whole(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_onto_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DiskError, match="a cannot be written"):
        write_whole(tmp_path / "a", lambda path: path.touch())
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "words", "may_pass"),
    [
        (errno.ENOSPC, r"\(No space left on device\); free some space: run", False),
        (errno.EDQUOT, "free some space", False),
        (errno.EROFS, r"\(Read-only file system\); run", False),
        (errno.EACCES, r"\(Permission denied\)", False),
        (errno.EIO, "Input/output error", True),
        (errno.ESTALE, "Stale file handle", True),
    ],
)
def test_faults_of_the_disk(number, words, may_pass):
    with pytest.raises(DiskError, match=f"there/a cannot be written.*{words}") as raised:  # noqa: SIM117
        with written_to(Path("there/a"), "run again"):
            raise OSError(number, os.strerror(number))
    assert raised.value.may_pass == may_pass
    assert isinstance(raised.value, UserError)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (str(copy), copy.may_pass) == (str(raised.value), may_pass)


def test_faults_without_a_number():
    with pytest.raises(DiskError, match=r"\(encoder error\)"), written_to(Path("a")):
        raise OSError("encoder error")


def test_writable_folder(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(
        DiskError, match=r"file is a file, where a folder is needed; .* --artifacts DIR"
    ):
        writable_folder(tmp_path / "file")
    for path in (tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(DiskError, match=r"cannot be written .*--save-vis DIR"):
            writable_folder(path, "--save-vis")
