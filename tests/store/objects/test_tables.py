"""Tables of rows in a bucket."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sclip_core.store.arrays import DamagedRow, NewRow
from sclip_core.store.objects import blocks
from sclip_core.store.objects.bucket import bucket_of
from sclip_core.store.objects.tables import ObjectArrays, ObjectParts, ObjectRecords
from tests.store.conftest import random_rows

SCHEMA = pa.schema({"mask": pa.int32(), "name": pa.string()})


@pytest.fixture(autouse=True)
def no_kept_blocks(monkeypatch):
    monkeypatch.setattr("sclip_core.store.objects.tables.BLOCKS", blocks.Blocks())


def damage(artifact, segment, place):
    path = artifact.ledger.path_of(segment)
    objects = bucket_of(path.bucket)
    data = bytearray(objects.read(path))
    data[place] ^= 16
    objects.put(path, bytes(data))


@pytest.mark.parametrize(
    ("dtype", "width"), [("float16", 4), ("float32", None), ("uint8", None), ("int16", 3)]
)
def test_arrays(of_another_process, dtype, width):
    rows = random_rows(dtype, width, [3, 0, 1, 500])
    table = ObjectArrays(of_another_process(), dtype, width, compress=False)
    with table.writer() as writer:
        writer.commit(rows[:2], 1.0)
        writer.commit(rows[2:], 0.5)
    read = ObjectArrays(of_another_process(), dtype, width, compress=False)
    stored = read.artifact.ledger.rows()
    assert list(stored) == [row.id for row in rows]
    found = read.read_many(stored.values())
    for row, values in zip(rows, found, strict=True):
        np.testing.assert_array_equal(values, row.values)
        assert values.dtype == dtype
        assert stored[row.id].meta == row.meta
        values[...] = 0  # as from a disk, it may be written to
    assert read.artifact.ledger.seconds() == 1.5


def test_parts(of_another_process):
    table = ObjectParts(of_another_process(), ["class_id", "pixels"])
    wanted = {"a": [[1, 2], [3, -4]], "b": np.zeros((0, 2), int)}
    with table.writer() as writer:
        writer.commit([NewRow(name, np.array(values)) for name, values in wanted.items()], 0)
    read = ObjectParts(of_another_process(), ["class_id", "pixels"])
    for name, row in read.artifact.ledger.rows().items():
        np.testing.assert_array_equal(read.read(row), wanted[name])


def test_records(of_another_process):
    table = ObjectRecords(of_another_process(), SCHEMA, "image")
    wanted = pa.table({"mask": [1, 2], "name": ["a", "b c"]}, schema=SCHEMA)
    with table.writer() as writer:
        writer.commit([NewRow("a", wanted), NewRow("b", wanted.slice(0, 0))], 0)
    read = ObjectRecords(of_another_process(), SCHEMA, "image")
    rows = read.artifact.ledger.rows()
    assert read.read(rows["a"]).equals(wanted)
    assert read.read(rows["b"]).num_rows == 0


def test_every_byte_of_the_rows_is_covered(of_another_process):
    table = ObjectArrays(of_another_process(), "uint8", None, compress=False)
    table.commit(random_rows("uint8", None, [40, 30]), 0)
    first, second = table.artifact.ledger.rows().values()
    good, said = table.read(second), set()
    for place in range(first.start, first.stop):
        blocks_of = blocks.Blocks()
        pytest.MonkeyPatch().setattr("sclip_core.store.objects.tables.BLOCKS", blocks_of)
        damage(table.artifact, first.segment, place)
        try:
            values = table.read(first)  # of a byte that zstd does not need
        except DamagedRow as error:
            said.add(str(error).partition(" are ")[2])
        else:
            np.testing.assert_array_equal(values, random_rows("uint8", None, [40])[0].values)
        np.testing.assert_array_equal(table.read(second), good)
        damage(table.artifact, first.segment, place)  # as it was
    assert said == {"missing or damaged; compute them again: --force refine"}
    np.testing.assert_array_equal(table.read(first), random_rows("uint8", None, [40])[0].values)


def test_object_that_is_gone(of_another_process):
    table = ObjectArrays(of_another_process(), "uint8", None, compress=False)
    table.commit(random_rows("uint8", None, [4, 5]), 0)
    rows = list(table.artifact.ledger.rows().values())
    path = table.artifact.ledger.path_of(rows[0].segment)
    bucket_of(path.bucket).delete(path)
    with pytest.raises(DamagedRow, match="of 2 rows, such as 0-0,") as error:
        table.read_many(rows)
    assert error.value.rows == tuple(rows)


def test_rows_that_were_damaged_on_their_way_are_read_again(of_another_process, disturbed):
    from tests.torture.proxy import Fault

    table = ObjectArrays(of_another_process(), "uint8", None, compress=False)
    rows = random_rows("uint8", None, [4000])
    table.commit(rows, 0)
    row = next(iter(table.artifact.ledger.rows().values()))
    # All but the last byte of the object are the index; so the index is left out of it.
    proxy = disturbed(Fault("flipped", ["GET"], every=2))
    assert bucket_of(table.artifact.path.bucket).read_range(
        table.artifact.ledger.path_of(row.segment), 0, 9
    )
    found = bucket_of(table.artifact.path.bucket).read_range(
        table.artifact.ledger.path_of(row.segment), row.start, row.stop
    )
    assert proxy.faulty["flipped"] == 1
    assert len(found) == row.stop - row.start
    np.testing.assert_array_equal(table.read(row), rows[0].values)
