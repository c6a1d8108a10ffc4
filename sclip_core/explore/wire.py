"""What the page sends, checked, and what it gets: lines of JSON, and a payload after the last."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError

from sclip_core.config import UserError, printable, refused_by_system
from sclip_core.config.errors import shown
from sclip_core.explore.desk import Answer, Cancelled, Running
from sclip_core.explore.view import Point, View

LONGEST_TEXT = 200  # characters of a word, of a name, of the id of a tab
PIECE = 1 << 18  # bytes of a payload that are sent at once


def parsed(data: bytes) -> dict[str, Any]:
    """The object of a body.

    Raises:
        UserError: it is no JSON object, or holds what no text file can.
    """
    try:
        found = json.loads(data, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()  # lone surrogates cannot be written
    except (ValueError, RecursionError):
        raise UserError("the body is no JSON: expected an object, in UTF-8") from None
    if not isinstance(found, dict):
        raise UserError(f"the body is {shown(found)}: expected a JSON object")
    return found


def _refuse(name: str) -> float:
    raise ValueError(name)


def view_of(body: dict[str, Any]) -> View:
    """The view of a body; its collection may stand beside it.

    Raises:
        UserError: a value is missing, or none that it can have.
    """
    given = body.get("view")
    if not isinstance(given, dict):
        raise UserError(f"view is {shown(given)}: expected an object")
    if "collection" in body:
        given = {"collection": body["collection"], **given}
    try:
        return View.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "view"
        found = "" if first["type"] == "missing" else f" is {shown(first['input'])}"
        raise UserError(f"{name}{found}: {first['msg'].removeprefix('Value error, ')}") from None


def point_of(body: dict[str, Any]) -> Point:
    """The pixel of a body, of the original image.

    Raises:
        UserError: it is none.
    """
    given = body.get("point")
    whole = isinstance(given, list) and all(type(value) is int for value in given)
    if not whole or not isinstance(given, list) or len(given) != 2:
        raise UserError(f"point is {shown(given)}: expected [row, column]")
    return Point(*given)


def text_of(body: dict[str, Any], name: str, default: str | None = None) -> str:
    """A short text of a body.

    Raises:
        UserError: it is missing, no text, or longer than ``LONGEST_TEXT`` characters.
    """
    given = body.get(name, default)
    if not isinstance(given, str):
        raise UserError(f"{name} is {shown(given)}: expected text")
    if len(given) > LONGEST_TEXT:
        raise UserError(f"{name} has {len(given)} characters: expected at most {LONGEST_TEXT}")
    return given


def slot_of(body: dict[str, Any], kind: str) -> str:
    """What a newer request of the same tab, side and kind replaces."""
    return "\n".join([text_of(body, "client"), text_of(body, "side", ""), kind])


async def frames(running: Running) -> AsyncIterator[bytes]:
    """The body of an answer: lines of progress, then the answer, an error or ``cancelled``."""
    try:
        async for event in running:
            if isinstance(event, Answer):
                yield _line("answer", bytes=len(event.blob), **event.about)
                for start in range(0, len(event.blob), PIECE):
                    yield event.blob[start : start + PIECE]
            else:
                yield _line("progress", **event)
    except Cancelled:
        yield _line("cancelled")
    except Exception as error:
        yield _line("error", error=said(error))


def _line(kind: str, **values: Any) -> bytes:
    return json.dumps({"kind": kind, **values}, allow_nan=False).encode() + b"\n"


def said(error: BaseException) -> str:
    """One line about an error for the page; of one that nothing foresaw, the rest is printed."""
    if not isinstance(error, UserError) and not refused_by_system(error):
        traceback.print_exception(error, file=sys.stderr)
    return line_of(error)


def line_of(error: BaseException) -> str:
    """One line about an error for the page."""
    if isinstance(error, UserError):
        return str(error)
    refused = refused_by_system(error)
    if refused == "not enough memory":
        return "not enough memory: take a smaller image or fewer words, or close other programs"
    if refused:
        return printable(f"{refused}: {error}")
    name, words = type(error).__name__, " ".join(str(error).split())
    line = (
        f"internal error: {name}{': ' if words else ''}{words}; see the terminal of sclip explore"
    )
    return printable(line)
