"""Publishers' files, fetched whole: continued after a cut, checked, one process at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sclip_core.acquire.progress import AGAIN, Progress
from sclip_core.acquire.sources import Archive
from sclip_core.acquire.transfer import KEPT, Resuming, beside, read_json
from sclip_core.config import UserError
from sclip_core.store.files import DiskError, write_whole, written_to


class ByHand(UserError):
    """A file that a person has to fetch."""


def fetch(archive: Archive, folder: Path, progress: Progress | None = None, tries: int = 5) -> Path:
    """A publisher's file, in a folder; nothing is asked of the network where it is there.

    While it comes it is ``NAME.part``, which the next call continues.

    Args:
        archive: what to fetch.
        folder: where to; made if need be.
        progress: is told how far it is.
        tries: how often in a row a connection may break before this gives up.

    Returns:
        ``folder / archive.name``, of the right size and checksum where these are known.

    Raises:
        ByHand: it is not there, and only a person can fetch it.
        UserError: another file is there under its name, the server cannot be reached or has
            another file, there is no room for it, another process is fetching it, pooch is not
            installed.
        DiskError: it cannot be written.
    """
    path = folder / archive.name
    if os.path.lexists(path):
        _check(archive, path)
        return path
    if archive.url is None:
        raise _by_hand(archive, path)
    with written_to(folder, AGAIN):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if os.path.lexists(path):  # another process has just finished
            _check(archive, path)
        else:
            _retrieve(archive, archive.url, Resuming(archive, path, progress, tries))
    return path


def _by_hand(archive: Archive, path: Path) -> ByHand:
    why = f": {archive.why}" if archive.why else ""
    return ByHand(
        f"{archive.name} ({archive.size}) has to be fetched by hand{why}. Fetch it from "
        f"{archive.page}, put it at {path.absolute()}, then {AGAIN}"
    )


def _check(archive: Archive, path: Path) -> None:
    """See that a file is the published one; it is read only if it changed since the last time."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file: remove it, then {AGAIN}")
    size = path.stat().st_size
    if size == 0 or archive.bytes not in (None, size):
        expected = f"{archive.bytes} were" if archive.bytes else "more was"
        raise _wrong(path, f"it has {size} bytes, {expected} expected")
    if archive.checksum and _seen(path) != _state(archive, path):
        kind, _, expected = archive.checksum.partition(":")
        try:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from None
        if found != expected.lower():
            raise _wrong(path, f"its {kind} is {found}, {expected} was expected")
    _remember(archive, path)


def _wrong(path: Path, found: str) -> UserError:
    return UserError(f"{path} is not the published file ({found}): remove it, then {AGAIN}")


def _state(archive: Archive, path: Path) -> dict[str, Any]:
    """By what a file that was checked is known again."""
    state = path.stat()
    return {"checksum": archive.checksum, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def _seen(path: Path) -> Any:
    return read_json(beside(path, ".verified.json"))


def _remember(archive: Archive, path: Path) -> None:
    """Note that a file is right, and tidy up what its way here left behind."""
    state = _state(archive, path)
    if _seen(path) != state:
        with suppress(DiskError):  # a folder may be there for reading only
            write_whole(beside(path, ".verified.json"), lambda p: p.write_text(json.dumps(state)))
    with suppress(OSError):
        beside(path, ".part").unlink(missing_ok=True)
        beside(path, ".part.json").unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process writes this file meanwhile."""
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


def _retrieve(archive: Archive, url: str, downloader: Resuming) -> None:
    """Have pooch call the downloader, check what it brought, and move it to its place."""
    pooch = _library()
    pooch.get_logger().setLevel(logging.ERROR)
    path = downloader.path
    try:
        with written_to(path, KEPT):
            pooch.retrieve(url, archive.checksum, path.name, path.parent, downloader=downloader)
    except ValueError as error:  # its first sentence has both checksums
        downloader.drop()
        raise UserError(
            f"{url} is not the file that is expected ({str(error).split('. ')[0]}); it was "
            f"removed: {AGAIN}, or fetch it yourself and put it at {path.absolute()}"
        ) from None
    _remember(archive, path)


def _library() -> Any:
    """Pooch, which not every command needs."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pooch":
            raise
        raise UserError("pooch is not installed: pip install 'sclip-benchmark[data]'") from None
    return pooch
