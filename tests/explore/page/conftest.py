"""A server of a fake explorer in this process, and tabs of a browser that are watched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from sclip_core.explore.desk import Desk
from sclip_core.explore.guard import Guard
from sclip_core.explore.server import application
from sclip_core.explore.serving import Server, listening

from ..fake import Fake


@contextmanager
def served(explorer: Any) -> Iterator[str]:
    """The address, with its token, at which an explorer is served by a thread."""
    listener, desk, ready = listening("127.0.0.1", 0), Desk(), threading.Event()
    guard = Guard("127.0.0.1", listener.getsockname()[1])
    config = uvicorn.Config(
        application(explorer, desk, guard), log_config=None, lifespan="on", ws="none"
    )
    server = Server(config, desk, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert ready.wait(20), "the server did not start"
    try:
        yield guard.address
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="session")
def fake() -> Fake:
    """What answers."""
    return Fake()


@pytest.fixture(scope="session")
def address(fake: Fake) -> Iterator[str]:
    """Where it is served."""
    with served(fake) as found:
        yield found


@pytest.fixture
def opened(browser, address: str) -> Iterator[Callable[..., Any]]:
    """Opens a view in a tab of its own; in the end no tab may have said anything in the console."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []
    host = address.split("?")[0]

    def open_view(query: str = "", size: tuple[int, int] = (1200, 800), **options: Any) -> Any:
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.goto(host + query)
        return tab

    open_view.said = said  # type: ignore[attr-defined]  # for tests in which something must fail
    yield open_view
    for context in contexts:
        context.close()
    assert said == []
    outside = [url for url in asked if not url.startswith((host, "blob:", "data:"))]
    assert outside == []
