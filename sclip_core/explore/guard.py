"""Who may ask, and how much: the token, where requests come from, and how large they are."""

from __future__ import annotations

import asyncio
import hmac
import html
import ipaddress
import secrets
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sclip_core.explore.uploads import MOST_BYTES
from sclip_core.explore.wire import parsed, said

MOST_JSON = 64 << 10  # bytes of a body
MOST_AT_ONCE = 64  # requests
SECONDS_JSON, SECONDS_UPLOAD = 30, 300  # until a body has to be there
SECONDS_ONCE = 60.0  # that a token for one use holds
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY = ("0.0.0.0", "::")  # all addresses of a machine
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}
FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>sclip explore</title>
<h1>sclip explore</h1>
<p>{line}</p>
<form action="/">
{fields}<label>Token <input name="token" autocomplete="off" required autofocus></label>
<button>Open</button>
</form>
<p><a href="{again}">Open it again</a> if this browser has opened it before.</p>
</html>
"""
NO_TOKEN = "Paste the token: it is in the address that <code>sclip explore</code> has printed."
WRONG_TOKEN = (
    "This token is of another start. Paste that of the address that "
    "<code>sclip explore</code> has printed last."
)


class Refused(Exception):
    """A request that is not answered: the status and one line."""

    def __init__(self, status: int, line: str) -> None:
        """Keep both."""
        super().__init__(line)
        self.status = status


@dataclass
class Guard:
    """What stands before the routes."""

    host: str
    """What the server listens on."""
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def __post_init__(self) -> None:
        """Count from none."""
        self._at_once = 0
        self._once: dict[str, float] = {}  # tokens for one use, and until when

    @property
    def address(self) -> str:
        """What to open, with the token."""
        return f"{self._base}?token={self.token}"

    def address_once(self) -> str:
        """What can be opened once, soon: other users of the machine see a browser's arguments."""
        token = secrets.token_urlsafe(24)
        self._once[token] = time.monotonic() + SECONDS_ONCE
        return f"{self._base}?token={token}"

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach it."""
        return self.host in LOOPBACK or (_is_address(self.host) and _is_loopback(self.host))

    @property
    def names(self) -> str:
        """The name that other machines use."""
        return socket.gethostname() if self.host in EVERY else self.host

    @property
    def _base(self) -> str:
        host = LOOPBACK[0] if self.host in EVERY else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/"

    @property
    def cookie(self) -> str:
        """Its name: cookies of two servers on one machine must not overwrite each other."""
        return f"sclip_explore_{self.port}"

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with this guard before it."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._answer(app, scope, receive, send)
            else:  # a WebSocket: closed before it is opened, which is an answer 403
                await send({"type": "websocket.close"})

        return guarded

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a crash becomes a line, unless the answer has begun."""
        begun = False

        async def checked_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        self._at_once += 1
        try:
            answer = self._checked(scope) or app
            await answer(scope, receive, checked_send)
        except ClientDisconnect:
            pass
        except Exception as error:
            if begun:
                traceback.print_exc(file=sys.stderr)
            else:
                answer = JSONResponse({"error": said(error)}, 500)
                await answer(scope, receive, checked_send)
        finally:
            self._at_once -= 1

    def _checked(self, scope: Scope) -> Response | None:
        """What to answer instead; None: the request may pass."""
        request = Request(scope)
        try:
            self._check_origin(request)
            if self._at_once > MOST_AT_ONCE:
                raise Refused(503, f"more than {MOST_AT_ONCE} requests at a time")
            if scope["path"] == "/" and request.method == "GET":
                return self._at_the_door(request)
            if not self._known(request):
                raise Refused(403, "no token: open the address that sclip explore has printed")
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        return None

    def _check_origin(self, request: Request) -> None:
        """See that a page of this server asks, at an address of this server.

        Raises:
            Refused: another page does, or another name was made to lead here (DNS rebinding).
        """
        host = request.headers.get("host", "")
        if not self._serves(host):
            raise Refused(403, f"not served under this name: open {self._base}")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise Refused(403, "asked by a page of another origin")
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and request.scope["path"] != "/":
            raise Refused(403, "asked by a page of another site")

    def _serves(self, host: str) -> bool:
        """Whether a Host header names this server.

        The port is left open, as a tunnel may have another one; what keeps other sites' names
        out is the name.
        """
        try:
            found = urlsplit(f"//{host}")
            name, _ = found.hostname, found.port
        except ValueError:
            return False
        if not name or found.netloc != host or found.username is not None:
            return False  # more than a name and a port
        if name in LOOPBACK or name == self.host.lower():
            return True
        return not self.is_local and (_is_address(name) or name == self.names.lower())

    def _at_the_door(self, request: Request) -> Response | None:
        """Take the token of an address; ask for it where there is none; None: come in."""
        given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = [(name, value) for name, value in given if name != "token"]
        token = next((value for name, value in given if name == "token"), None)
        again = f"/?{urlencode(rest)}" if rest else "/"
        if token is None and self._known(request):
            return None
        if token is not None and self._opens(token):
            answer = RedirectResponse(again, 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return answer
        fields = "".join(
            f'<input type="hidden" name="{html.escape(n)}" value="{html.escape(v)}">\n'
            for n, v in rest
        )
        line = NO_TOKEN if token is None else WRONG_TOKEN
        return HTMLResponse(FORM.format(line=line, fields=fields, again=html.escape(again)), 403)

    def _known(self, request: Request) -> bool:
        """Whether the cookie holds the token."""
        return self._is_token(request.cookies.get(self.cookie, ""))

    def _opens(self, token: str) -> bool:
        """Whether it is the token, or one for one use, which it then was."""
        until = self._once.pop(token, float("-inf"))
        return self._is_token(token) or time.monotonic() < until

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())


def _is_address(name: str) -> bool:
    """Whether it is an IP address, which no rebinding can make of a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        Refused: it is said to be something else, too large, or does not come.
        UserError: it is no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "expected content-type application/json")
    return parsed(await _read(request, MOST_JSON, SECONDS_JSON))


async def body_of(request: Request) -> bytes:
    """The bytes of an uploaded file.

    Raises:
        Refused: there are too many, or they do not come.
    """
    return await _read(request, MOST_BYTES, SECONDS_UPLOAD)


async def _read(request: Request, most: int, seconds: float) -> bytes:
    length = request.headers.get("content-length", "0")
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            if length.isdigit() and int(length[:20]) > most:
                raise Refused(413, f"more than {most:,} bytes")
            async for part in request.stream():
                data += part
                if len(data) > most:
                    raise Refused(413, f"more than {most:,} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds} seconds") from None
    return bytes(data)
