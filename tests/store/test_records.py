"""Rows of records, in Parquet: the same promises as of the arrays, and any tool can read them."""

from __future__ import annotations

import errno
import math
import os

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core.store.arrays import DamagedRow, NewRow
from sclip_core.store.files import DiskError
from sclip_core.store.records import REMEMBERED_PARTS, RecordTable

SCHEMA = pa.schema([("area", pa.int32()), ("score", pa.float64()), ("counts", pa.string())])
COMMAND = "is missing or damaged; compute it again: --force refine"
Records = list[tuple[int, float, str]]

MANY: Records = [(1, 0.5, "a"), (2, math.nan, ""), (-3, math.inf, "ü猫")]
FEW: Records = [(2**31 - 1, -0.0, "ab" * 500)]


def new(name: str, records: Records) -> NewRow:
    columns = list(zip(*records, strict=True)) or [(), (), ()]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA)
    return NewRow(name, table, {"masks": len(records)})


def plain(table: pa.Table) -> list[tuple[int, str, str]]:
    """Records to compare: a NaN is one."""
    return [(row["area"], repr(row["score"]), row["counts"]) for row in table.to_pylist()]


def as_written(records: Records) -> list[tuple[int, str, str]]:
    return [(area, repr(score), counts) for area, score, counts in records]


def opened(artifact) -> RecordTable:
    return RecordTable(artifact, SCHEMA, "image")


def store(artifact, *batches: list[NewRow]) -> None:
    with opened(artifact).writer() as writer:
        for batch in batches:
            writer.commit(batch, 1)


def parts(artifact) -> list:
    return sorted(artifact.path.glob("parts/*"))


def test_round_trip(artifact):
    rows = {"a": MANY, "none": [], "ü": FEW, "last": MANY[1:]}
    batches = [
        [new(name, rows[name]) for name in batch] for batch in (["a", "none", "ü"], ["last"])
    ]
    store(artifact, batches[0], [], batches[1])
    table = opened(artifact)
    assert set(artifact.rows()) == set(rows)
    for name, row in artifact.rows().items():
        assert plain(table.read(row)) == as_written(rows[name])
        assert table.read(row).schema.equals(SCHEMA)
        assert row.meta == {"masks": len(rows[name])}
    assert len(parts(artifact)) == 2


def test_nothing_but_rows_without_records(artifact):
    store(artifact, [new("a", []), new("b", [])])
    table = opened(artifact)
    assert [table.read(row).num_rows for row in artifact.rows().values()] == [0, 0]
    assert table.read(artifact.rows()["a"]).schema.equals(SCHEMA)


def test_tables_in_several_chunks(artifact):
    values = pa.concat_tables([new("", MANY).values, new("", FEW).values])
    assert values["area"].num_chunks == 2
    store(artifact, [NewRow("a", values), NewRow("b", values.slice(1, 2))])
    assert plain(opened(artifact).read(artifact.rows()["a"])) == as_written(MANY + FEW)
    assert plain(opened(artifact).read(artifact.rows()["b"])) == as_written(MANY[1:])


def test_any_tool_can_read_the_files(artifact):
    store(artifact, [new("a", MANY), new("none", []), new("ü", FEW)])
    (path,) = parts(artifact)
    assert pq.read_table(path).column_names == ["image", "area", "score", "counts"]
    found = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()
    expected = [("a", *record) for record in MANY] + [("ü", *record) for record in FEW]
    assert [tuple(map(repr, row)) for row in found] == [tuple(map(repr, row)) for row in expected]


def test_rows_written_later_are_found(artifact):
    table = opened(artifact)
    store(artifact, [new("a", MANY)])
    assert plain(table.read(artifact.rows()["a"])) == as_written(MANY)
    store(artifact, [new("b", FEW)])
    assert plain(table.read(artifact.rows()["b"])) == as_written(FEW)


def test_the_rows_of_a_file_are_read_at_once(artifact, monkeypatch):
    store(artifact, *([new(f"{n}-{k}", MANY) for k in range(3)] for n in range(REMEMBERED_PARTS)))
    read, calls = pq.read_table, []
    monkeypatch.setattr(pq, "read_table", lambda *a, **k: calls.append(a) or read(*a, **k))
    table = opened(artifact)
    for row in [*artifact.rows().values(), *artifact.rows().values()]:
        table.read(row)
    assert len(calls) == REMEMBERED_PARTS


@pytest.mark.parametrize(
    "spoil", ["cut", "empty", "gone", "other counts", "other area", "shorter", "fewer columns"]
)
def test_damaged(artifact, spoil):
    store(artifact, [new("a", MANY)])
    (path,) = parts(artifact)
    row = artifact.rows()["a"]
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "gone":
        path.unlink()
    elif spoil.startswith("other"):
        last = (-3, math.inf, "ü犬") if spoil == "other counts" else (3, math.inf, "ü猫")
        store(artifact, [new("b", [*MANY[:2], last])])
        (other,) = set(parts(artifact)) - {path}
        other.rename(path)
    elif spoil == "shorter":
        pq.write_table(pq.read_table(path).slice(0, 2), path)
    else:
        pq.write_table(pq.read_table(path).drop_columns("counts"), path)
    with pytest.raises(DamagedRow, match=COMMAND):
        opened(artifact).read(row)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_wrong_byte_is_found_or_does_no_harm(artifact, flip):
    store(artifact, [new("a", MANY)])
    (path,) = parts(artifact)
    row, good = artifact.rows()["a"], path.read_bytes()
    found = 0
    for position in range(len(good)):
        spoilt = bytearray(good)
        spoilt[position] ^= flip
        path.write_bytes(spoilt)
        try:
            read = opened(artifact).read(row)
        except DamagedRow:
            found += 1
            continue
        assert read.schema.equals(SCHEMA), position
        assert plain(read) == as_written(MANY), position
    assert found > len(good) // 3


def test_records_moved_between_rows_are_damage(artifact):
    """The file is whole, but the ledger's ranges are of another."""
    store(artifact, [new("a", MANY), new("b", FEW)])
    (path,) = parts(artifact)
    table = pq.read_table(path)
    pq.write_table(table.take([3, 0, 1, 2]), path)
    for row in artifact.rows().values():
        with pytest.raises(DamagedRow, match=COMMAND):
            opened(artifact).read(row)


def test_a_full_disk_leaves_nothing(artifact, monkeypatch):
    def half(table, path, **options):
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store(artifact, [new("a", MANY)])
    before = parts(artifact)
    with monkeypatch.context() as patch:
        patch.setattr("sclip_core.store.parts.pq.write_table", half)
        with pytest.raises(DiskError, match=r"No space left on device.*free some space"):
            store(artifact, [new("b", FEW)])
    assert parts(artifact) == before
    assert set(artifact.rows()) == {"a"}
    store(artifact, [new("b", FEW)])
    assert plain(opened(artifact).read(artifact.rows()["b"])) == as_written(FEW)


def test_no_line_no_row(artifact, monkeypatch):
    monkeypatch.setattr(type(artifact.ledger), "append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store(artifact, [new("a", MANY)])
    assert artifact.rows() == {}
