"""The server of the page: its port, and its clean end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from sclip_core.config import UserError
from sclip_core.explore.desk import Desk
from sclip_core.explore.guard import Guard
from sclip_core.explore.served import Served
from sclip_core.explore.server import application

PORT = 8765
TRIES = 100  # ports after the first
GRACE = 1  # seconds that answers may still take at the end


class Server(uvicorn.Server):
    """One that cancels computations at the end, so that their answers end too."""

    def __init__(
        self,
        config: uvicorn.Config,
        desk: Desk,
        ready: Callable[[], None],
        stopping: Callable[[int], None],
    ) -> None:
        """Serve.

        Args:
            config: of uvicorn.
            desk: where computations run.
            ready: called once requests are answered.
            stopping: called with the number of the signal that ends it.
        """
        super().__init__(config)
        self._desk, self._ready, self._stopping = desk, ready, stopping
        self._signal: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer requests from now on."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let computations end, then the answers, then the server."""
        self._desk.close(0)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End by Ctrl-C and SIGTERM unless they are ignored; then whoever had them before gets it.

        uvicorn's own takes ignored ones too.
        """
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (int(signal.SIGINT), int(signal.SIGTERM)):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal is not None:
            signal.raise_signal(self._signal)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal changes nothing."""
        if self._signal is None:
            self._signal = sig
            self.should_exit = True
            self._stopping(sig)


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Args:
        host: a name or an address.
        port: the only one to take, or 0 for any; None: ``PORT``, or the next that is free.

    Raises:
        UserError: it is taken, or this machine has no such address.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"--host {host}: expected an address of this machine") from None
    family, address = found[0], str(found[4][0])
    for number in [port] if port is not None else range(PORT, PORT + TRIES):
        try:
            return socket.create_server((address, number), family=family, backlog=512)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            why = os.strerror(error.errno or 0)
            raise UserError(f"cannot listen on {host}, port {number}: {why}") from None
    ports = f"port {port} is" if port is not None else f"ports {PORT} to {PORT + TRIES - 1} are"
    raise UserError(f"{ports} taken on {host}: name another one (--port 0 takes any free one)")


def configured(app: Any) -> uvicorn.Config:
    """How an application is served: nothing is logged, and nothing believed of a proxy."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",  # the guard prints what goes wrong
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )


def serve(
    explorer: Served,
    host: str,
    listener: socket.socket,
    ready: Callable[[Guard], None],
    stopping: Callable[[int], None] = lambda number: None,
) -> None:
    """Serve until a signal comes, which then goes to whoever had it before.

    Args:
        explorer: what answers.
        host: what it listens on, as it was named.
        listener: where requests come in; see ``listening``.
        ready: called once the addresses of the guard can be opened.
        stopping: called with the number of the signal at once.
    """
    desk = Desk()
    guard = Guard(host, listener.getsockname()[1])
    config = configured(application(explorer, desk, guard))
    Server(config, desk, lambda: ready(guard), stopping).run(sockets=[listener])
