"""One file from a server, resumed after a cut: only the bytes that are missing are asked for."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from sclip_core.acquire import AGAIN, SILENT, Progress
from sclip_core.acquire.sources import Archive
from sclip_core.config import UserError
from sclip_core.config.optional import optional
from sclip_core.store.files import fsync, write_whole, written_to

TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
PAUSE = 1.0  # seconds after the first failure; doubled after each further one
LONGEST = 30.0  # seconds
CHUNK = 2**18  # bytes
GAIN = 2**24  # bytes; a request that brought as many does not count as a failure
BUSY = {408, 425, 429, 500, 502, 503, 504}
KEPT = f"what was fetched is kept, {AGAIN}"


class _CutError(Exception):
    """This request failed; another may succeed."""


class Transfer:
    """The download of one file, in as many requests as it takes.

    ``NAME.part`` holds the bytes so far. ``NAME.part.json`` notes which file they belong to: its
    address, its length, and the server's ETag and Last-Modified, by which the server tells
    (If-Range, RFC 9110 section 13.1.5) whether the missing bytes still belong to them.
    """

    def __init__(
        self, archive: Archive, path: Path, progress: Progress = SILENT, tries: int = 5
    ) -> None:
        """Prepare the download of an archive with an address.

        Args:
            archive: what to fetch.
            path: the final place of the file, which is named in errors.
            progress: shows how far it is.
            tries: how many requests in a row may fail before it gives up.
        """
        self.archive, self.path, self.progress, self.tries = archive, path, progress, tries
        self.url = archive.url or ""
        self.part, self.note = beside(path, ".part"), beside(path, ".part.json")
        self.answered = False  # whether the server was reached at all

    def run(self) -> None:
        """Send requests until ``part`` has the whole file, and ask the disk to keep it.

        Raises:
            UserError: the server cannot be reached or has another file, or the disk lacks space.
            DiskError: the file cannot be written.
        """
        self.progress.start(self.archive.name, self.archive.bytes, self._size())
        failures, most = 0, self._size()
        try:
            while True:
                try:
                    self._request()
                    break
                except _CutError as cut:
                    gained = self._size() - most
                    most = max(most, self._size())
                    failures = 1 if gained >= GAIN else failures + 1
                    if failures >= self.tries:
                        raise self._failed(str(cut)) from None
                time.sleep(min(PAUSE * 2 ** (failures - 1), LONGEST))
        finally:
            self.progress.finish()
        with written_to(self.part, KEPT):
            fsync(self.part)

    def drop(self) -> None:
        """Remove the bytes that have come, and the note of them."""
        with written_to(self.part, AGAIN):
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _noted(self) -> dict[str, Any]:
        note = read_json(self.note)
        return note if isinstance(note, dict) else {}

    def _failed(self, reason: str) -> UserError:
        kept = "; what was fetched is kept" if self._size() else ""
        return UserError(
            f"{self.url} could not be fetched ({reason[:200]}){kept}: {AGAIN}, or fetch it "
            f"yourself and put it at {self.path.absolute()}"
        )

    def _request(self) -> None:
        """Ask for the bytes that are missing, if any are."""
        requests = optional("requests", "data")
        from urllib3.exceptions import HTTPError, MaxRetryError  # comes with requests

        headers = self._headers()
        if headers is None:
            return
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                self.answered = True
                self._receive(answer)
        except ValueError as error:  # requests' own for ftp:// and such; a redirect to no address
            raise self._failed(f"not a usable address: {error}") from None
        except HTTPError as error:
            raise _CutError(f"the connection was cut: {error}") from None
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            if isinstance(cause, MaxRetryError):  # not even connected
                cause = str(cause.reason).split(": ", 1)[-1]
                if not self.answered:
                    raise self._failed(cause) from None
            raise _CutError(str(cause)) from None

    def _headers(self) -> dict[str, str] | None:
        """The headers of the next request; None if the part is the whole file."""
        headers = {"Accept-Encoding": "identity"}  # the bytes as published: lengths and ranges fit
        size, note = self._size(), self._noted()
        total, validator = note.get("total"), _validator(note)
        # without validator or checksum, nothing would tell the halves of two files apart
        resumable = note.get("url") == self.url and (validator or self.archive.checksum)
        if not size or not resumable or size > (total or size):
            return headers  # for all of it; the part is dropped when a server sends that
        if size == total:
            return None
        headers["Range"] = f"bytes={size}-"
        return headers | ({"If-Range": validator} if validator else {})

    def _receive(self, answer: Any) -> None:
        """Append what a server sends to the part."""
        status, size = answer.status_code, self._size()
        span = answer.headers.get("Content-Range", "")
        if status == 416 and size:
            if span == f"bytes */{size}":
                return
            self._restart("the part does not fit the file")
        if status in BUSY:
            raise _CutError(f"the server answers {status} {answer.reason}")
        if status not in (200, 206):
            raise self._failed(f"the server answers {status} {answer.reason}")
        new = _described(answer, self.url)
        if status == 206:
            if not span.startswith(f"bytes {size}-") or (size and not _same(self._noted(), new)):
                self._restart("the file has changed on the server")
        elif size:
            self.drop()  # the server begins at the first byte
        self._check(answer, new["total"])
        write_whole(self.note, lambda path: path.write_text(json.dumps(new)))
        expected = new["total"] or self.archive.bytes
        self.progress.start(self.archive.name, expected, self._size())
        with written_to(self.part, KEPT), open(self.part, "ab") as file:
            # within written_to: no OSError comes out of the stream, only urllib3's own errors
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                self.progress.advance(len(chunk))
        if expected not in (None, self._size()):
            raise _CutError(f"{self._size()} of {expected} bytes came")

    def _restart(self, reason: str) -> None:
        self.drop()
        raise _CutError(reason)

    def _check(self, answer: Any, total: int | None) -> None:
        """Raise where the answer is not the file, or the disk has too little space for it."""
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise self._failed("the server answers with a web page")
        if total is None:
            return
        if self.archive.bytes not in (None, total):
            expected = f"it has {total} bytes, {self.archive.bytes} were expected"
            raise self._failed(f"another file is there: {expected}")
        needed, free = total - self._size(), shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise UserError(
                f"{self.path} needs {needed / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free "
                f"there: make room, then {AGAIN}"
            )


def _described(answer: Any, url: str) -> dict[str, Any]:
    """What is noted about the file that a server sends; ``total`` is None if it is not told."""
    headers = answer.headers
    told = headers.get("Content-Length", "")
    if answer.status_code == 206:
        told = re.sub(r".*/", "", headers.get("Content-Range", ""))
    total = int(told) if told.isdigit() else None
    validators = {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}
    return {"url": url, "total": total, **validators}


def _validator(note: dict[str, Any]) -> str | None:
    """What If-Range takes: an ETag unless it is a weak one, else a date."""
    etag, modified = note.get("etag"), note.get("modified")
    return etag if etag and not etag.startswith("W/") else modified


def _same(note: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two answers are of one file; for servers that do not know If-Range."""
    keys = ("total", "etag", "modified")
    return all(note.get(k) == new[k] for k in keys if note.get(k) and new[k])


def beside(path: Path, suffix: str) -> Path:
    """The path of a file next to another one: its name, followed by a suffix."""
    return path.with_name(path.name + suffix)


def read_json(path: Path) -> Any:
    """The value in a JSON file; None if the file is missing or damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
