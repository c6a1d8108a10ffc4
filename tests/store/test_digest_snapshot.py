"""The snapshot of the memory of digests saves reading lines, and is never believed wrongly."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sclip_core.store import digests as module
from sclip_core.store import ledger_columns
from sclip_core.store.digests import Digests
from sclip_core.store.hex_columns import Hex
from sclip_core.store.ledger import Row
from sclip_core.store.ledger_rows import GrowingRows, missing, there


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "images" / f"{number} ü.jpg" for number in range(9)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
        os.utime(path, ns=(1, 1))
    return paths


@pytest.fixture
def memory(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "SAVED", 5)
    return tmp_path / "digests.jsonl"


def expected(files: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


@pytest.fixture
def read_lines(monkeypatch) -> list[bytes]:
    """The lines that were read since."""
    real, lines = module._read_line, []
    monkeypatch.setattr(module, "_read_line", lambda line: lines.append(line) or real(line))
    return lines


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The files that were read since."""
    real, paths = module._hashed, []
    monkeypatch.setattr(module, "_hashed", lambda path: paths.append(path) or real(path))
    return paths


def test_few_lines_have_none(files, memory):
    Digests(memory).of_many(files[:4])
    assert not memory.with_suffix(".arrow").exists()


def test_only_lines_after_it_are_read(files, memory, read_lines, hashed):
    Digests(memory).of_many(files[:7])
    read_lines.clear(), hashed.clear()
    first = Digests(memory)
    assert first.of_many(files[:7]) == expected(files[:7])
    assert not read_lines
    assert not hashed
    Digests(memory).of_many(files)
    assert hashed == [str(files[7]), str(files[8])]
    Digests(memory).of_many(files)
    assert len(read_lines) == 2
    assert first.of_many(files) == expected(files)


def test_what_others_append_is_in_it(files, memory, hashed):
    one, other = Digests(memory), Digests(memory)
    one.of_many(files[:4])
    other.of_many(files[4:])  # whose snapshot has the lines of both
    hashed.clear()
    memory.write_bytes(memory.read_bytes())
    assert Digests(memory, keep=False).of_many(files) == expected(files)
    assert not hashed


def test_none_is_written_by_who_keeps_nothing(files, memory, monkeypatch):
    monkeypatch.setattr(module, "SAVED", 100)
    Digests(memory).of_many(files)
    monkeypatch.setattr(module, "SAVED", 5)
    Digests(memory, keep=False).of_many(files)
    assert not memory.with_suffix(".arrow").exists()
    Digests(memory).of_many(files)
    assert memory.with_suffix(".arrow").exists()


def test_later_lines_count(files, memory, hashed):
    Digests(memory).of_many(files)
    Digests(memory).forget(files[2])
    files[3].write_bytes(b"other")
    hashed.clear()
    assert Digests(memory).of_many(files) == expected(files)
    assert hashed == [str(files[2]), str(files[3])]
    hashed.clear()
    assert Digests(memory).of_many(files) == expected(files)
    assert not hashed


def test_by_another_path(files, memory, tmp_path, hashed):
    Digests(memory).of_many(files)
    (tmp_path / "elsewhere").symlink_to(files[0].parent, target_is_directory=True)
    hashed.clear()
    elsewhere = [tmp_path / "elsewhere" / path.name for path in files]
    assert Digests(memory).of_many(elsewhere) == expected(files)
    assert not hashed


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved, memory: saved.unlink(),
        lambda saved, memory: saved.write_bytes(b""),
        lambda saved, memory: saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2]),
        lambda saved, memory: (saved.unlink(), saved.mkdir()),
        lambda saved, memory: memory.write_bytes(memory.read_bytes() + b"\n" * 3),
        *((lambda saved, memory, at=at: flip(saved, at)) for at in range(0, 2500, 97)),
    ],
)
def test_without_it_or_damaged(files, memory, hashed, damage: Callable[[Path, Path], object]):
    Digests(memory).of_many(files)
    saved = memory.with_suffix(".arrow")
    assert saved.stat().st_size > 2500
    damage(saved, memory)
    hashed.clear()
    assert Digests(memory).of_many(files) == expected(files)
    assert not hashed


@pytest.mark.parametrize("at", [20, -30])
def test_of_another_memory(files, memory, hashed, read_lines, at):
    """One line is damaged, so that its file is read again; all others are read as lines."""
    Digests(memory).of_many(files)
    flip(memory, at)
    hashed.clear(), read_lines.clear()
    assert Digests(memory).of_many(files) == expected(files)
    assert len(hashed) == 1
    assert len(read_lines) >= len(files)


def test_many_digests_as_text():
    data = np.random.default_rng(0).integers(3, size=(40, 32), dtype=np.uint8)
    data[:, 2:] = 0
    digests = Hex(data.view("V32").reshape(-1))
    texts = [row.tobytes().hex() for row in data]
    assert list(digests) == texts
    assert [digests[k] for k in range(40)] == texts
    assert digests[3:20:2] == texts[3:20:2]
    assert list(digests.unique()) == list(dict.fromkeys(texts))
    both = digests.joined(digests[::-1])
    pairs = [f"{a}:{b}" for a, b in zip(texts, texts[::-1], strict=True)]
    assert both == pairs
    assert both[7] == pairs[7]
    assert list(both.unique()) == list(dict.fromkeys(pairs))
    assert both.taken(np.array([5, 2])) == [pairs[5], pairs[2]]


@pytest.mark.parametrize("hashed", [zlib.crc32, lambda key: key[1] % 7])
@pytest.mark.parametrize("width", [1, 2])
def test_which_rows_are_there(monkeypatch, hashed, width):
    """Looked up as bytes by an index of hashes, of which some are equal."""
    monkeypatch.setattr(ledger_columns, "zlib", SimpleNamespace(crc32=hashed))
    random = np.random.default_rng(1)
    parts = [np.frombuffer(random.bytes(32 * 500), "V32") for _ in range(width)]
    ids = Hex(*parts)
    stored = [row_id for k, row_id in enumerate(ids) if k % 3]
    odd = ["a word", ids[0][:64] + ":empty", *(text[:64] for text in list(ids)[:9] * (width - 1))]
    rows = GrowingRows()
    for row_id in random.permutation([*stored, *odd]).tolist():
        rows.put(Row(row_id, 0, 1, 0))
    assert rows.settle()
    for late in (ids[3], ids[6]):
        rows.put(Row(late, 0, 1, 0))
    rows.strike((ids[4], "", 0, 1))
    expected = [(k % 3 > 0 or k in (3, 6)) and k != 4 for k in range(500)]
    assert there(rows.view(), ids).tolist() == expected
    assert there(rows.view(), list(ids)).tolist() == expected
    assert missing(rows.view(), ids) == [i for i, one in zip(ids, expected, strict=True) if not one]
    assert not there(GrowingRows().view(), ids).any()
