"""Parquet that no damage passes: a digest of the whole file in its footer."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core import UserError
from sclip_core.results.files import TABLES, read_table, write_run
from sclip_core.results.sealed import DIGEST_KEY, SEAL_KEY, DamagedError, is_intact, seal, unseal

from .test_files import flipped, tables

TABLE = pa.table({"number": [1, 2, None], "text": ["a", None, "sclip_sha256"]})


def areas_of_two(run_id: str) -> dict[str, pa.Table]:
    """The tables of a run, none of them without a row."""
    made = tables(run_id)
    areas = {"class_id": 0, "intersect": 1, "prediction": 2, "label": 3}
    images = [{"run_id": run_id, "image_id": name, **areas} for name in ("one", "two")]
    pair = {"label_id": 0, "label_name": "a", "prediction_id": 1, "prediction_name": "b"}
    confused = [{"run_id": run_id, **pair, "pixels": 7}]
    return {
        **made,
        "image_areas": pa.Table.from_pylist(images, made["image_areas"].schema),
        "confusion": pa.Table.from_pylist(confused, made["confusion"].schema),
    }


def test_round_trip():
    table = TABLE.replace_schema_metadata({"mine": "kept"})
    read = unseal(seal(table))
    assert read.equals(TABLE)
    assert read.schema.metadata[b"mine"] == b"kept"
    assert unseal(seal(TABLE.slice(0, 0))).equals(TABLE.slice(0, 0))


def test_any_reader_of_parquet_reads_it(tmp_path):
    (tmp_path / "a.parquet").write_bytes(seal(TABLE))
    assert pq.read_table(tmp_path / "a.parquet").equals(TABLE)


def test_the_digest_is_of_the_file_with_zeros_in_its_place():
    """By other means: a pattern, and the metadata as pyarrow reads it."""
    data = seal(TABLE)
    digest = pq.ParquetFile(pa.BufferReader(data)).metadata.metadata[DIGEST_KEY]
    zeroed = re.sub(re.escape(digest), b"0" * 64, data)
    assert zeroed != data
    assert hashlib.sha256(zeroed).hexdigest().encode() == digest


def test_pages_have_checksums(tmp_path):
    """A reader that knows of no digest finds damage to the values."""
    data = bytearray(seal(pa.table({"a": np.random.default_rng(0).integers(0, 2**60, 99)})))
    data[400] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)


def test_every_bit():
    whole, passed = seal(TABLE), []
    for place in range(len(whole)):
        for bit in range(8):
            other = bytearray(whole)
            other[place] ^= 1 << bit
            with suppress(DamagedError):
                passed.append((place, bit, is_intact(bytes(other))))
    assert passed == []


@pytest.mark.parametrize("name", TABLES)
def test_every_byte_of_a_file(tmp_path, name):
    """None with a bit flipped is read, and every error is one that a user can read."""
    write_run(tmp_path, "one", areas_of_two("one"))
    path, random = tmp_path / "results" / name / "one.parquet", Random(19)
    whole = path.read_bytes()
    assert read_table(tmp_path, name, ["one"]).num_rows > 0
    for place in range(len(whole)):
        path.write_bytes(flipped(whole, place, random))
        with pytest.raises(UserError, match=rf"{name}/one\.parquet cannot be read .*move it away"):
            read_table(tmp_path, name, ["one"])


def test_larger_damage():
    whole, random = seal(TABLE), Random(5)
    for _ in range(300):
        start, length = random.randrange(len(whole)), random.randrange(1, 60)
        rest = whole[start + length :]
        noise = random.randbytes(min(length, len(whole) - start))
        for other in (whole[:start], whole[:start] + rest, whole[:start] + noise + rest):
            if other == whole:
                continue
            with pytest.raises(DamagedError):
                unseal(other)


def test_a_file_without_a_digest():
    """As version 0.1.0 wrote them; text that names the keys makes no difference."""
    into = pa.BufferOutputStream()
    named = pa.table({"text": [DIGEST_KEY.decode(), SEAL_KEY.decode()]})
    pq.write_table(named, into)
    data = into.getvalue().to_pybytes()
    assert DIGEST_KEY in data
    assert not is_intact(data)
    assert unseal(data).equals(named)


def test_text_that_is_none():
    """Of a file without a digest; Parquet's reader does not look."""
    into = pa.BufferOutputStream()
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"text": column}), into)
    with pytest.raises(DamagedError, match="UTF8"):
        unseal(into.getvalue().to_pybytes())
