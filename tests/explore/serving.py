"""A server of an explorer in a thread, and clients that have come in by its address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from sclip_core.explore.desk import Desk
from sclip_core.explore.guard import Guard
from sclip_core.explore.server import application
from sclip_core.explore.serving import configured, listening


@contextmanager
def serving(explorer: Any, host: str = "127.0.0.1", desk: Desk | None = None) -> Iterator[Guard]:
    """Serve; gives the guard, which knows the address and the token."""
    listener, desk = listening("127.0.0.1", 0), desk or Desk()
    guard = Guard(host, listener.getsockname()[1])
    app = application(explorer, desk, guard)
    server = uvicorn.Server(configured(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield guard
    finally:
        server.should_exit = True
        desk.close(5)
        thread.join(5)
        listener.close()


@contextmanager
def client_of(guard: Guard) -> Iterator[httpx.Client]:
    """A client that has opened the address."""
    with httpx.Client(base_url=f"http://127.0.0.1:{guard.port}", timeout=30) as client:
        assert client.get("/", params={"token": guard.token}).status_code == 303
        yield client


def body(words: str = "sky; grass", image: str = "000001", **more: Any) -> dict[str, Any]:
    """What a tab sends; values of the view have the names of its fields."""
    beside = {k: more.pop(k) for k in ("client", "side", "word", "point", "what") if k in more}
    view = {"collection": "scenes", "image": image, "words": words, **more}
    return {"view": view, "client": "tab", "side": "a", **beside}


def read(content: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The lines of a stream, and the payload."""
    lines: list[dict[str, Any]] = []
    while content:
        line, _, content = content.partition(b"\n")
        lines.append(json.loads(line))
        if lines[-1]["kind"] == "answer":
            assert len(content) == lines[-1]["bytes"]
            return lines, content
    return lines, b""
