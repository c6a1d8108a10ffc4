"""Arrays come back as they were written, or not at all."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

from sclip_core.config import ImageError
from sclip_core.store import segments
from sclip_core.store.arrays import ArrayTable, DamagedRow, NewRow
from sclip_core.store.files import DiskError
from sclip_core.store.table import crc32

from .conftest import assert_stored, make_artifact, random_rows

LAYOUTS = [
    ("float16", 8, False),
    ("float32", 5, False),
    ("uint8", None, True),
    ("uint16", None, True),
]
LENGTHS = [3, 1, 700, 16, 0, 2]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout[0])
def layout(request) -> tuple[str, int | None, bool]:
    return request.param


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Every row longer than a few values takes several chunks."""
    monkeypatch.setattr(segments, "CHUNK_BYTES", 256)


def store(table: ArrayTable, *batches: list[NewRow]) -> None:
    with table.writer() as writer:
        for batch in batches:
            writer.commit(batch, 1.0)


def chunks(artifact) -> list[Path]:
    return sorted(p for p in artifact.path.rglob("c/*") if p.is_file()) + sorted(
        artifact.path.rglob("c/*/0")
    )


def test_ragged_rows(artifact, layout):
    dtype, width, _ = layout
    first, second = random_rows(dtype, width, LENGTHS), random_rows(dtype, width, [5, 900], seed=1)
    store(ArrayTable(artifact, *layout), first, second)
    store(ArrayTable(artifact, *layout), third := random_rows(dtype, width, [40], seed=2))
    assert_stored(ArrayTable(artifact, *layout), [*first, *second, *third])
    assert len(list(artifact.path.glob("segments/*.zarr"))) == 1
    assert artifact.missing(["0-1", "nobody", "2-0"]) == ["nobody"]


def test_a_table_that_is_open_sees_new_rows(artifact):
    reader = ArrayTable(artifact, "uint8", None, True)
    for seed in range(3):
        store(
            ArrayTable(artifact, "uint8", None, True), rows := random_rows("uint8", None, [9], seed)
        )
        assert_stored(reader, rows)


def test_nothing_to_store(artifact):
    store(ArrayTable(artifact, "uint8", None, True), [])
    assert artifact.rows() == {}


def test_not_a_number_is_a_value(artifact):
    values = np.array([[np.nan, 1], [-0.0, np.inf]], np.float16)
    store(table := ArrayTable(artifact, "float16", 2, False), [NewRow("a", values)])
    read = table.read(artifact.rows()["a"])
    assert read.tobytes() == values.tobytes()


@pytest.mark.parametrize("at", [0, 0.3, 0.6, 0.99])
def test_flipped_byte(artifact, layout, at):
    store(ArrayTable(artifact, *layout), rows := random_rows(*layout[:2], [500]))
    path = chunks(artifact)[0]
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedRow, match="are damaged; compute them again: --force refine"):
        assert_stored(ArrayTable(artifact, *layout), rows)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-3])])
def test_missing_or_cut_chunk(artifact, layout, spoil):
    store(ArrayTable(artifact, *layout), rows := random_rows(*layout[:2], [500, 9]))
    spoil(chunks(artifact)[0])
    with pytest.raises(DamagedRow):
        assert_stored(ArrayTable(artifact, *layout), rows)


def test_other_rows_than_the_damaged_one_can_be_read(artifact, layout):
    table = ArrayTable(artifact, *layout)
    batches = [random_rows(*layout[:2], [50], seed) for seed in range(3)]
    store(table, *batches)
    first = [p for p in chunks(artifact) if p.relative_to(artifact.path).parts[3] == "0"]
    first[0].unlink()
    with pytest.raises(DamagedRow):
        assert_stored(table, batches[0])
    assert_stored(table, [*batches[1], *batches[2]])


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[::-1])]
)
def test_damage_after_a_chunk_was_read_is_found(artifact, layout, spoil):
    """Chunks are kept in memory, but only while their files stay as they are."""
    table = ArrayTable(artifact, *layout)
    store(table, rows := random_rows(*layout[:2], [9, 9]))
    assert_stored(table, rows)
    spoil(chunks(artifact)[0])
    with pytest.raises(DamagedRow):
        assert_stored(table, rows)


def test_what_is_read_may_be_changed(artifact, layout):
    table = ArrayTable(artifact, *layout)
    store(table, rows := random_rows(*layout[:2], [9, 9]))
    for row in artifact.rows().values():
        table.read(row)[:] = 1
    assert_stored(table, rows)


def test_few_chunks_are_kept(artifact, layout):
    table = ArrayTable(artifact, *layout)
    store(table, rows := random_rows(*layout[:2], [70, 700, 9, 300]))
    kept = table.segments._chunks = segments.Chunks(most=1000)
    assert_stored(table, rows)
    assert 0 < sum(values.nbytes for _, values in kept._kept.values()) == kept._size <= 1000


def test_zarr_reads_the_same(artifact, layout):
    """The chunks are Zarr's, whatever reads them here."""
    table = ArrayTable(artifact, *layout)
    store(table, random_rows(*layout[:2], LENGTHS), random_rows(*layout[:2], [5, 900], seed=1))
    array = zarr.open_array(artifact.path / "segments/0000.zarr", mode="r")
    for row in artifact.rows().values():
        np.testing.assert_array_equal(array[row.start : row.stop], table.read(row))


def test_damaged_rows_are_bad_images():
    """A run leaves them out, names them, and goes on."""
    assert issubclass(DamagedRow, ImageError)


def test_no_line_no_row(artifact, layout, monkeypatch):
    """A crash between data and ledger line: the next writer writes over what was left."""
    table = ArrayTable(artifact, *layout)
    store(table, kept := random_rows(*layout[:2], [30], seed=1))
    with monkeypatch.context() as patched:
        patched.setattr(type(artifact.ledger), "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store(table, random_rows(*layout[:2], [400, 7], seed=2))
    assert set(artifact.rows()) == {"1-0"}
    store(ArrayTable(artifact, *layout), new := random_rows(*layout[:2], [20], seed=3))
    assert_stored(ArrayTable(artifact, *layout), [*kept, *new])
    chunk = table.segments.max_chunk
    assert artifact.rows()["3-0"].start == -(-30 // chunk) * chunk  # a new chunk
    assert len(list(artifact.path.glob("segments/*.zarr"))) == 1


def test_two_writers_use_two_segments(artifact, layout):
    table, other = (
        ArrayTable(artifact, *layout),
        ArrayTable(make_artifact(artifact.path.parents[1]), *layout),
    )
    rows = [random_rows(*layout[:2], [9, 60], seed) for seed in range(4)]
    with table.writer() as one, other.writer() as two:
        one.commit(rows[0], 1)
        two.commit(rows[1], 1)
        one.commit(rows[2], 1)
    store(table, rows[3])
    assert_stored(table, [row for batch in rows for row in batch])
    assert {row.segment for row in artifact.rows().values()} == {"0000", "0001"}


HOLDER = """
import sys, time
from pathlib import Path
from tests.store.conftest import make_artifact, random_rows
from sclip_core.store import segments
from sclip_core.store.arrays import ArrayTable
segments.CHUNK_BYTES = 256
with ArrayTable(make_artifact(Path(sys.argv[1])), "uint8", None, True).writer() as writer:
    writer.commit(random_rows("uint8", None, [50], seed=1), 1)
    print("there", flush=True)
    time.sleep(600)
"""


def test_the_lock_dies_with_its_process(artifact, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"there\n"
    table = ArrayTable(artifact, "uint8", None, True)
    store(table, random_rows("uint8", None, [5], seed=2))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    store(table, random_rows("uint8", None, [6], seed=3))
    assert {name: row.segment for name, row in artifact.rows().items()} == {
        "1-0": "0000", "2-0": "0001", "3-0": "0000"
    }  # fmt: skip
    rows = [
        random_rows("uint8", None, [length], seed)[0] for seed, length in enumerate((50, 5, 6), 1)
    ]
    assert_stored(table, rows)


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda p: p.write_text(""), lambda p: p.write_text("[]")]
)
def test_a_description_that_is_lost_loses_nothing(artifact, layout, spoil):
    """The ledger says what reading needs; the next writer mends ``zarr.json`` for other tools."""
    table = ArrayTable(artifact, *layout)
    store(table, rows := random_rows(*layout[:2], [9]))
    spoil(artifact.path / "segments/0000.zarr/zarr.json")
    assert_stored(ArrayTable(artifact, *layout), rows)
    store(ArrayTable(artifact, *layout), more := random_rows(*layout[:2], [70], seed=1))
    assert_stored(ArrayTable(artifact, *layout), [*rows, *more])
    array = zarr.open_array(artifact.path / "segments/0000.zarr", mode="r")
    (last,) = (row for row in artifact.rows().values() if row.id == "1-0")
    np.testing.assert_array_equal(array[last.start : last.stop], more[0].values)


VALUES = st.sampled_from([0, 1, 255])
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 700), VALUES), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(BATCHES, min_size=1, max_size=4),
    layout=st.sampled_from([("uint8", None), ("uint16", None), ("float16", 3), ("float32", 2)]),
    chunk_bytes=st.sampled_from([64, 256, 2**20]),
)
def test_any_sequence_of_runs_and_reopenings_goes_on(runs, layout, chunk_bytes):
    """Chunks whose values are all the fill value, empty rows, rows that are replaced."""
    dtype, width = layout
    tail = () if width is None else (width,)
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "CHUNK_BYTES", chunk_bytes)
        expected: dict[str, np.ndarray] = {}
        for batches in runs:
            table = ArrayTable(make_artifact(Path(root)), dtype, width, True)
            with table.writer() as writer:
                for batch in batches:
                    new = {}
                    for number, length, value in batch:
                        value = np.nan if value == 255 and dtype.startswith("f") else value
                        new[f"{number}"] = np.full((length, *tail), value, dtype)
                    writer.commit([NewRow(name, values) for name, values in new.items()], 1)
                    expected |= new
        table = ArrayTable(make_artifact(Path(root)), dtype, width, True)
        stored = table.artifact.rows()
        assert stored.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(table.read(stored[name]), values)
        needed = {path for row in stored.values() for path in table.files_of(row)}
        there = {p for p in Path(root).rglob("c/**/*") if p.is_file()}
        assert needed == there  # what was replaced takes no room


def old_segment(artifact, table: ArrayTable, name: str, values: np.ndarray, row_id: str) -> None:
    """A segment and a ledger line as version 0.1.0 wrote them."""
    path = artifact.path / f"segments/{name}.zarr"
    codecs = [ZstdCodec(level=1)] if table.segments.compressed_before else []
    array = zarr.create_array(
        path, shape=values.shape, chunks=(table.segments.max_chunk, *values.shape[1:]),
        dtype=values.dtype, compressors=[*codecs, Crc32cCodec()],
        fill_value=np.nan if values.dtype.kind == "f" else 0,
    )  # fmt: skip
    array[:] = values
    row = {"id": row_id, "start": 0, "stop": len(values), "crc": crc32(values), "meta": {}}
    entry = {"segment": name, "seconds": 1.0, "rows": [row]}
    with (artifact.path / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


@pytest.mark.parametrize("spoil", [None, Path.unlink, lambda path: path.write_text("{")])
def test_segments_of_the_first_version(artifact, layout, spoil):
    """They are read as before, also without their description, and never added to."""
    table = ArrayTable(artifact, *layout)
    (row,) = random_rows(*layout[:2], [700])
    old_segment(artifact, table, "0000", row.values, "0-0")
    before = {p: p.read_bytes() for p in artifact.path.rglob("0000.zarr/**/*") if p.is_file()}
    if spoil:
        spoil(artifact.path / "segments/0000.zarr/zarr.json")
    np.testing.assert_array_equal(table.read(artifact.rows()["0-0"]), row.values)
    store(table, more := random_rows(*layout[:2], [9], seed=1))
    assert_stored(ArrayTable(artifact, *layout), more)
    assert artifact.rows()["1-0"].segment == "0001"
    if not spoil:
        assert before == {p: p.read_bytes() for p in before}
    opened = ArrayTable(artifact, *layout)
    np.testing.assert_array_equal(opened.read(artifact.rows()["0-0"]), row.values)
    opened.strike([artifact.rows()["0-0"]])
    assert not [p for p in before if p.name != "zarr.json" and p.exists()]


def test_a_small_batch_takes_little_room(tmp_path, monkeypatch):
    """One image of 196 patches took 1 MiB; 40 images of one window each took 40."""
    monkeypatch.setattr(segments, "CHUNK_BYTES", 2**20)
    artifact = make_artifact(tmp_path)
    table = ArrayTable(artifact, "float16", 512, False)
    rows = random_rows("float16", 512, [196] * 5 + [200, 180, 1176])
    for row in rows:
        store(table, [row])
    assert_stored(ArrayTable(artifact, "float16", 512, False), rows)
    size = sum(p.stat().st_size for p in artifact.path.rglob("c/*/0"))
    assert size < 1.05 * sum(row.values.nbytes for row in rows)
    assert len(list(artifact.path.rglob("c/*/0"))) < 20


def test_replaced_rows_leave_their_room(artifact, layout):
    table = ArrayTable(artifact, *layout)
    for seed in range(4):
        rows = [
            NewRow(f"{n}", row.values, row.meta)
            for n, row in enumerate(random_rows(*layout[:2], LENGTHS, seed))
        ]
        store(ArrayTable(artifact, *layout), rows)
        stored = artifact.ledger.rows()
        assert len(chunks(artifact)) == len({p for r in stored.values() for p in table.files_of(r)})
    assert_stored(table, rows)


def test_where_nothing_can_be_written(artifact):
    (artifact.path / "segments").touch()
    with pytest.raises(DiskError, match="is a file, where a folder is needed"):
        store(ArrayTable(artifact, "uint8", None, True))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ],
)
def test_what_the_system_refuses_is_no_damage(artifact, monkeypatch, error):
    """A row that cannot be read just now must not be struck: it may be whole."""
    table = ArrayTable(artifact, "uint8", None, True)
    store(table, rows := random_rows("uint8", None, [9]))

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(segments.Chunks, "read", refuse)
        with pytest.raises(DiskError, match=r"cannot be read \(.*\); what was computed is kept"):
            table.read(artifact.rows()["0-0"])
    assert_stored(table, rows)
