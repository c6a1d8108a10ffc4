"""A batch as bytes: rows, index, end."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.store.ledger import Row
from sclip_core.store.objects import batch
from sclip_core.store.objects.batch import DamagedBatchError, index_in, packed, tail_needed

VALUES = [b"", b"a", bytes(1000), np.random.default_rng(0).bytes(3000)]


@pytest.fixture(scope="module")
def made() -> bytes:
    rows = [(Row(f"r{n}", 0, 0, n, {"size": [n, 1]}), v) for n, v in enumerate(VALUES)]
    return packed(rows, 1.25)[0]


def contents(data: bytes) -> list[tuple]:
    """What a reader gets of a batch."""
    index = index_in(data[-min(len(data), tail_needed(data[-64:])) :])
    return [
        (row.id, row.crc, row.meta, batch.unpacked(data[row.start : row.stop]))
        for row in index.rows
    ]


def test_round_trip(made):
    assert contents(made) == [
        (f"r{n}", n, {"size": [n, 1]}, value) for n, value in enumerate(VALUES)
    ]
    assert index_in(made).seconds == 1.25


def test_no_rows():
    assert contents(packed([], 0)[0]) == []


def test_struck_rows():
    index = index_in(batch.struck([Row("a", 3, 9, 1, {}, "name")]))
    assert index.struck == [("a", "name", 3, 9)]
    assert index.rows == []


def test_every_byte_of_index_and_end_is_covered(made):
    first = len(made) - tail_needed(made)
    for place in range(first, len(made)):
        for bit in (1, 128):
            flipped = bytearray(made)
            flipped[place] ^= bit
            with pytest.raises(DamagedBatchError):
                contents(bytes(flipped))


def test_cut_anywhere(made):
    for length in range(0, len(made), 7):
        with pytest.raises(DamagedBatchError):
            contents(made[:length])


def test_other_objects():
    for data in (b"", b"x" * 10, b"x" * 1000, bytes(1000)):
        with pytest.raises(DamagedBatchError):
            contents(data)
