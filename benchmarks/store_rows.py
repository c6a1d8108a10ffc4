"""The store with many rows: fake label maps through the real tables, ledgers and digests."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Registry, Row, megabytes, peak_extra_mb, seconds, seconds_of
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.artifact import Artifact, Identity
from sclip_core.store.digests import Digests, Known, State
from sclip_core.store.ledger import Ledger
from sclip_core.store.ledger_rows import missing

SIZES = (10_000, 100_000, 1_000_000)
BATCH = 256  # rows of a commit
MAP = (24, 32)  # pixels of a label map
READ = 2000  # rows whose reading is timed
CLAIMS = 200  # of 64 rows, as a run makes them
GOAL_READ, GOAL_LEDGER, GOAL_MB = 0.3e-3, 1.0, 150.0


def store_rows(quick: bool) -> Iterator[Row]:
    """Each size in turn: writing, opening, reading, claiming, digests."""
    for count in (500,) if quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            yield from _of_size(Path(folder), count)


def _of_size(root: Path, count: int) -> Iterator[Row]:
    table = _table(root)
    ids = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)]
    writing = seconds_of(lambda: _fill(table, ids))
    yield Row(
        name=f"{count:,} small rows written, {BATCH} a commit",
        goal="linear",
        measured=f"{seconds(writing)}, {seconds(writing / count)} a row",
    )
    path = table.artifact.path / "ledger.jsonl"
    table.artifact.ledger.save_snapshot()
    yield _opened_row(path, count, snapshots=False)
    yield _opened_row(path, count, snapshots=True)
    ledger = Ledger(path)
    every = seconds_of(lambda: missing(ledger.rows(), ids))
    yield Row(
        name=f"which of {count:,} rows are missing",
        goal="linear",
        measured=f"{seconds(every)}, {seconds(every / count)} a row",
        detail={"seconds": every},
    )
    claiming = seconds_of(lambda: _claim(ledger, ids))
    yield Row(
        name=f"which rows of a claim of 64 are missing, of {count:,} rows",
        goal="the same for any number",
        measured=f"{seconds(claiming / CLAIMS)} a claim",
        detail={"seconds": claiming / CLAIMS},
    )
    reader, rows = _table(root), ledger.rows()
    some = [rows[row_id] for row_id in ids[-READ:]]
    reading = seconds_of(lambda: [reader.read(row) for row in some]) / len(some)
    yield Row(
        name=f"a small row read, of {count:,}, in order",
        goal=f"≤ {seconds(GOAL_READ)}",
        measured=seconds(reading),
        met=reading <= GOAL_READ,
        detail={"seconds": reading},
    )
    yield from _digests_rows(root / "digests.jsonl", ids)


def _opened_row(path: Path, count: int, snapshots: bool) -> Row:
    """A ledger read by a process that has not read it yet."""
    opened: list[Ledger] = []

    def open_ledger() -> None:
        opened[:] = [Ledger(path, snapshots)]
        assert len(opened[0].rows()) == count

    memory = peak_extra_mb(open_ledger)
    opened.clear()
    opening = min(seconds_of(open_ledger) for _ in range(3))
    how = "with its snapshot" if snapshots else "line by line"
    return Row(
        name=f"a ledger of {count:,} rows opened {how}",
        goal=f"10^6: ≤ {GOAL_LEDGER:.0f} s, ≤ {GOAL_MB:.0f} MB" if snapshots else "linear",
        measured=f"{seconds(opening)}, {megabytes(memory)}",
        met=opening <= GOAL_LEDGER and memory <= GOAL_MB if snapshots else None,
        detail={"seconds": opening, "mb": memory},
    )


def _digests_rows(memory: Path, ids: list[str]) -> Iterator[Row]:
    """The memory of digests, of files that are not there: only what is remembered is read."""
    known = {
        f"/data/some/folder/images/{row_id[:12]}.jpg": Known(State(8000 + i, i, i, i), row_id)
        for i, row_id in enumerate(ids)
    }
    Digests(memory)._remember(known)
    del known
    yield _opened_digests(memory, len(ids), "line by line")
    Digests(memory).of_many([])  # which writes a snapshot
    yield _opened_digests(memory, len(ids), "with their snapshot")


def _opened_digests(memory: Path, count: int, how: str) -> Row:
    kept: list[Digests] = []

    def open_digests() -> None:
        kept[:] = [Digests(memory)]

    used = peak_extra_mb(open_digests)
    opening = seconds_of(open_digests)
    return Row(
        name=f"the digests of {count:,} files opened {how}",
        goal=f"10^6: a few seconds, ≤ {GOAL_MB:.0f} MB",
        measured=f"{seconds(opening)}, {megabytes(used)}",
        met=opening <= 5 and used <= GOAL_MB,
        detail={"seconds": opening, "mb": used},
    )


def _table(root: Path) -> ArrayTable:
    artifact = Artifact(root, Identity("refine", 1, {}, {}))
    artifact.create({})
    return ArrayTable(artifact, "uint8", None, compress=True)


def _fill(table: ArrayTable, ids: Sequence[str]) -> None:
    random = np.random.default_rng(0)
    pool = random.integers(0, 21, (BATCH, MAP[0] * MAP[1]), np.uint8)
    with table.writer() as writer:
        for begin in range(0, len(ids), BATCH):
            some = ids[begin : begin + BATCH]
            new = [NewRow(row_id, pool[i], {"size": list(MAP)}) for i, row_id in enumerate(some)]
            writer.commit(new, 1.0)


def _claim(ledger: Ledger, ids: list[str]) -> None:
    """What a stage asks before it computes what it has claimed."""
    for number in range(CLAIMS):
        start = number * 64 % len(ids)
        assert not missing(ledger.rows(), ids[start : start + 64])


ROWS: Registry = {"store": store_rows}
