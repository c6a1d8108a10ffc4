"""A server of a fake explorer in this process, and tabs of a browser that are watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..fake import Fake
from ..serving import serving


@pytest.fixture(scope="session")
def fake() -> Fake:
    """What answers."""
    return Fake()


@pytest.fixture(scope="session")
def address(fake: Fake) -> Iterator[str]:
    """Where it is served, with the token."""
    with serving(fake) as guard:
        yield guard.address


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
