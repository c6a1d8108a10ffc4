"""Digests are remembered, and never those of another file."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sclip_core.config import ImageError, UserError
from sclip_core.store.digest_columns import Files, Record
from sclip_core.store.digests import Digests, State, _read_line


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


def keeping_time(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file as ``cp -p``, ``rsync -a`` and archives do: its time is as before."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replaced(path: Path) -> None:
    """Put another file of the same size in its place."""
    path.with_suffix(".new").write_bytes(b"y" * 100)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer" * 100),
        lambda path: (path.write_bytes(b"x" * 100), os.utime(path, ns=(1, 1))),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: keeping_time(path, lambda path: path.write_bytes(b"x" * 100)),
        lambda path: keeping_time(path, replaced),
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


def test_a_link_to_another_file_is_read(files, memory, opened):
    """Which gets another change time by the link, so that it is read again too."""
    Digests(memory).of_many(files)
    opened.clear()
    files[0].unlink()
    files[0].hardlink_to(files[5])
    assert Digests(memory).of_many(files) == expected(files)
    assert {files[0], files[5]} == set(map(Path, opened[:2]))


def test_a_file_that_was_just_written(files, memory):
    """The kernel's clock ticks every 4 ms: a change within a tick would have the same times."""
    for number in range(20):
        files[0].write_bytes(b"%02d" % number * 50)
        assert Digests(memory).of(files[0]) == expected(files[:1])[0]


@pytest.fixture
def elsewhere(files, tmp_path) -> list[Path]:
    """The same files, as another mount point would show them: same names, times and inodes."""
    folder = tmp_path / "elsewhere"
    folder.symlink_to(tmp_path, target_is_directory=True)
    return [folder / path.name for path in files]


def test_another_mount_point(files, elsewhere, memory, opened):
    Digests(memory).of_many(files)
    opened.clear()
    assert Digests(memory).of_many(elsewhere) == Digests(memory, keep=False).of_many(files)
    assert not opened
    assert len(lines(memory)) == 12  # known by both paths from then on


@pytest.mark.parametrize(
    "change", [replaced, lambda path: path.write_bytes(b"x" * 100), lambda p: p.rename(p)]
)
def test_changed_at_another_mount_point(files, elsewhere, memory, opened, change):
    Digests(memory).of_many(files)
    keeping_time(files[0], change)
    opened.clear()
    found = Digests(memory).of_many(elsewhere)
    assert opened in ([str(elsewhere[0])], [])
    assert found == expected(files)


def test_forgotten_at_another_mount_point(files, elsewhere, memory, opened):
    digests = Digests(memory)
    digests.of_many(files)
    digests.forget(elsewhere[1])
    opened.clear()
    assert digests.of(elsewhere[1]) == hashlib.sha256(b"\0" * 100).hexdigest()
    assert Digests(memory).of(elsewhere[1]) == digests.of(elsewhere[1])
    assert opened == [str(elsewhere[1])]


@pytest.mark.parametrize("inode", [2**63 - 1, 2**63, 2**64 - 1])
def test_any_number_of_a_file(files, memory, inode, monkeypatch):
    real = State.of
    monkeypatch.setattr(State, "of", lambda status: real(status)._replace(inode=inode, mtime=-5))
    Digests(memory).of(files[0])
    known = Digests(memory).known(str(files[0]))
    assert (known.state.inode, known.state.mtime) == (inode, -5)
    assert known.sha256 == expected(files)[0]


@pytest.mark.parametrize("block", [1, 2, 5])
def test_in_columns(files, memory, opened, monkeypatch, block):
    """However few files are kept as objects."""
    monkeypatch.setattr("sclip_core.store.digests.BLOCK", block)
    digests = Digests(memory)
    for number, path in enumerate(files * 3):
        if number % 4 == 0:
            path.write_bytes(b"%d" % number * 50)
        if number % 5 == 0:
            digests.forget(path)
        for again in (digests, Digests(memory)):
            assert again.of_many(files) == expected(files)
    opened.clear()
    assert Digests(memory).of_many(files) == digests.of_many(files)
    assert not opened


class Tampered:
    """``hashlib.file_digest``, with a change of the file after it was read."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.left, self.real = path, times, hashlib.file_digest

    def __call__(self, file, kind):
        digest = self.real(file, kind)
        if self.left:
            self.left -= 1
            self.path.write_bytes(b"%03d" % self.left + b"z" * 97)
        return digest


def test_changed_while_it_is_hashed(files, memory, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", Tampered(files[0], 1))
        found = Digests(memory).of_many(files[:1])
    assert found == expected(files[:1]) == Digests(memory).of_many(files[:1])


def test_changed_all_the_time(files, memory, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", Tampered(files[0], 1000))
        (found,) = Digests(memory).of_many(files[:1])
    assert isinstance(found, ImageError)
    assert str(found) == f"{files[0]} was changed while it was in use: run again"
    assert Digests(memory).of_many(files[:1]) == expected(files[:1])


def test_unchanged(files, memory):
    digests = Digests(memory)
    with digests.unchanged(files[0], digests.of(files[0])):
        pass


@pytest.mark.parametrize("change", [replaced, lambda path: path.write_bytes(b"x" * 100)])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_changed_while_it_is_read(files, memory, change, when):
    digests = Digests(memory)
    digest = digests.of(files[0])
    if when == "before":
        keeping_time(files[0], change)
    read = []

    def load() -> None:
        with digests.unchanged(files[0], digest):
            read.append(files[0].read_bytes())
            keeping_time(files[0], change)

    with pytest.raises(UserError, match="jpg was changed while it was in use: run again"):
        load()
    assert bool(read) == (when == "meanwhile")
    assert digests.of(files[0]) == Digests(memory).of(files[0]) == expected(files)[0]


def test_gone_while_it_is_read(files, memory):
    digests = Digests(memory)
    digest = digests.of(files[0])
    with (
        pytest.raises(UserError, match="can no longer be read"),
        digests.unchanged(files[0], digest),
    ):
        files[0].unlink()
    with pytest.raises(ImageError, match="cannot be read"), digests.unchanged(files[0], digest):
        pytest.fail("there is nothing to read")


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
    assert all(Digests(memory).known(str(path)) for path in files)


def lines(memory: Path) -> list[list]:
    return [json.loads(line) for line in memory.read_text().splitlines() if line]


def write_lines(memory: Path, lines: Iterable[object]) -> None:
    memory.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize("fields", [[5], [5, 6], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [0], [2, 3]])
def test_exchanged_between_files(files, memory, opened, fields):
    """By hand: the digest alone, with its checksum, with size and times, ..."""
    Digests(memory).of_many(files)
    first, *others, last = lines(memory)
    for field in fields:
        first[field], last[field] = last[field], first[field]
    write_lines(memory, [first, *others, last])
    opened.clear()
    assert Digests(memory).of_many(files) == expected(files)
    assert {str(files[0]), str(files[5])} <= set(opened)


def test_every_flip_of_a_line(files, memory):
    Digests(memory).of_many(files[:1])
    sound = memory.read_bytes()
    for place in range(len(sound) * 8):
        flipped = bytearray(sound)
        flipped[place // 8] ^= 1 << place % 8
        memory.write_bytes(flipped)
        known = Digests(memory).known(str(files[0]))
        assert known is None or known.sha256 == expected(files)[0]


def test_lines_of_version_0_1_0(files, memory, opened):
    """They know neither change time nor inode: those files are read once more, and only once."""
    memory.parent.mkdir()
    status = [path.stat() for path in files]
    pairs = zip(files, status, strict=True)
    write_lines(memory, [[str(p), s.st_size, s.st_mtime_ns, "ab" * 32] for p, s in pairs])
    assert Digests(memory).of_many(files) == expected(files)
    opened.clear()
    assert Digests(memory).of_many(files) == [
        hashlib.sha256(bytes([number // 2]) * 100).hexdigest() for number in range(6)
    ]
    assert not opened


def test_does_not_grow_without_end(files, memory, monkeypatch):
    monkeypatch.setattr("sclip_core.store.digests.SPARE", 10)
    digests = Digests(memory)
    digests.of_many(files)
    memory.chmod(0o664)
    for _ in range(100):
        digests.forget(files[0])
        digests.of(files[0])
    assert len(lines(memory)) <= 2 * 6 + 10
    assert memory.stat().st_mode & 0o777 == 0o664
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]
    assert {line[0] for line in lines(memory)} == set(map(str, files))
    assert Digests(memory).of_many(files) == expected(files)


def test_written_anew_with_the_lines_of_others(files, memory, opened, monkeypatch):
    monkeypatch.setattr("sclip_core.store.digests.SPARE", 0)
    one, other = Digests(memory), Digests(memory)
    other.of_many(files[3:])
    for _ in range(10):
        one.forget(files[0])
        one.of(files[0])
    opened.clear()
    Digests(memory).of_many(files[3:])
    assert not opened


def test_not_kept(files, memory):
    assert Digests(memory, keep=False).of_many(files) == expected(files)
    assert not memory.parent.exists()


def test_a_memory_that_cannot_be_read(files, memory):
    memory.mkdir(parents=True)
    assert Digests(memory).of_many(files) == expected(files)


JUNK = [
    b"\xff\xfe\n",
    b"5\n",
    b"[1, 2]\n",
    b"{}\n",
    b"\0" * 9,
    b"null\n",
    b"[[], 1, 2, 3, 4, 5, 6]\n",
    b'["a", "1", 2.0, true, null, {}, []]\n',
    b"[" * 60_000 + b"\n",
    b"[" * 600_000 + b"\n",
    b'["a", ' + b"9" * 6000 + b', 1, 1, 1, "", ""]\n',
    b'["a", NaN, 1, 1, Infinity, "", ""]\n',
    b'["\\ud800", 1, 1, 1, 1, "", "\\udfff"]\n',
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk_in_the_memory(files, memory, junk):
    Digests(memory).of_many(files[:3])
    with memory.open("ab") as file:
        file.write(junk)
    assert Digests(memory).of_many(files) == expected(files)
    assert all(Digests(memory).known(str(path)) for path in files)


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


@given(
    st.lists(
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=50)
def test_any_line_but_ours_is_nothing(line):
    assert _read_line(json.dumps(line).encode()) is None


@given(st.binary(max_size=100))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_nothing(line):
    assert _read_line(line) is None


def test_second_pass_over_many_files_reads_none(tmp_path, memory, opened):
    paths = [tmp_path / f"{number}.jpg" for number in range(2000)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    first = Digests(memory).of_many(paths)
    assert len(opened) == len(set(first)) == 2000
    opened.clear()
    assert Digests(memory).of_many(paths) == first
    assert not opened


def test_times_of_whole_seconds_tell_nothing_at_another_path(files, elsewhere, memory, monkeypatch):
    """Images of two disks, made alike, may have the same names, sizes, times and inodes."""
    real = State.of
    plain = {"mtime": 0, "ctime": 5 * 10**9, "inode": 7}
    monkeypatch.setattr(State, "of", lambda status: real(status)._replace(**plain))
    Digests(memory).of_many(files)
    files[0].write_bytes(b"x" * files[0].stat().st_size)
    assert Digests(memory).of(elsewhere[0]) == expected(files)[0]


def test_files_are_looked_up_while_others_are_added():
    """By several threads, as when a million files are digested for the first time."""
    files, errors, done = Files(), [], threading.Event()
    before = sys.getswitchinterval()

    def look() -> None:
        while not done.is_set():
            try:
                for wanted in (-(2**63), *range(9_999, 60_000, 10_000), 2**63 - 1):
                    files.of_path(wanted)
                    files.of_same(wanted)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for first in range(0, 60_000, 10_000):
            files.add(Record(n, -n, 1, 1, 1, 1, bytes(32)) for n in range(first, first + 10_000))
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert not errors
    assert (files.of_path(59_999).same, files.of_same(-59_999).same) == (-59_999, -59_999)
