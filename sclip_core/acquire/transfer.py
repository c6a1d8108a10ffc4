"""A file's way from a server: what came before a cut is kept, and the rest asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from sclip_core.acquire.progress import AGAIN, Progress
from sclip_core.acquire.sources import Archive
from sclip_core.config import UserError
from sclip_core.store.files import fsync, write_whole, written_to

TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
PAUSE = 1.0  # seconds after the first failure; twice as long after each further one
LONGEST = 30.0  # seconds
CHUNK = 2**18  # bytes
GAIN = 2**24  # bytes; a try that brought as many is no failure
BUSY = {408, 425, 429, 500, 502, 503, 504}
KEPT = f"what was fetched is kept, {AGAIN}"


class _CutError(Exception):
    """This try failed; another may succeed."""


class Resuming:
    """A downloader for pooch that keeps what came before a cut and asks for the rest.

    ``NAME.part`` holds the bytes, ``NAME.part.json`` tells of what file they are: its address,
    length, and the server's ETag and Last-Modified, by which the server tells (If-Range, RFC 9110
    section 13.1.5) whether the rest still belongs to them.
    """

    def __init__(
        self, archive: Archive, path: Path, progress: Progress | None = None, tries: int = 5
    ) -> None:
        """Take what ``fetch`` takes, and the file's final place."""
        self.archive, self.path, self.progress, self.tries = archive, path, progress, tries
        self.part, self.note = beside(path, ".part"), beside(path, ".part.json")
        self.answered = False

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Bring a file.

        Args:
            url: of the file.
            output_file: where pooch wants it.
            pooch: not needed.

        Raises:
            UserError: it cannot be had.
            DiskError: it cannot be written.
        """
        self._start(self.archive.bytes)
        try:
            self._load(url)
        finally:
            if self.progress:
                self.progress.finish()
        with written_to(self.part, KEPT):
            fsync(self.part)
            os.unlink(output_file)
            try:  # as a second name: who stops pooch while it reads 2 GB still has the part
                os.link(self.part, output_file)
            except OSError:  # a file system without links
                os.replace(self.part, output_file)

    def drop(self) -> None:
        """Forget what has come."""
        with written_to(self.part, AGAIN):
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def _start(self, total: int | None) -> None:
        if self.progress:
            self.progress.start(self.archive.name, total, self._size())

    def _size(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _load(self, url: str) -> None:
        """Ask until all of it is there."""
        failures, most = 0, self._size()
        while True:
            try:
                return self._ask(url)
            except _CutError as cut:
                gained = self._size() - most
                most = max(most, self._size())
                failures = 1 if gained >= GAIN else failures + 1
                if failures >= self.tries:
                    raise self._failed(url, str(cut)) from None
            time.sleep(min(PAUSE * 2 ** (failures - 1), LONGEST))

    def _failed(self, url: str, reason: str) -> UserError:
        kept = "; what was fetched is kept" if self._size() else ""
        return UserError(
            f"{url} could not be fetched ({reason[:200]}){kept}: {AGAIN}, or fetch it yourself "
            f"and put it at {self.path.absolute()}"
        )

    def _ask(self, url: str) -> None:
        """One request for what is missing."""
        import requests
        import urllib3

        headers, whole = self._headers(url)
        if whole:
            return
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                self.answered = True
                self._take(url, answer)
        except ValueError as error:  # requests' own for ftp:// and such; a redirect to no address
            raise self._failed(url, f"no address that can be asked: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise _CutError(f"the connection was cut: {error}") from None
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            if isinstance(cause, urllib3.exceptions.MaxRetryError):  # not even connected
                cause = str(cause.reason).split(": ", 1)[-1]
                if not self.answered:
                    raise self._failed(url, cause) from None
            raise _CutError(str(cause)) from None

    def _headers(self, url: str) -> tuple[dict[str, str], bool]:
        """Those of the next request, and whether none is needed as all of it is there."""
        plain = {"Accept-Encoding": "identity"}  # the bytes as published: lengths, ranges
        size, note = self._size(), self._noted()
        total, since = note.get("total"), _validator(note)
        known = since or self.archive.checksum  # else nothing would tell two files' halves
        if size and (note.get("url") != url or not known or size > (total or size)):
            return plain, False  # all of it is asked for; the part goes when a server sends it
        if not size:
            return plain, False
        tie = {"If-Range": since} if since else {}
        return {**plain, "Range": f"bytes={size}-", **tie}, size == total

    def _noted(self) -> dict[str, Any]:
        """What the part is a part of."""
        note = read_json(self.note)
        return note if isinstance(note, dict) else {}

    def _take(self, url: str, answer: Any) -> None:
        """Write what a server sends to its place in the part."""
        status, size, note = answer.status_code, self._size(), self._noted()
        span = answer.headers.get("Content-Range", "")
        if status == 416 and size:
            if span == f"bytes */{size}":
                return
            self._anew("the part does not fit the file")
        if status in BUSY:
            raise _CutError(f"the server answers {status} {answer.reason}")
        if status not in (200, 206):
            raise self._failed(url, f"the server answers {status} {answer.reason}")
        total = _total(answer)
        new = {"url": url, "total": total, **_validators(answer)}
        if status == 206:
            if not span.startswith(f"bytes {size}-") or (size and not _same(note, new)):
                self._anew("the file has changed on the server")
        elif size:
            self.drop()  # the server begins at the first byte
        self._see(url, answer, total)
        write_whole(self.note, lambda path: path.write_text(json.dumps(new)))
        self._start(total or self.archive.bytes)
        with written_to(self.part, KEPT), open(self.part, "ab") as file:
            # within written_to: no OSError comes out of the stream, only urllib3's own errors
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                if self.progress:
                    self.progress.advance(len(chunk))
        expected = total or self.archive.bytes
        if expected not in (None, self._size()):
            raise _CutError(f"{self._size()} of {expected} bytes came")

    def _anew(self, reason: str) -> None:
        self.drop()
        raise _CutError(reason)

    def _see(self, url: str, answer: Any, total: int | None) -> None:
        """Whether it is worth to begin."""
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise self._failed(url, "the server answers with a web page")
        if total is None:
            return
        if self.archive.bytes not in (None, total):
            expected = f"it has {total} bytes, {self.archive.bytes} were expected"
            raise self._failed(url, f"another file is there: {expected}")
        needed, free = total - self._size(), shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise UserError(
                f"{self.path} needs {needed / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free "
                f"there: make room, then {AGAIN}"
            )


def _total(answer: Any) -> int | None:
    """The length of the file; None: the server does not tell."""
    if answer.status_code == 206:
        told = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
        return int(told[1]) if told else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _validators(answer: Any) -> dict[str, str | None]:
    headers = answer.headers
    return {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}


def _validator(note: dict[str, Any]) -> str | None:
    """What If-Range takes: an ETag unless it is a weak one, else a date."""
    etag, modified = note.get("etag"), note.get("modified")
    return etag if etag and not etag.startswith("W/") else modified


def _same(note: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two answers are of one file; for servers that do not know If-Range."""
    keys = ("total", "etag", "modified")
    return all(note.get(k) == new[k] for k in keys if note.get(k) and new[k])


def beside(path: Path, suffix: str) -> Path:
    """A path next to another, its name followed by a suffix."""
    return path.with_name(path.name + suffix)


def read_json(path: Path) -> Any:
    """What a file of JSON says; None where it is not there or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
