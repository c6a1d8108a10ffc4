"""Rows of a few integers, in Parquet: the same promises as of the arrays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sclip_core.store.arrays import DamagedRow, NewRow
from sclip_core.store.files import DiskError
from sclip_core.store.parts import PartTable

COLUMNS = ("class_id", "label")


def rows(*lengths: int) -> list[NewRow]:
    return [NewRow(f"{n}:ü", np.arange(2 * n).reshape(n, 2)) for n in lengths]


def store(table: PartTable, *batches: list[NewRow]) -> None:
    with table.writer() as writer:
        for batch in batches:
            writer.commit(batch, 1)


def test_round_trip(artifact):
    store(PartTable(artifact, COLUMNS), rows(3, 0, 2), [], rows(5))
    stored = artifact.rows()
    found = PartTable(artifact, COLUMNS).read_many(stored.values())
    assert [values.tolist() for values in found] == [
        row.values.tolist() for row in rows(3, 0, 2, 5)
    ]
    assert len(list(artifact.path.glob("parts/*.parquet"))) == 2


def test_nothing_but_empty_rows(artifact):
    """Every pixel of the image is ignored."""
    store(table := PartTable(artifact, COLUMNS), [NewRow("a", np.zeros((0, 2), np.int64))])
    assert table.read_many(artifact.rows().values())[0].shape == (0, 2)


@pytest.mark.parametrize("spoil", ["cut", "gone", "other"])
def test_damaged(artifact, spoil):
    store(table := PartTable(artifact, COLUMNS), rows(3))
    (path,) = artifact.path.glob("parts/*.parquet")
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif spoil == "gone":
        path.unlink()
    else:
        store(table, [NewRow("x", np.ones((3, 2), np.int64))])
        (other,) = set(artifact.path.glob("parts/*.parquet")) - {path}
        other.rename(path)
    with pytest.raises(DamagedRow, match="is missing or damaged; compute it again: --force refine"):
        table.read_many([artifact.rows()["3:ü"]])


def test_no_line_no_row(artifact, monkeypatch):
    monkeypatch.setattr(type(artifact.ledger), "append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store(PartTable(artifact, COLUMNS), rows(3))
    assert artifact.rows() == {}


def test_a_file_that_is_gone_with_its_rows(artifact):
    """Replaced by another run since the ledger was read: stale rows, to be looked up again."""
    store(PartTable(artifact, COLUMNS), rows(3, 2))
    before = artifact.rows()
    store(PartTable(artifact, COLUMNS), rows(3, 2))
    assert len(list(artifact.path.glob("parts/*.parquet"))) == 1  # the old file left its room
    with pytest.raises(DamagedRow) as raised:
        PartTable(artifact, COLUMNS).read_many(before.values())
    assert raised.value.rows == tuple(before.values())
    assert len(PartTable(artifact, COLUMNS).read_many(artifact.rows().values())) == 2


def test_what_the_system_refuses_is_no_damage(artifact, monkeypatch):
    store(table := PartTable(artifact, COLUMNS), rows(3))
    stored = artifact.rows().values()

    def refuse(*_: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        with pytest.raises(DiskError, match=r"cannot be read \(Too many open files\)"):
            table.read_many(stored)
    assert len(table.read_many(stored)) == 1


def test_other_readers_can_check_the_pages(artifact):
    """A bit flipped among the values: this project has its own checksum, others have Parquet's."""
    store(PartTable(artifact, COLUMNS), rows(400))
    (path,) = artifact.path.glob("parts/*.parquet")
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()
