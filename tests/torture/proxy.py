"""A proxy before an S3 server that counts requests and disturbs some of them."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ERROR = "<Error><Code>{0}</Code><Message>{0}</Message></Error>"
ANSWERS = {  # in place of the server's, which gets no request then
    "slow down": (503, "SlowDown"),
    "throttled": (429, "TooManyRequests"),
    "failing": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "taken": (412, "PreconditionFailed"),
}
CHUNK = 2**16


@dataclass(frozen=True)
class Fault:
    """What is done to every n-th request of some methods, within some seconds.

    ``kind`` is one of ``ANSWERS``, or lost (the server is asked, the answer is not passed on), slow
    (the answer comes later), short (half of the answer comes), reset (the connection is closed),
    flipped (a bit of the answer is another one).
    """

    kind: str
    methods: Sequence[str] = ("GET", "PUT", "LIST", "HEAD", "DELETE")
    every: int = 3
    begin: float = 0.0  # seconds after the first request
    end: float = 1e9
    seconds: float = 2.0  # that a slow answer takes


class Proxy(ThreadingHTTPServer):
    """Passes requests on.

    Attributes:
        counts: how many came of each kind.
        faulty: how many were disturbed, by the fault.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str, faults: Sequence[Fault] = ()) -> None:
        """Listen on a free port, without answering yet."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.faults = tuple(faults)
        self.counts: Counter[str] = Counter()
        self.faulty: Counter[str] = Counter()
        self._seen: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._began = 0.0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Proxy:
        """Answer in a thread."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop, and let go of the port."""
        self.shutdown()
        self.server_close()

    def fault_of(self, kind: str) -> Fault | None:
        """Count a request; what is to be done to it."""
        with self._lock:
            self._began = self._began or time.monotonic()
            now = time.monotonic() - self._began
            self.counts[kind] += 1
            for number, fault in enumerate(self.faults):
                if kind in fault.methods and fault.begin <= now < fault.end:
                    self._seen[number] += 1
                    if self._seen[number] % fault.every == 0:
                        self.faulty[fault.kind] += 1
                        return fault
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that are gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        listing = self.command == "GET" and "list-type=" in self.path
        fault = self.server.fault_of("LIST" if listing else self.command)
        kind = fault.kind if fault else ""
        if kind == "reset":
            self._reset()
            return
        if kind in ANSWERS:
            status, code = ANSWERS[kind]
            self._answer(status, {"Content-Type": "application/xml"}, ERROR.format(code).encode())
            return
        status, headers, data = self._asked(body)
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        if kind == "lost":
            self._reset()
        elif kind == "short" and len(data) > 1:
            self._answer(status, headers, data, cut=len(data) // 2)
        else:
            if kind == "flipped" and data:
                data = bytes([*data[:-1], data[-1] ^ 1])
            self._answer(status, headers, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass

    def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            data = answer.read()
        finally:
            server.close()
        left_out = ("connection", "transfer-encoding", "date", "server")
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in left_out}
        return answer.status, headers, data

    def _answer(self, status: int, headers: dict[str, str], data: bytes, cut: int = 0) -> None:
        self.send_response(status)
        kept = {k: v for k, v in headers.items() if k.lower() != "content-length"}
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        for name, value in {**kept, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """Close the connection at once, as a process that dies does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def as_words(target: str, faults: Sequence[Fault]) -> list[str]:
    """The command of a proxy in a process of its own, which prints its address first."""
    given = json.dumps([asdict(fault) for fault in faults])
    return [sys.executable, "-m", "tests.torture.proxy", target, given]


def main(target: str, faults: str) -> None:
    """Answer until the process is ended."""
    read = [Fault(**{**f, "methods": tuple(f["methods"])}) for f in json.loads(faults)]
    proxy = Proxy(target, read)
    print(proxy.url, flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
