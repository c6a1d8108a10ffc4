"""Digests are remembered, and never those of another file."""

from __future__ import annotations

import builtins
import hashlib
import os
from pathlib import Path

import pytest

from sclip_core.config import ImageError
from sclip_core.store.digests import Digests


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number} ü.jpg" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number // 2]) * 100)
    return paths


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "artifacts" / "digests.jsonl"


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The pictures that were opened since."""
    real, names = open, []

    def spy(file, *arguments, **options):
        if str(file).endswith(".jpg"):
            names.append(str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", spy)
    return names


def expected(files: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_digests(files, memory):
    assert Digests(memory).of_many(files) == expected(files)
    assert Digests(memory).of(files[3]) == expected(files)[3]
    assert Digests(memory).of_many([]) == []
    assert Digests(memory).of_many([files[0], files[0]]) == expected([files[0]] * 2)


def test_remembered(files, memory, opened):
    Digests(memory).of_many(files)
    assert len(opened) == 6
    opened.clear()
    lines = memory.read_bytes()
    assert Digests(memory).of_many(files) == [
        hashlib.sha256(bytes([number // 2]) * 100).hexdigest() for number in range(6)
    ]
    assert not opened
    assert memory.read_bytes() == lines


def test_by_absolute_path(files, memory, opened, monkeypatch):
    Digests(memory).of_many(files)
    opened.clear()
    monkeypatch.chdir(files[0].parent)
    Digests(memory).of(Path(files[0].name))
    assert not opened


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer" * 100),
        lambda path: (path.write_bytes(b"x" * 100), os.utime(path, ns=(1, 1))),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: (path.unlink(), path.hardlink_to(path.with_name("5 ü.jpg"))),
    ],
)
def test_a_changed_file_is_read_again(files, memory, opened, change):
    Digests(memory).of_many(files)
    opened.clear()
    change(files[0])
    found = Digests(memory).of_many(files)
    assert opened == [str(files[0])]
    assert found == expected(files)
    opened.clear()
    Digests(memory).of_many(files)
    assert not opened


def test_forgotten(files, memory, opened):
    digests = Digests(memory)
    digests.of_many(files)
    digests.forget(files[1])
    opened.clear()
    assert Digests(memory).of_many(files) is not None
    assert opened == [str(files[1])]


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_torn_memory(files, memory, cut):
    Digests(memory).of_many(files)
    memory.write_bytes(memory.read_bytes()[:-cut])
    assert Digests(memory).of_many(files) == expected(files)
    assert Digests(memory).of_many(files) == expected(files)
    assert set(Digests(memory)._known) == {str(path) for path in files}


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\n", b"5\n", b"[1, 2]\n", b"{}\n", b"\0" * 9, b"null\n"]
)
def test_junk_in_the_memory(files, memory, junk):
    Digests(memory).of_many(files[:3])
    with memory.open("ab") as file:
        file.write(junk)
    assert Digests(memory).of_many(files) == expected(files)
    assert len(Digests(memory)._known) == 6


def test_a_memory_that_cannot_be_written(files):
    """It only saves time: the store says so where it matters."""
    assert Digests(Path("/proc/nowhere/digests.jsonl")).of_many(files) == expected(files)


def test_a_file_that_cannot_be_read(files, memory, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = Digests(memory).of_many([tmp_path / "no", files[0], tmp_path, tmp_path / "pipe"])
    assert found[1] == expected(files)[0]
    assert "no cannot be read: No such file" in str(found[0])
    assert isinstance(found[0], ImageError)
    assert "is not a file" in str(found[2])
    assert "pipe is not a file" in str(found[3])
    with pytest.raises(ImageError, match="cannot be read"):
        Digests(memory).of(tmp_path / "no")


def test_second_pass_over_many_files_reads_none(tmp_path, memory, opened):
    paths = [tmp_path / f"{number}.jpg" for number in range(2000)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    first = Digests(memory).of_many(paths)
    assert len(opened) == len(set(first)) == 2000
    opened.clear()
    assert Digests(memory).of_many(paths) == first
    assert not opened
