"""Verifying every checksum, size and reference of a store, without computing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sclip_core.config import UserError
from sclip_core.results.files import ON_DEMAND, TABLES, files_of, read_table, run_ids
from sclip_core.store import ledger_snapshot as snapshot
from sclip_core.store.arrays import ArrayTable, DamagedRow
from sclip_core.store.artifact import Artifact, is_intact
from sclip_core.store.ledger import Ledger, Row
from sclip_core.store.parts import ROW_COLUMN, PartFiles, PartTable
from sclip_core.store.records import RecordTable


@dataclass(frozen=True)
class Fault:
    """A fault of a file of the store."""

    path: Path
    what: str  # a clause that follows the path
    rows: tuple[Row, ...] = ()  # of an artifact, that cannot be read
    table: Any = None  # of these rows


def artifacts_in(root: Path) -> list[Artifact]:
    """The artifacts of a store, by stage and key."""
    ledgers = {
        path.parent
        for name in ("manifest.json", "ledger.jsonl")
        for path in root.glob(f"*/*/{name}")
    }
    return [Artifact.at(folder) for folder in sorted(ledgers)]


def check_store(
    root: Path, advance: Callable[[int], object] = lambda rows: None
) -> Iterator[Fault]:
    """Check everything that is stored.

    Args:
        root: the folder of all artifacts.
        advance: called with the number of rows that were read since the last call.

    Yields:
        Faults, as they are found.
    """
    for artifact in artifacts_in(root):
        yield from _check_artifact(artifact, advance)
    yield from _check_results(root)


def _check_artifact(artifact: Artifact, advance: Callable[[int], object]) -> Iterator[Fault]:
    manifest = artifact.path / "manifest.json"
    if not manifest.is_file():
        yield Fault(manifest, "is missing; the next run that uses the folder writes it again")
    elif not is_intact(manifest.read_bytes()):
        yield Fault(manifest, "is damaged; the next run that uses the folder writes it again")
    else:
        yield from _wrong_key(artifact, manifest)
    path = artifact.path / "ledger.jsonl"
    ledger = Ledger(path, snapshots=False)  # each line is looked at
    for number, fault in ledger.odd_lines().items():
        yield Fault(path, f"line {number} cannot be used ({fault}); its rows are computed again")
    if not snapshot.is_intact(path.with_name(snapshot.NAME)):
        yield Fault(path.with_name(snapshot.NAME), "is damaged; it only saves time: remove it")
    rows = list(ledger.rows().values())
    table = open_table(artifact, rows)
    if rows and (table is None or type(table) is PartFiles):
        what = f"none of its {len(rows)} rows can be read"
        yield Fault(artifact.path, what, tuple(rows), table)
        return
    for batch in _by_segment(rows):
        damaged = [row for row in batch if not _can_be_read(table, row)]
        advance(len(batch))
        if damaged:
            what = f"{len(damaged)} of {len(batch)} rows are damaged"
            yield Fault(artifact.path / _place(batch[0]), what, tuple(damaged), table)


def _wrong_key(artifact: Artifact, manifest: Path) -> Iterator[Fault]:
    """A fault if the manifest describes another folder than its own."""
    content = json.loads(manifest.read_bytes())
    same = content.get("key") == artifact.path.name == artifact.identity.key
    if not same or content.get("stage") != artifact.path.parent.name:
        yield Fault(manifest, "does not match the name of its folder; move the folder away")


def open_table(artifact: Artifact, rows: Sequence[Row]) -> Any:
    """The table of an artifact, from its files alone.

    Args:
        artifact: the artifact, as ``Artifact.at`` gives it.
        rows: the rows of its ledger.

    Returns:
        None or a bare ``PartFiles`` where no file says how the rows are stored.
    """
    if any(row.segment.endswith(".parquet") for row in rows):
        for part in sorted({row.segment for row in rows}):
            with suppress(OSError, ValueError, pa.ArrowException):
                schema = pq.read_schema(
                    pa.BufferReader((artifact.path / "parts" / part).read_bytes())
                )
                id_column, *columns = schema.remove_metadata()
                if id_column.name == ROW_COLUMN:
                    return PartTable(artifact, [field.name for field in columns])
                return RecordTable(artifact, pa.schema(columns), id_column.name)
        return PartFiles(artifact)
    return ArrayTable.of_unknown_layout(artifact)


def _by_segment(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each segment together, so that each file is read once."""
    segments: dict[str, list[Row]] = {}
    for row in rows:
        segments.setdefault(row.segment, []).append(row)
    yield from segments.values()


def _can_be_read(table: Any, row: Row) -> bool:
    try:
        table.read_many([row]) if isinstance(table, PartTable) else table.read(row)
    except DamagedRow:
        return False
    return True


def _place(row: Row) -> str:
    """The file of a row, relative to its artifact."""
    part = row.segment.endswith(".parquet")
    return f"parts/{row.segment}" if part else f"segments/{row.segment}.zarr"


def _check_results(root: Path) -> Iterator[Fault]:
    """Check each file of the results, and that the artifacts that runs name exist."""
    for run_id in run_ids(root):
        for table in (*TABLES, *ON_DEMAND):
            for path in map(Path, map(str, files_of(root, table, [run_id]))):
                try:
                    found = read_table(root, table, [run_id])
                except UserError as error:
                    yield Fault(path, str(error).removeprefix(f"{path} "))
                    continue
                if table == "runs":
                    yield from _missing_artifacts(root, path, found.to_pylist()[0])


def _missing_artifacts(root: Path, path: Path, run: dict[str, Any]) -> Iterator[Fault]:
    """Faults for artifacts of a run that are gone; its scores are still valid."""
    for name, key in run.items():
        stage = name.removeprefix("key_")
        if stage in (name, "results") or not key:  # not a key, or the run's own
            continue
        if not (root / stage / key).is_dir():
            yield Fault(path, f"refers to {stage}/{key}, which no longer exists")
