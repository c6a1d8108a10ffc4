"""Publishers' files, downloaded whole and checked, by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sclip_core.acquire import AGAIN, SILENT, Progress
from sclip_core.acquire.sources import Archive
from sclip_core.acquire.transfer import KEPT, Transfer, beside, read_json
from sclip_core.config import UserError
from sclip_core.store.files import DiskError, write_whole, written_to


class ByHand(UserError):
    """A file that a person has to fetch."""


def fetch(archive: Archive, folder: Path, progress: Progress = SILENT, tries: int = 5) -> Path:
    """Download a publisher's file into a folder, unless it is there already.

    An unfinished file is called ``NAME.part``; the next call resumes it.

    Args:
        archive: what to fetch.
        folder: where to; it is made if need be.
        progress: shows how far it is.
        tries: how many requests in a row may fail before it gives up.

    Returns:
        ``folder / archive.name``, of the right size and checksum where these are known.

    Raises:
        ByHand: it is not there, and only a person can fetch it.
        UserError: another file has its name, the server cannot be reached or has another file,
            the disk lacks space, another process is downloading it, or Requests is not installed.
        DiskError: it cannot be written.
    """
    path = folder / archive.name
    if not os.path.lexists(path):
        if archive.url is None:
            why = f": {archive.why}" if archive.why else ""
            raise ByHand(
                f"{archive.name} ({archive.size}) has to be fetched by hand{why}. Fetch it from "
                f"{archive.page}, put it at {path.absolute()}, then {AGAIN}"
            )
        with written_to(folder, AGAIN):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not os.path.lexists(path):  # another process may have just finished
                _download(archive, path, Transfer(archive, path, progress, tries))
                return path
    _check(archive, path)
    return path


def _download(archive: Archive, path: Path, transfer: Transfer) -> None:
    transfer.run()
    if fault := _checksum_fault(archive, transfer.part):
        transfer.drop()
        raise UserError(
            f"{archive.url} is not the file with {archive.checksum} ({fault}); it was removed: "
            f"{AGAIN}, or fetch it yourself and put it at {path.absolute()}"
        )
    with written_to(path, KEPT):
        os.replace(transfer.part, path)
    _remember(archive, path)


def _check(archive: Archive, path: Path) -> None:
    """Raise where a file is not the published one; it is read only if it changed since then."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file: remove it, then {AGAIN}")
    size, fault = path.stat().st_size, None
    if size == 0 or archive.bytes not in (None, size):
        expected = f"{archive.bytes} were" if archive.bytes else "more was"
        fault = f"it has {size} bytes, {expected} expected"
    elif _verified(path) != _state(archive, path):
        fault = _checksum_fault(archive, path)
    if fault:
        raise UserError(f"{path} is not the published file ({fault}): remove it, then {AGAIN}")
    _remember(archive, path)


def _checksum_fault(archive: Archive, path: Path) -> str | None:
    """How the checksum of a file differs from the published one, if one is known."""
    if archive.checksum is None:
        return None
    kind, _, expected = archive.checksum.partition(":")
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from None
    return None if found == expected.lower() else f"its {kind} is {found}, {expected} was expected"


def _state(archive: Archive, path: Path) -> dict[str, object]:
    """What tells that a file is still the one that was checked."""
    state = path.stat()
    return {"checksum": archive.checksum, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def _verified(path: Path) -> object:
    return read_json(beside(path, ".verified.json"))


def _remember(archive: Archive, path: Path) -> None:
    """Note that a file is the published one, and remove what its download left behind."""
    state = _state(archive, path)
    if _verified(path) != state:
        with suppress(DiskError):  # a folder may be read-only
            write_whole(beside(path, ".verified.json"), lambda p: p.write_text(json.dumps(state)))
    with suppress(OSError):
        beside(path, ".part").unlink(missing_ok=True)
        beside(path, ".part.json").unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from downloading this file meanwhile."""
    lock = FileLock(beside(path, ".lock"))
    with written_to(path, AGAIN):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is downloading {path}: wait until it is done, then {AGAIN}"
            ) from None
    try:
        yield
    finally:
        lock.release()
