"""Rows in columns and in snapshots are the rows that the lines of the ledger say."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sclip_core.store import ledger as ledgers
from sclip_core.store import ledger_rows
from sclip_core.store.ledger import Ledger, Row
from sclip_core.store.ledger_columns import packed, unpacked
from sclip_core.store.ledger_rows import missing, within

DIGESTS = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(30)]
IDS = [
    *DIGESTS[:15], *(f"{a}:{b}" for a, b in zip(DIGESTS[:9], DIGESTS[9:18], strict=True)),
    f"{DIGESTS[0]}:empty", f"{DIGESTS[0]}:", DIGESTS[0].upper(), DIGESTS[0][:-1], DIGESTS[0] + "0",
    f"{DIGESTS[0]}:{DIGESTS[1]}:{DIGESTS[2]}", "", ":", "cat", "ü 🐈", "\ud800", "a" * 64, " " * 64,
]  # fmt: skip


def replay(path: Path) -> dict[str, Row]:
    """The rows of a ledger without odd lines, in the plainest way."""
    rows: dict[str, Row] = {}
    chunks: dict[str, int] = {}
    for line in path.read_bytes().splitlines():
        entry = json.loads(line)
        for row_id, *place in entry.get("struck", ()):
            if row_id in rows and list(rows[row_id].place[1:]) == place:
                del rows[row_id]
        if "chunk" in entry:
            chunks[entry["segment"]] = entry["chunk"]
        for row in entry.get("rows", ()):
            segment = entry["segment"]
            rows[row["id"]] = Row(**row, segment=segment, chunk=chunks.get(segment))
    return rows


def assert_same(rows: Any, expected: dict[str, Row]) -> None:
    """By all that a mapping can be asked."""
    assert len(rows) == len(expected)
    assert list(rows) == list(expected)
    assert list(rows.values()) == list(expected.values())
    assert list(rows.items()) == list(expected.items())
    assert all(rows.get(row_id) == expected.get(row_id) for row_id in IDS)
    assert all((row_id in rows) == (row_id in expected) for row_id in [*IDS, 5, None])
    for many in (IDS, 10 * IDS):
        assert missing(rows, many) == [row_id for row_id in many if row_id not in expected]
    for segment in ("0000", "0001", "0002"):
        for start, stop in ((-1, 10**9), (20, 40), (0, 0)):
            inside = within(rows, segment, start, stop)
            assert {row.id: row for row in inside} == {
                row.id: row for row in within(expected, segment, start, stop)
            }


@pytest.fixture(params=["none", "few", "many"])
def settled(request, monkeypatch) -> None:
    """Rows come into columns never, now and then, after each line."""
    most = {"none": 10**9, "few": 9, "many": 0}[request.param]
    monkeypatch.setattr(ledger_rows, "MOST", most)
    monkeypatch.setattr(ledger_rows, "AT_REST", most)
    monkeypatch.setattr(ledger_rows, "FEW", 60)
    monkeypatch.setattr(ledgers, "SOME", 0)


def change(ledger: Ledger, chance: random.Random) -> None:
    """Append to a ledger or strike rows of it."""
    rows = ledger.rows()
    if chance.random() < 0.3 and len(rows):
        struck = chance.sample(list(rows.values()), min(len(rows), 3))
        stale = [Row(row.id, row.start + 1, row.stop + 1, 0, {}, row.segment) for row in struck]
        ledger.strike([*struck[:2], *stale])
        return
    new = []
    for row_id in chance.sample(IDS, chance.randint(1, 5)):
        start = chance.randint(0, 60)
        meta = chance.choice([{}, {"size": [chance.randint(1, 3), 2]}, {"a": None, "b": [1.5]}])
        new.append(Row(row_id, start, start + chance.randint(0, 9), chance.getrandbits(32), meta))
    ledger.append(chance.choice(["0000", "0001"]), new, 0.5, chance.choice([None, 4]))


@pytest.mark.parametrize("seed", range(12))
def test_the_rows_are_those_of_the_lines(tmp_path, settled, seed):
    path, chance = tmp_path / "ledger.jsonl", random.Random(seed)
    ledger, seen = Ledger(path), []
    for _ in range(25):
        change(ledger, chance)
        expected = replay(path)
        seen.append((ledger.rows(), expected))
        assert_same(ledger.rows(), expected)
        assert_same(Ledger(path).rows(), expected)
    for rows, expected in seen:  # what was asked for earlier has not changed since
        assert_same(rows, expected)


def facts(ledger: Ledger) -> list[Any]:
    """All but the rows that a ledger knows."""
    segments = ("0000", "0001", "0002")
    return [
        ledger.seconds(), ledger.odd_lines(), ledger.foreign(),
        [ledger.segment_end(name) for name in segments],
        [ledger.chunk_of(name) for name in segments],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))]
)
def test_a_snapshot_changes_nothing(tmp_path, settled, seed):
    """After lines of this ledger and of another process, with rows struck and replaced."""
    path, chance = tmp_path / "ledger.jsonl", random.Random(seed)
    ledger, other = Ledger(path), Ledger(path)
    for step in range(25):
        change(chance.choice([ledger, other]), chance)
        if step % 3 == 0:
            chance.choice([ledger, other]).save_snapshot(0)
        for found in (ledger, other, Ledger(path), Ledger(path, snapshots=False)):
            assert_same(found.rows(), replay(path))
            assert facts(found) == facts(Ledger(path, snapshots=False))
    assert (tmp_path / "ledger.arrow").stat().st_size


def written(path: Path) -> Ledger:
    """A ledger with a snapshot that covers all but its last line."""
    ledger = Ledger(path)
    for number in range(6):
        ledger.append("0000", [Row(DIGESTS[number], number, number + 1, 7)], 0.5, 4)
    ledger.strike([ledger.rows()[DIGESTS[2]]])
    ledger.save_snapshot(0)
    ledger.append("0000", [Row(DIGESTS[9], 9, 10, 7)], 0.5, 4)
    return ledger


def lines_read(path: Path, monkeypatch) -> tuple[int, list[str]]:
    """How many lines a new reader decodes, and the ids that it finds."""
    read = []

    def spy(line: bytes) -> Any:
        read.append(line)
        return decode(line)

    decode = ledgers.decode
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "SOME", 0)
        patch.setattr(ledgers, "decode", spy)
        rows = Ledger(path).rows()
    return len(read), list(rows)


LEFT = [DIGESTS[number] for number in (0, 1, 3, 4, 5, 9)]


def test_only_what_came_after_a_snapshot_is_read(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    written(path)
    assert lines_read(path, monkeypatch) == (1, LEFT)
    (tmp_path / "ledger.arrow").unlink()
    assert lines_read(path, monkeypatch) == (8, LEFT)


def test_every_flip_of_a_snapshot_is_noticed(tmp_path, monkeypatch):
    path, saved = tmp_path / "ledger.jsonl", tmp_path / "ledger.arrow"
    written(path)
    sound = saved.read_bytes()
    for place in range(0, len(sound), 5):
        flipped = bytearray(sound)
        flipped[place] ^= 1 << place % 8
        saved.write_bytes(flipped)
        assert lines_read(path, monkeypatch)[1] == LEFT
    for length in range(0, len(sound), 97):
        saved.write_bytes(sound[:length])
        assert lines_read(path, monkeypatch) == (8, LEFT)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def replaced(path: Path) -> None:
    path.unlink()
    Ledger(path).append("0001", [Row("x", 0, 1, 7)] * 40, 1)


def repaired(path: Path) -> None:
    flipped(path)
    Ledger(path).repair()


@pytest.mark.parametrize("spoil", [cut, flipped, replaced, repaired, Path.unlink])
def test_a_snapshot_of_another_ledger_is_not_used(tmp_path, monkeypatch, spoil):
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(ledgers, "SOME", 0)
    open_before = written(path)
    spoil(path)
    plain = Ledger(path, snapshots=False)
    # An open ledger that has grown is only known by the last bytes that it has read of it.
    for found in [Ledger(path), *([] if spoil is flipped else [open_before])]:
        assert list(found.rows()) == list(plain.rows())
        assert facts(found) == facts(plain)
    left = list(plain.rows())
    Ledger(path).append("0000", [Row("new", 0, 1, 7)], 1)
    Ledger(path).save_snapshot(0)
    assert list(Ledger(path).rows()) == [*left, "new"]


def test_odd_lines_get_no_snapshot(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"junk\n")
    ledger = Ledger(path)
    ledger.append("0000", [Row("a", 0, 1, 7)], 1)
    ledger.save_snapshot(0)
    assert not (tmp_path / "ledger.arrow").exists()
    ledger.repair()
    ledger.save_snapshot(0)
    assert (tmp_path / "ledger.arrow").exists()


@pytest.mark.parametrize("row", [{"crc": 2**40}, {"crc": 2**99}, {"chunk": 2**99}])
def test_rows_that_no_version_writes(tmp_path, settled, row):
    """They are kept as they are, and so is all that comes after them."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for number in range(30):
        crc = row.get("crc", 7) if number == 5 else 7
        ledger.append("0000", [Row(f"{number}", 0, 1, crc)], 1, row.get("chunk"))
        ledger.save_snapshot(0)
        assert_same(ledger.rows(), replay(path))
    assert_same(Ledger(path).rows(), replay(path))


def test_a_folder_where_no_snapshot_can_be_written(tmp_path):
    (tmp_path / "ledger.arrow").mkdir()
    assert list(written(tmp_path / "ledger.jsonl").rows()) == LEFT


def test_a_snapshot_is_written_while_rows_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "MUCH", 1000)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    sizes = []
    for number in range(200):
        ledger.append("0000", [Row(DIGESTS[0], number, number + 1, 7)], 1, 4)
        sizes.append(ledger._covered)
    assert 5 < len(set(sizes)) < 25  # each covers half as much again as the one before


@given(st.text(st.sampled_from("0a:Z"), max_size=5) | st.text() | st.sampled_from(IDS))
def test_any_id_is_packed_and_unpacked(row_id):
    for text in (row_id, f"{DIGESTS[0]}:{row_id}", f"{DIGESTS[0]}{row_id}", DIGESTS[0] + "::"):
        assert unpacked(packed(text)) == text


def test_equal_hashes(tmp_path, settled):
    """Two ids of one CRC-32 are two rows."""
    same = ["plumless", "buckeroo"]
    path = tmp_path / "ledger.jsonl"
    names = [*same, "t" + same[0]]
    for name in names:
        Ledger(path).append("0000", [Row(name, 0, 1, len(name))], 1)
    Ledger(path).save_snapshot(0)
    for name in names:
        assert Ledger(path).rows()[name].id == name


def test_other_tools_read_a_snapshot(tmp_path):
    written(tmp_path / "ledger.jsonl")
    table = pa.ipc.open_file(pa.BufferReader((tmp_path / "ledger.arrow").read_bytes())).read_all()
    assert [key[1:].hex() for key in table["id"].to_pylist()] == LEFT[:-1]
    assert table["start"].to_pylist() == [0, 1, 3, 4, 5]


def test_one_ledger_a_path(tmp_path):
    one, other = (Ledger.at(tmp_path / "a" / "ledger.jsonl") for _ in range(2))
    assert one is other is not Ledger.at(tmp_path / "b" / "ledger.jsonl")


FORKED = """
import os, sys
from pathlib import Path
from sclip_core.store.ledger import Ledger, Row
ledger = Ledger.at(Path(sys.argv[1]))
ledger.append("0000", [Row("a", 0, 1, 7)], 1)
with ledger._reading, Ledger._sharing:
    child = os.fork()
    if child == 0:
        os._exit(list(Ledger.at(Path(sys.argv[1])).rows()) != ["a"])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_its_own(tmp_path):
    """A lock that another thread held when the process was forked would never be free there."""
    command = [sys.executable, "-c", FORKED, str(tmp_path / "ledger.jsonl")]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=60)


def test_a_line_without_its_end_is_in_no_snapshot(tmp_path):
    """A snapshot says of which bytes it is, and that line is not among them."""
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append("0000", [Row(DIGESTS[0], 0, 1, 0)], 1.0, chunk=8)
    Ledger(path).append("0000", [Row(DIGESTS[1], 1, 2, 0)], 1.0, chunk=8)
    path.write_bytes(path.read_bytes()[:-1])
    ledger = Ledger(path)
    assert len(ledger.rows()) == 2
    ledger.save_snapshot(0)
    assert not path.with_name("ledger.arrow").exists()
    ledger.append("0000", [Row(DIGESTS[2], 2, 3, 0)], 1.0, chunk=8)
    ledger.save_snapshot(0)
    assert path.with_name("ledger.arrow").exists()
    assert (len(Ledger(path).rows()), Ledger(path).seconds()) == (3, 3.0)
