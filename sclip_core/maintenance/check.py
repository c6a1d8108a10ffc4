"""Verifying a store: every checksum, size and reference, without computing anything."""

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
from sclip_core.results.files import TABLES, files_of, read_table, run_ids
from sclip_core.store.arrays import ArrayTable, DamagedRow
from sclip_core.store.artifact import Artifact, is_intact
from sclip_core.store.ledger import Row
from sclip_core.store.parts import ROW_COLUMN, PartFiles, PartTable
from sclip_core.store.records import RecordTable


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file of the store."""

    path: Path
    what: str  # in words
    rows: tuple[Row, ...] = ()  # that cannot be read, of an artifact
    table: Any = None  # which they are of


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
    """Look at everything that is stored.

    Args:
        root: the folder of all artifacts.
        advance: is told how many rows were read since it was last called.

    Yields:
        What is wrong, as it is found.
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
        with_fault = _wrong_key(artifact, manifest)
        if with_fault:
            yield with_fault
    ledger = artifact.path / "ledger.jsonl"
    for number, fault in artifact.ledger.odd_lines().items():
        yield Fault(ledger, f"line {number} cannot be used ({fault}); its rows are computed again")
    rows = list(artifact.ledger.rows().values())
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


def _wrong_key(artifact: Artifact, manifest: Path) -> Fault | None:
    """A manifest that describes another folder than the one that it lies in."""
    content = json.loads(manifest.read_bytes())
    same = content.get("key") == artifact.path.name == artifact.identity.key
    if same and content.get("stage") == artifact.path.parent.name:
        return None
    return Fault(manifest, "does not say what its folder's name says; move the folder away")


def open_table(artifact: Artifact, rows: Sequence[Row]) -> Any:
    """The table of an artifact of which nothing is known but its files.

    Args:
        artifact: ``Artifact.at``.
        rows: of its ledger.

    Returns:
        Where no file says how the rows are stored, None or a ``PartFiles`` without columns.
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
    """Rows of one segment side by side, so that a file is read once."""
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
    """Where in its artifact a row lies."""
    part = row.segment.endswith(".parquet")
    return f"parts/{row.segment}" if part else f"segments/{row.segment}.zarr"


def _check_results(root: Path) -> Iterator[Fault]:
    """Every file of the tables of results, each by itself, and the artifacts that runs name."""
    for run_id in run_ids(root):
        for table in TABLES:
            for path in files_of(root, table, [run_id]):
                try:
                    found = read_table(root, table, [run_id])
                except UserError as error:
                    yield Fault(path, str(error).removeprefix(f"{path} "))
                    continue
                if table == "runs":
                    yield from _missing_artifacts(root, path, found.to_pylist()[0])


def _missing_artifacts(root: Path, path: Path, run: dict[str, Any]) -> Iterator[Fault]:
    """Artifacts that a run was made from and that are gone; its scores are still right."""
    for name, key in run.items():
        stage = name.removeprefix("key_")
        if (
            name.startswith("key_")
            and key
            and stage != "results"
            and not (root / stage / key).is_dir()
        ):
            yield Fault(path, f"refers to {stage}/{key}, which is not there any more")
