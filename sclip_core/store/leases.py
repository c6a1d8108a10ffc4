"""Leases: processes claim rows, so that runs that were started together share the work.

Every process that computes in a store has one file under ``<root>/.leases/``: the artifacts that it
uses and the rows that it has claimed. A lease ends with its process: its file is locked while that
lives. Since locks do not reach other hosts, a process also touches its file every few seconds.
Claims only save work: if a lease is taken for dead while its process lives, a row is computed and
stored twice, and the results are the same.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sclip_core.config.places import ObjectPath, Place
from sclip_core.store.files import TEMPORARY, host, is_leftover, make_folder, written_to

LOG = logging.getLogger(__name__)
FOLDER = ".leases"
HEARTBEAT = 2.0  # seconds
# Seconds without a heartbeat after which ...
LOST = 15.0  # a process of another host counts as dead
ABANDONED = 120.0  # work of a command of another host, whose heartbeats a disk may show late
FORGOTTEN = 86_400.0  # the lease of such a process is removed
STOPPED = 60.0  # a process of this host counts as suspended
ARTIFACT = re.compile(r"\w+/[0-9a-f]+")  # names of artifacts
PATIENCE = 30.0  # seconds that a claim waits for the lock, and then goes on without it


@dataclass
class _Other:
    """What is known of another process's lease."""

    offset: int = 0  # bytes read so far
    heartbeat: int = -1  # the file's last change, by the clock of its host
    seen: float = 0.0  # when this process saw that change, by its monotonic clock
    claims: dict[str, set[str]] = field(default_factory=dict)  # ids of rows by artifact
    uses: set[str] = field(default_factory=set)  # artifacts


class Lease:
    """This process's lease in a store; nothing is written before its first use."""

    def __init__(self, root: Path) -> None:
        """Name the store.

        Args:
            root: the folder of all artifacts.
        """
        self._folder = root / FOLDER
        self._root = root
        self._path = self._folder  # of the lease's file, once there is one
        self._mutex = threading.Lock()
        self._others: dict[Path, _Other] = {}
        self._claimed: dict[str, set[str]] = {}
        self._end: weakref.finalize[Any, Any] | None = None

    def use(self, artifacts: Iterable[Place]) -> None:
        """Protect artifacts that this process reads or writes from being cleaned up.

        Does nothing where the store cannot be written to.
        """
        names = sorted({self._name(artifact) for artifact in artifacts})
        with suppress(OSError), self._mutex:
            self._open()
            with self._exclusive():  # a clean-up looks at what is in use under the same lock
                self._write({"use": names})

    def claim(self, artifact: Place, ids: Iterable[str], most: int) -> list[str]:
        """Claim the first rows that no other process computes.

        Args:
            artifact: the folder of the artifact.
            ids: the wanted rows in order; read only as far as needed.
            most: how many rows to claim at most.

        Returns:
            The rows that were claimed. Some may have been stored just before: check the ledger.

        Raises:
            DiskError: the store cannot be written to.
        """
        name = self._name(artifact)
        with self._mutex, written_to(self._folder):
            self._open()
            with self._exclusive():
                taken = self._taken(name)
                ours = list(islice((row_id for row_id in ids if row_id not in taken), most))
                self._claimed.setdefault(name, set()).update(ours)
                if ours:
                    self._write({"artifact": name, "claim": ours})
        return ours

    def release(self, artifact: Place, ids: Iterable[str]) -> None:
        """Give up claims: the rows are stored, or will not be computed."""
        name = self._name(artifact)
        with self._mutex:
            given = self._claimed.get(name, set()) & set(ids)
            self._claimed.get(name, set()).difference_update(given)
            if given and self._end:
                with suppress(OSError):
                    self._write({"artifact": name, "release": sorted(given)})

    def taken(self, artifact: Place) -> dict[str, str]:
        """The rows that others compute, each with its owner, such as ``process 12``."""
        with self._mutex:
            return self._taken(self._name(artifact))

    def in_use(self) -> set[str]:
        """The artifacts that other processes use, as ``<stage>/<key>``."""
        with self._mutex:
            others = self._refreshed(stopped_count=True)
            names = (name for other in others.values() for name in (*other.uses, *other.claims))
            return set(filter(None, names))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep others from using further artifacts or claiming rows until the block ends.

        Raises:
            DiskError: the store cannot be written to.
        """
        with written_to(self._folder):
            make_folder(self._folder)
            with self._exclusive():
                yield

    @property
    def name(self) -> str:
        """By which other processes know this lease; empty: it has no file."""
        return self._path.name if self._end else ""

    def lives(self, name: str) -> bool:
        """Whether another process's lease has not ended, nor the process without ending it."""
        with self._mutex:
            path = self._folder / name
            other = self._others.setdefault(path, _Other(seen=time.monotonic()))
            try:
                return _is_alive(path, other, stopped_count=True, lost=ABANDONED)
            except FileNotFoundError:
                return False
            except OSError:  # of a network drive, which may pass
                return True

    def close(self) -> None:
        """End the lease; the next use begins another."""
        with self._mutex:
            if self._end:
                self._end()
                self._end = None
            self._claimed.clear()

    def _name(self, artifact: Place) -> str:
        return f"{artifact.parent.name}/{artifact.name}"

    def _open(self) -> None:
        if self._end:
            return
        make_folder(self._folder)
        self._path = self._folder / f"{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        lock = FileLock(self._path.with_suffix(".lock"), thread_local=False)
        lock.acquire(timeout=0)
        self._path.touch()
        with suppress(OSError):
            self._clean_up()
        done = threading.Event()
        beat = threading.Thread(target=_beat, args=(self._path, done), daemon=True)
        beat.start()
        self._end = weakref.finalize(self, _finish, self._path, lock, done, os.getpid())

    def _write(self, line: dict[str, Any]) -> None:
        self._open()
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process claim at a time; the others go on if it is suspended here."""
        lock = FileLock(self._folder / "claims.lock")
        with suppress(Timeout):
            lock.acquire(timeout=PATIENCE)
        try:
            yield
        finally:
            lock.release()

    def _taken(self, name: str) -> dict[str, str]:
        return {
            row_id: _owner(path)
            for path, other in self._refreshed().items()
            for row_id in other.claims.get(name, ())
        }

    def _refreshed(self, stopped_count: bool = False) -> dict[Path, _Other]:
        """The current leases of other processes that live."""
        alive = {}
        for path in self._folder.glob("*.jsonl"):
            if path == self._path:
                continue
            other = self._others.setdefault(path, _Other(seen=time.monotonic()))
            with suppress(OSError):
                if _is_alive(path, other, stopped_count):
                    _read(path, other)
                    alive[path] = other
        return alive

    def _clean_up(self) -> None:
        """Remove the leases and temporary files of processes that were killed."""
        now = self._path.stat().st_mtime  # by the clock of the file system
        for path in self._folder.glob("*.jsonl"):
            other = _Other()
            if path.name.startswith(f"{host()}-"):
                gone = is_free(path.with_suffix(".lock"))
            else:
                gone = now - path.stat().st_mtime > FORGOTTEN
            if path == self._path or not gone:
                continue
            _read(path, other)
            for name in filter(ARTIFACT.fullmatch, (*other.uses, *other.claims)):
                _remove_temporary(self._root / name)
            _remove_temporary(self._root / "results")
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)


class NoLease:
    """In place of a lease, for object storage: no process knows what others compute.

    Work is divided by shards instead. Two commands that compute the same rows store them twice,
    and the results are the same.
    """

    name = ""

    def lives(self, name: str) -> bool:
        """Whether another lease has not ended: unknown, so yes."""
        return True

    def use(self, artifacts: Iterable[Place]) -> None:
        """Nothing: nothing is cleaned up there."""

    def claim(self, artifact: Place, ids: Iterable[str], most: int) -> list[str]:
        """The first of the wanted rows."""
        return list(islice(ids, most))

    def release(self, artifact: Place, ids: Iterable[str]) -> None:
        """Nothing."""

    def taken(self, artifact: Place) -> dict[str, str]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing."""


def lease_of(root: Place) -> Lease | NoLease:
    """The lease of this process in the store of all artifacts."""
    return NoLease() if isinstance(root, ObjectPath) else Lease(root)


def _owner(path: Path) -> str:
    where, pid, *_ = *path.stem.split("-"), "", ""
    who = f"process {pid}" if pid.isdigit() else "process ?"
    return who if where == host() else f"{who} on another host"


def is_free(path: Path) -> bool:
    """Whether no process of this host holds a lock file."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _is_alive(path: Path, other: _Other, stopped_count: bool, lost: float | None = None) -> bool:
    """Whether the process of a lease lives and is not suspended (unless `stopped_count`)."""
    now, heartbeat = time.monotonic(), path.stat().st_mtime_ns
    if heartbeat != other.heartbeat:
        other.heartbeat, other.seen = heartbeat, now
    silent = now - other.seen
    if path.name.startswith(f"{host()}-"):
        return not is_free(path.with_suffix(".lock")) and (stopped_count or silent < STOPPED)
    return silent < (lost or LOST)


def _read(path: Path, other: _Other) -> None:
    """Read what was added to a lease; lines that cannot be used are ignored."""
    with path.open("rb") as file:
        file.seek(other.offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            other.offset += len(line)
            with suppress(ValueError, TypeError, AttributeError, RecursionError):
                entry = json.loads(line)
                other.uses.update(map(str, entry.get("use", ())))
                rows = other.claims.setdefault(str(entry.get("artifact", "")), set())
                rows.update(map(str, entry.get("claim", ())))
                rows.difference_update(map(str, entry.get("release", ())))


def _remove_temporary(folder: Path) -> None:
    """Remove the temporary files below a folder that ended processes left."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)
    for lock in folder.glob("segments/*.lock"):  # chunks that zarr had not renamed
        segment = FileLock(lock)
        with suppress(Timeout):
            segment.acquire(timeout=0)
            for path in lock.with_suffix(".zarr").rglob("*.partial"):
                path.unlink(missing_ok=True)
            segment.release()


def _beat(path: Path, done: threading.Event) -> None:
    """Touch the lease until `done`, to show that the process lives."""
    while not done.wait(HEARTBEAT):
        with suppress(OSError):
            os.utime(path)


def _finish(path: Path, lock: FileLock, done: threading.Event, owner: int) -> None:
    if os.getpid() != owner:  # a forked child does not end the lease
        return
    done.set()
    with suppress(OSError):
        path.unlink(missing_ok=True)
        lock.release()
        path.with_suffix(".lock").unlink(missing_ok=True)
