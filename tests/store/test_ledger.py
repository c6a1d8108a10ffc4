"""The ledger says what is there: never a row that was not appended whole."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sclip_core.store.ledger import Ledger, Row


def row(name: str, start: int = 0, stop: int = 4) -> Row:
    return Row(name, start, stop, crc=7, meta={"size": [stop - start, 1]})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def test_nothing_there(ledger):
    assert ledger.rows() == {}
    assert ledger.segment_end("0000") == 0
    assert ledger.seconds() == 0


def test_rows_by_id(ledger):
    ledger.append("0000", [row("a"), row("b", 4, 9)], 1.5)
    ledger.append("0001", [row("c")], 0.25)
    rows = ledger.rows()
    assert list(rows) == ["a", "b", "c"]
    assert rows["b"] == Row("b", 4, 9, 7, {"size": [5, 1]}, "0000")
    assert rows["c"].segment == "0001"
    assert ledger.segment_end("0000") == 9
    assert ledger.segment_end("0002") == 0
    assert ledger.seconds() == 1.75


def test_a_later_line_wins(ledger):
    ledger.append("0000", [row("a")], 0)
    ledger.append("0001", [row("a", 8, 9)], 0)
    assert ledger.rows()["a"] == Row("a", 8, 9, 7, {"size": [1, 1]}, "0001")


def test_strange_ids(ledger):
    names = ["line\nbreak", "ü 🐈", "\u2028", '"', "\\"]
    ledger.append("0000", [row(name) for name in names], 0)
    assert list(ledger.rows()) == names


def test_torn_last_line_is_skipped_and_repaired(ledger, tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append("0000", [row("a")], 0)
    ledger.append("0000", [row("b", 4, 8)], 0)
    path.write_bytes(path.read_bytes()[:-9])
    assert list(ledger.rows()) == ["a"]
    assert ledger.segment_end("0000") == 4
    ledger.append("0000", [row("c", 4, 8)], 0)
    assert list(ledger.rows()) == ["a", "c"]
    assert len(path.read_bytes().splitlines()) == 3  # the torn one stays, in the middle
    ledger.append("0000", [row("d", 8, 9)], 0)
    assert list(ledger.rows()) == ["a", "c", "d"]


@pytest.mark.parametrize("left", [1, 2, 40])
def test_a_torn_first_line_is_repaired(ledger, tmp_path, left):
    path = tmp_path / "ledger.jsonl"
    ledger.append("0000", [row("a")], 0)
    path.write_bytes(path.read_bytes()[:left])
    ledger.append("0000", [row("b")], 0)
    assert list(ledger.rows()) == ["b"]


@pytest.mark.parametrize(
    "junk", [b"\0" * 99, b"\n\n", b"\xff\xfe", b"5\n", b"[]\n", b"{}\n", b"nul"]
)
def test_junk_is_skipped(ledger, tmp_path, junk):
    ledger.append("0000", [row("a")], 0)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(junk)
    ledger.append("0000", [row("b", 4, 8)], 0)
    assert list(ledger.rows()) == ["a", "b"]


BATCHES = [
    [row(f"{batch}-{number} ü", 4 * number, 4 * number + 4) for number in range(batch % 4 + 1)]
    for batch in range(6)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The ledger of ``BATCHES``, a line each."""
    path = tmp_path_factory.mktemp("whole") / "ledger.jsonl"
    for batch in BATCHES:
        Ledger(path).append("0000", batch, 1)
    return path.read_bytes()


@settings(max_examples=80, deadline=None)
@given(cuts=st.lists(st.integers(1, 700), min_size=1, max_size=3))
def test_no_row_is_ever_invented(whole, tmp_path_factory, cuts):
    """Crashes that tear the end off, each followed by another append."""
    path = tmp_path_factory.mktemp("torn") / "ledger.jsonl"
    path.write_bytes(whole)
    ends = np.cumsum([len(line) for line in whole.splitlines(keepends=True)])
    written = {row.id: row.stop for batch in BATCHES for row in batch}
    for number, cut in enumerate(cuts):
        path.write_bytes(path.read_bytes()[:-cut])
        kept = Ledger(path).rows()
        if number == 0:  # the line break alone may be missing
            lines = BATCHES[: int(np.sum(ends - 1 <= len(whole) - cut))]
            assert list(kept) == [row.id for batch in lines for row in batch]
        Ledger(path).append("0000", [row(f"new {number}")], 1)
        written[f"new {number}"] = 4
        rows = Ledger(path).rows()
        assert list(rows) == [*kept, f"new {number}"]
        assert all(written[name] == found.stop for name, found in rows.items())


def test_every_byte_of_a_line_is_covered(ledger, tmp_path):
    """A size, a range or an id that was altered does not pass, and the other rows stay."""
    path = tmp_path / "ledger.jsonl"
    for name in ("a", "b", "c"):
        ledger.append("0000", [row(name)], 1.5, 64)
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    begin = len(lines[0])
    for position in range(begin, begin + len(lines[1]) - 1):
        for flip in (1, 0x80):
            spoilt = bytearray(good)
            spoilt[position] ^= flip
            path.write_bytes(spoilt)
            found = Ledger(path)
            assert found.rows().keys() == {"a", "c"}, spoilt
            assert list(found.odd_lines()) in ([2], [2, 3]), spoilt  # a line break may come in
            assert found.rows()["c"] == Row("c", 0, 4, 7, {"size": [4, 1]}, "0000", 64)


OLD = {
    "segment": "0000",
    "seconds": 1.0,
    "rows": [{"id": "o", "start": 0, "stop": 4, "crc": 7, "meta": {}}],
}


def test_lines_of_the_first_version(ledger, tmp_path):
    """They have no checksum, which is not held against them."""
    (tmp_path / "ledger.jsonl").write_text(json.dumps(OLD) + "\n")
    ledger.append("0001", [row("a")], 1, 64)
    assert list(ledger.rows()) == ["o", "a"]
    assert ledger.rows()["o"].chunk is None
    assert (ledger.chunk_of("0000"), ledger.chunk_of("0001")) == (None, 64)
    assert ledger.odd_lines() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"segment": "../../x"}, {"segment": ""}, {"segment": 5}, {"rows": 5}, {"rows": [5]},
        {"rows": [[]]}, {"seconds": "1"}, {"seconds": float("nan")}, {"seconds": -1},
        {"later": 1}, {"chunk": 0}, {"chunk": True},
        *({"rows": [{**OLD["rows"][0], **row}]} for row in (
            {"start": 5}, {"start": -1}, {"start": 0.0}, {"stop": "4"}, {"stop": 2**60}, {"id": 5},
            {"id": None}, {"crc": None}, {"crc": True}, {"meta": []}, {"meta": None}, {"more": 1},
        )),
    ],
)  # fmt: skip
def test_odd_lines_are_skipped_and_named(ledger, tmp_path, change):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({**OLD, **change}) + "\n")
    ledger.append("0000", [row("a")], 0)
    assert list(ledger.rows()) == ["a"]
    assert list(ledger.odd_lines()) == [1]
    assert list(ledger.repair()) == [1]
    assert ledger.odd_lines() == Ledger(path).odd_lines() == {}
    assert list(ledger.rows()) == ["a"]
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("key", ["rows", "segment"])
def test_a_line_without_a_key(ledger, tmp_path, key):
    (tmp_path / "ledger.jsonl").write_text(
        json.dumps({k: v for k, v in OLD.items() if k != key}) + "\n"
    )
    assert ledger.rows() == {}
    assert list(ledger.odd_lines()) == [1]


def test_lines_of_a_later_version_stay(ledger, tmp_path):
    """What a later version understands is not lost, though this one cannot use it."""
    path = tmp_path / "ledger.jsonl"
    body = json.dumps({**OLD, "encrypted": True}).encode()[1:]
    path.write_bytes(b'{"check": %d, ' % zlib.crc32(body) + body + b"\n")
    ledger.append("0000", [row("a")], 0)
    assert list(ledger.rows()) == ["a"]
    assert "of a later version" in ledger.repair()[1]
    assert len(path.read_bytes().splitlines()) == 2


def test_struck_rows_are_gone_until_they_are_stored_again(ledger):
    ledger.append("0000", [row("a"), row("b", 4, 9)], 0)
    before = ledger.rows()
    ledger.strike([before["a"]])
    assert list(ledger.rows()) == ["b"]
    assert ledger.segment_end("0000") == 9  # its place is not used again
    ledger.append("0000", [row("a", 9, 12)], 0)
    ledger.strike([before["a"]])  # by somebody who read the ledger before
    assert ledger.rows()["a"].start == 9
    ledger.strike([])
    assert set(ledger.rows()) == {"a", "b"}


def test_a_ledger_that_is_open_sees_what_others_do(ledger, tmp_path):
    other = Ledger(tmp_path / "ledger.jsonl")
    for number in range(3):
        ledger.append("0000", [row(f"{number}")], 0.5)
        assert len(other.rows()) == number + 1
    ledger.strike([ledger.rows()["1"]])
    assert list(other.rows()) == ["0", "2"]
    path = tmp_path / "ledger.jsonl"
    with path.open("ab") as file:
        file.write(b"junk\n")
    other.repair()
    ledger.append("0000", [row("9")], 0.5)
    assert list(ledger.rows()) == list(other.rows()) == ["0", "2", "9"]
    assert ledger.seconds() == other.seconds() == 2.0
    path.unlink()
    assert ledger.rows() == {}


def test_a_ledger_that_was_replaced_is_read_anew(ledger, tmp_path):
    """By a longer one under the same file number, as file systems give them out again."""
    path = tmp_path / "ledger.jsonl"
    ledger.append("0000", [row("a")], 0)
    assert list(ledger.rows()) == ["a"]
    other = Ledger(tmp_path / "other.jsonl")
    for name in ("b", "c"):
        other.append("0000", [row(name)], 0)
    path.write_bytes((tmp_path / "other.jsonl").read_bytes())  # in place: the same file number
    assert list(ledger.rows()) == ["b", "c"]


WRITER = """
import sys
from pathlib import Path
from sclip_core.store.ledger import Ledger, Row
for number in range(60):
    Ledger(Path(sys.argv[1])).append(sys.argv[2], [Row(f"{sys.argv[2]}-{number}", 0, 1, 2)], 0.5)
"""


def test_two_processes_append(ledger, tmp_path):
    path = tmp_path / "ledger.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], cwd=Path(__file__).parents[2])
        for name in ("a", "b")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(ledger.rows()) == 120
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
