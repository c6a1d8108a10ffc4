"""Finding and removing what nothing in a store refers to."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.datasets.drawn import MADE, MARKER
from sclip_core.maintenance.check import artifacts_in, open_table
from sclip_core.results.files import ON_DEMAND, TABLES, read_table, run_ids
from sclip_core.results.measured import STAGE_OF
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.artifact import Artifact
from sclip_core.store.file_cache import THUMBNAILS
from sclip_core.store.files import TEMPORARY, is_leftover
from sclip_core.store.leases import ARTIFACT, Lease, is_free

HOUR, DAY = 3600.0, 86_400.0  # seconds


@dataclass(frozen=True)
class Garbage:
    """Files that can be removed together."""

    path: Path  # of a folder or a file
    why: str
    files: tuple[Path, ...]  # empty: the whole folder
    size: int  # bytes
    changed: float = math.inf  # the last write to it, or use of it, in seconds since the epoch


def find_garbage(root: Path, lease: Lease, older_than: float) -> Iterator[Garbage]:
    """Find what can be removed, except what a run in progress uses.

    Args:
        root: the folder of all artifacts.
        lease: of this process; it knows what others use.
        older_than: days; an artifact that no run refers to counts only if it was not written to for
            so long, since a run that was stopped may still be continued. Label maps that were
            drawn and Parquet files that were unpacked count if no run has used them for so long.

    Raises:
        UserError: the tables of results cannot be read, so what they refer to is not known.
    """
    used, referred = lease.in_use(), referred_to(root)
    for artifact in artifacts_in(root):
        name = _name(artifact.path)
        if name in used:
            continue
        changed = _last_change(artifact.path)
        if name not in referred and time.time() - changed >= older_than * DAY:
            size = sum(_size(path) for path in artifact.path.rglob("*"))
            yield Garbage(artifact.path, "no run refers to it", (), size, changed)
            continue
        unused = tuple(_unused_files(artifact))
        if unused:
            size = sum(map(_size, unused))
            yield Garbage(artifact.path, "data that no row uses", unused, size)
    for folder in made_of_data(root):
        changed = _last_change(folder)
        unused_for = time.time() - changed
        if _name(folder) in used or unused_for < max(older_than * DAY, HOUR):
            continue  # a run that has just begun has no lease yet
        size = sum(_size(path) for path in folder.rglob("*"))
        why = f"no run has used it for {number_of(int(unused_for // DAY), 'day')}"
        yield Garbage(folder, why, (), size, changed)
    yield from _thumbnails(root, older_than)
    for folder in [root, *(root / "results" / table for table in (*TABLES, *ON_DEMAND))]:
        left = tuple(path for path in folder.glob(f"{TEMPORARY}*") if is_leftover(path))
        if left:
            yield Garbage(folder, "temporary files", left, sum(map(_size, left)))


def _thumbnails(root: Path, older_than: float) -> Iterator[Garbage]:
    """Those of ``sclip explore``, if no page has shown one for so many days: the whole folder."""
    folder = root / THUMBNAILS
    if folder.is_symlink() or not folder.is_dir():
        return
    changed = _last_change(folder)
    unused_for = time.time() - changed
    if unused_for >= max(older_than * DAY, HOUR * 2):  # a page writes its use down once an hour
        size = sum(_size(path) for path in folder.rglob("*"))
        why = f"no page has used it for {number_of(int(unused_for // DAY), 'day')}"
        yield Garbage(folder, why, (), size, changed)


def remove(garbage: Garbage, root: Path, lease: Lease) -> bool:
    """Remove garbage, unless a run has begun to use it since.

    Returns:
        Whether it was removed.
    """
    with lease.exclusive():
        name = _name(garbage.path)
        if name in lease.in_use():
            return False
        if garbage.files:  # checked again: a run may have written there since
            artifact = Artifact.at(garbage.path)
            unused = {*_unused_files(artifact), *garbage.path.glob(f"{TEMPORARY}*")}
            for path in unused.intersection(garbage.files):
                path.unlink(missing_ok=True)
            return True
        if name in referred_to(root) or _last_change(garbage.path) > garbage.changed:
            return False
        # The list of what is there first: without it nothing is, even if removing the rest fails.
        for listing in ("ledger.jsonl", MARKER):
            (garbage.path / listing).unlink(missing_ok=True)
        shutil.rmtree(garbage.path)
        return True


def made_of_data(root: Path) -> list[Path]:
    """The folders of label maps that were drawn, and of Parquet files that were unpacked."""
    found = (path for part in MADE for path in (root / part).glob("*"))
    return sorted(p for p in found if ARTIFACT.fullmatch(_name(p)) and not p.is_symlink())


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def referred_to(root: Path) -> set[str]:
    """The artifacts, as ``<stage>/<key>``, that some run was made from, directly or indirectly.

    Raises:
        UserError: a table of results cannot be read.
    """
    try:
        runs = read_table(root, "runs", run_ids(root)).to_pylist()
    except UserError as error:
        raise UserError(f"cannot tell what the runs refer to: {error}") from None
    names = {
        f"{column.removeprefix('key_')}/{key}"
        for run in runs
        for column, keys in run.items()
        if column.startswith("key_") and keys
        for key in keys.split(",")  # a stage may have several tables
    }
    todo = list(names)
    while todo:
        for name in _upstream(root / todo.pop()):
            if name not in names:
                names.add(name)
                todo.append(name)
    for folder in (path for stage in STAGE_OF.values() for path in root.glob(f"{stage}/*")):
        upstream = _upstream(folder)
        if upstream and upstream <= names:  # kept as long as the label maps that it is of
            names.add(_name(folder))
    return names


def _upstream(folder: Path) -> set[str]:
    """The artifacts that an artifact was made from, by its manifest."""
    with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
        upstream = json.loads((folder / "manifest.json").read_bytes()).get("upstream") or {}
        # Of several tables of a stage each is named: ``proxy_features:tokens``.
        return {f"{label.partition(':')[0]}/{key}" for label, key in upstream.items()}
    return set()


def _unused_files(artifact: Artifact) -> Iterator[Path]:
    """Chunks and parts that no line of the ledger needs, and temporary files."""
    rows = list(artifact.ledger.rows().values())
    if any(artifact.ledger.odd_lines()):
        return  # perhaps of a later version: what they need is not known
    parts = {row.segment for row in rows}
    for path in artifact.path.glob("parts/*"):
        leftover = path.name.startswith(TEMPORARY) and is_leftover(path)
        lost = path.suffix == ".parquet" and path.name not in parts and _is_old(path)
        if leftover or lost:
            yield path
    yield from (path for path in artifact.path.glob(f"{TEMPORARY}*") if is_leftover(path))
    table = open_table(artifact, rows)
    if isinstance(table, ArrayTable):
        needed = {path for row in rows for path in table.files_of(row)}
        for segment in artifact.path.glob("segments/*.zarr"):
            if is_free(segment.with_suffix(".lock")):
                chunks = (path for path in segment.glob("c/**/*") if path.is_file())
                yield from (path for path in chunks if path not in needed)


def _is_old(path: Path) -> bool:
    """Whether no writer can still be about to add a file to the ledger; 0.1.0 has no leases."""
    return time.time() - path.stat().st_mtime > HOUR


def _last_change(folder: Path) -> float:
    """The time of the last write to an artifact, in seconds since the epoch."""
    times = [path.stat().st_mtime for path in (folder, *folder.glob("*.json*"))]
    return max(times)


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return status.st_size if path.is_file() else 0
