"""A web server of one file, which misbehaves as it is told."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATE = "Sat, 20 Feb 2021 20:20:20 GMT"


@dataclass
class Site:
    """What the server does; lists are of one entry a request, and then as if they were empty.

    Attributes:
        content: the file.
        etag: of the file; None: not told.
        modified: its date; None: not told.
        ranges: whether Range is understood.
        if_range: whether If-Range is understood; else a range is given at any rate.
        length: whether its length is told; else it is sent in chunks.
        kind: its Content-Type.
        cuts: after how many bytes the connection is cut; None: not at all.
        statuses: answers in place of the file; 0: the file.
        asked: the headers of all requests so far.
    """

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    kind: str = "application/zip"
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for headers in self.asked]


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve it, at ``site.url``."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/file.zip"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Keep quiet where a client has gone away."""


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(dict(self.headers))
        cut = site.cuts.pop(0) if site.cuts else None
        status = site.statuses.pop(0) if site.statuses else 0
        if status:
            return self._head(status, {"Content-Length": "0"})
        start = self._start()
        if start is None:
            return self._send({}, site.content, 200, cut)
        if start >= len(site.content):
            span = f"bytes */{len(site.content)}"
            return self._head(416, {"Content-Range": span, "Content-Length": "0"})
        span = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
        return self._send({"Content-Range": span}, site.content[start:], 206, cut)

    def _start(self) -> int | None:
        """Of the range that is asked for and given."""
        site, told = self.site, self.headers.get("If-Range")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not site.ranges:
            return None
        if told and site.if_range and told not in (site.etag, site.modified):
            return None
        return int(asked[1])

    def _send(self, headers: dict[str, str], body: bytes, status: int, cut: int | None) -> None:
        if self.site.length:
            self._head(status, {**headers, "Content-Length": str(len(body))})
            self.wfile.write(body[:cut])
        else:
            self._head(status, {**headers, "Transfer-Encoding": "chunked"})
            sent = body[:cut]
            self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n")
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        if cut is not None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        known = {"ETag": self.site.etag, "Last-Modified": self.site.modified}
        self.send_response(status)
        self.send_header("Content-Type", self.site.kind)
        for name, value in {**known, **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
