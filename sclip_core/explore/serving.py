"""The server of the page: its port, and its clean end."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable
from types import FrameType

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

    def __init__(self, config: uvicorn.Config, desk: Desk, ready: Callable[[], None]) -> None:
        """Serve; ``ready`` is called once requests are answered."""
        super().__init__(config)
        self._desk = desk
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer requests from now on."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let computations end, then the answers, then the server."""
        self._desk.close(0)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End once, whatever follows the first signal."""
        if not self.should_exit:
            super().handle_exit(signal.Signals(sig), frame)


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
            raise UserError(f"cannot listen on {host}:{number}: {error.strerror}") from None
    ports = f"port {port} is" if port is not None else f"ports {PORT} to {PORT + TRIES - 1} are"
    raise UserError(f"{ports} taken on {host}: name another one (--port 0 takes any free one)")


def serve(
    explorer: Served, host: str, listener: socket.socket, ready: Callable[[Guard], None]
) -> bool:
    """Serve until a signal comes.

    Args:
        explorer: what answers.
        host: what the address shows.
        listener: where requests come in; see ``listening``.
        ready: called once the addresses of the guard can be opened.

    Returns:
        Whether no computation runs any more.
    """
    desk = Desk()
    guard = Guard(host, listener.getsockname()[1])
    config = uvicorn.Config(
        application(explorer, desk, guard),
        log_config=None,
        log_level="critical",  # the guard prints what goes wrong
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
    )
    Server(config, desk, lambda: ready(guard)).run(sockets=[listener])
    return desk.close(0.5)
