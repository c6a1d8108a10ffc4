"""The routes of the page: what is asked for, and which method of ``Explorer`` answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.explore.desk import Busy, Desk, Running, Work
from sclip_core.explore.guard import Guard, Refused, body_of, json_body
from sclip_core.explore.served import Served
from sclip_core.explore.wire import frames, line_of, point_of, slot_of, text_of, view_of

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
MOST_IMAGES = 1000  # of one piece of a list
BUSY = "too many computations wait: try again in a moment"


class Stream(Response):
    """Lines of a computation, which is cancelled when the client leaves."""

    def __init__(self, running: Running) -> None:
        """Send what is read of it."""
        super().__init__(media_type="application/octet-stream")
        del self.headers["content-length"]
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send line by line until the end, or until the client leaves."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await self._send(send)
                group.cancel_scope.cancel()
        finally:
            self._running.leave()

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        async for part in frames(self._running):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Routes:
    """The answers to requests."""

    def __init__(self, explorer: Served, desk: Desk) -> None:
        """Answer by an explorer; heavy methods are called at the desk."""
        self._explorer = explorer
        self._desk = desk
        self._quick = CapacityLimiter(4)  # what a hand that moves the mouse waits for
        self._pictures = CapacityLimiter(max(2, os.cpu_count() or 1))
        self._uploads = asyncio.Semaphore(2)

    def all(self) -> Sequence[Route]:
        """The table of routes."""
        heavy: dict[str, Callable[[dict[str, Any]], Work]] = {
            "labels": lambda b: partial(self._explorer.labels, view_of(b)),
            "heat": lambda b: partial(self._explorer.heat, view_of(b), text_of(b, "word")),
            "likeness": lambda b: partial(self._explorer.likeness, view_of(b), point_of(b)),
            "attention": lambda b: partial(self._explorer.attention, view_of(b), point_of(b)),
            "truth": lambda b: partial(self._explorer.truth, view_of(b)),
            "save": lambda b: partial(
                self._explorer.save, view_of(b), text_of(b, "what"), text_of(b, "word", "")
            ),
            "search": lambda b: partial(self._explorer.search, view_of(b), text_of(b, "word")),
            "encode": lambda b: partial(self._explorer.encode, view_of(b)),
        }
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/favicon.ico", self.icon, methods=["GET"]),
            Route("/static/{name:path}", self.static, methods=["GET"]),
            Route("/api/about", self.about, methods=["GET"]),
            Route("/api/images", self.images, methods=["GET"]),
            Route("/api/image", self.image, methods=["GET"]),
            Route("/api/thumbnail", self.thumbnail, methods=["GET"]),
            Route("/api/picture", self.picture, methods=["GET"]),
            Route("/api/scores", self.scores, methods=["POST"]),
            Route("/api/commands", self.commands, methods=["POST"]),
            Route("/api/upload", self.upload, methods=["POST"]),
            *(
                Route(f"/api/{kind}", self._heavy(kind, work), methods=["POST"])
                for kind, work in heavy.items()
            ),
        ]

    async def page(self, request: Request) -> Response:
        """The page."""
        return _file(request, "index.html")

    async def icon(self, request: Request) -> Response:
        """None: browsers ask for one by themselves."""
        return Response(status_code=204)

    async def static(self, request: Request) -> Response:
        """A file of the page."""
        return _file(request, request.path_params["name"])

    async def about(self, request: Request) -> Response:
        """Collections, methods, limits and colours."""
        return _json(await run_sync(self._explorer.about, limiter=self._quick))

    async def images(self, request: Request) -> Response:
        """A piece of the list of images."""
        start, count = _whole(request, "start", 0), _whole(request, "count", 200)
        collection, order = _asked(request, "collection"), _asked(request, "order", "name")
        call = partial(
            self._explorer.images,
            collection,
            order,
            _asked(request, "find", ""),
            start,
            min(count, MOST_IMAGES),
        )
        return _json(await run_sync(call, limiter=self._quick))

    async def image(self, request: Request) -> Response:
        """What is known of an image."""
        names = _asked(request, "collection"), _asked(request, "image")
        return _json(await run_sync(self._explorer.image, *names, limiter=self._quick))

    async def thumbnail(self, request: Request) -> Response:
        """A small picture."""
        names = _asked(request, "collection"), _asked(request, "image")
        data, tag = await run_sync(self._explorer.thumbnail, *names, limiter=self._pictures)
        return _kept(request, data, tag, "image/webp")

    async def picture(self, request: Request) -> Response:
        """The picture of an image."""
        names = _asked(request, "collection"), _asked(request, "image")
        data, tag, kind = await run_sync(self._explorer.picture, *names, limiter=self._pictures)
        return _kept(request, data, tag, kind)

    async def scores(self, request: Request) -> Response:
        """The scores at a pixel."""
        body = await json_body(request)
        call = partial(self._explorer.scores, view_of(body), point_of(body))
        return _json(await run_sync(call, limiter=self._quick))

    async def commands(self, request: Request) -> Response:
        """The view as a command and in Python."""
        view = view_of(await json_body(request))
        return _json(await run_sync(self._explorer.commands, view, limiter=self._quick))

    async def upload(self, request: Request) -> Response:
        """Take an image."""
        name = _asked(request, "name", "upload")
        async with self._uploads:  # those that wait are not in memory yet
            data = await body_of(request)
            call = partial(self._explorer.upload, name, data)
            return _json(await run_sync(call))

    def _heavy(self, kind: str, work: Callable[[dict[str, Any]], Work]) -> Any:
        async def answer(request: Request) -> Response:
            body = await json_body(request)
            patient = kind in ("search", "encode")
            return Stream(self._desk.run(work(body), slot_of(body, kind), patient))

        return answer


def application(explorer: Served, desk: Desk, guard: Guard) -> Any:
    """The ASGI application."""
    handlers: dict[Any, Any] = {
        UserError: _user_error,
        Refused: lambda request, error: _error(error.status, str(error)),
        Busy: lambda request, error: _error(503, BUSY),
        Exception: lambda request, error: _error(500, line_of(error)),  # the guard prints it
        404: lambda request, error: _error(404, "no such address"),
        405: lambda request, error: _error(405, f"{request.method} is not answered here"),
    }
    app = Starlette(routes=Routes(explorer, desk).all(), exception_handlers=handlers)
    app.router.redirect_slashes = False
    return guard.around(app)


async def _user_error(request: Request, error: Exception) -> Response:
    return _error(404 if request.method == "GET" else 400, line_of(error))


def _error(status: int, line: str) -> Response:
    return JSONResponse({"error": line}, status)


def _json(values: dict[str, Any]) -> Response:
    return JSONResponse(values)


def _asked(request: Request, name: str, default: str | None = None) -> str:
    """A value of the address.

    Raises:
        UserError: it is missing.
    """
    found = request.query_params.get(name, default)
    if found is None:
        raise UserError(f"the address has no {name}")
    return found


def _whole(request: Request, name: str, default: int) -> int:
    text = _asked(request, name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name} is {shown(text)}: expected a whole number")
    return int(text)


def _file(request: Request, name: str) -> Response:
    """A file of the page; only what lies there has a name, so no other path can be asked for."""
    known = {
        path.relative_to(PAGE).as_posix(): path
        for path in PAGE.rglob("*")
        if path.suffix in TYPES and path.is_file()
    }
    if name not in known:
        return _error(404, "the page has no such file")
    data = known[name].read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:24]}"'
    return _kept(request, data, tag, TYPES[known[name].suffix])


def _kept(request: Request, data: bytes, tag: str, kind: str) -> Response:
    """A file that the browser may keep, but asks about each time."""
    tag = tag if tag.startswith('"') else f'"{tag}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
