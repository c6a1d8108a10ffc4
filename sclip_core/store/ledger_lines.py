"""The lines of a ledger: JSON with a checksum, and what they may say."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

CHECK = b'{"check": '  # begins a line with a checksum, which covers all bytes after the comma
BATCH = {"segment", "seconds", "rows"}  # keys of a line that adds rows
OPTIONAL = {"chunk"}  # since 0.2
ROW = {"id", "start", "stop", "crc", "meta"}
LONGEST_NAME = 100  # characters of a segment's name; a file's has 255 bytes with its ending
LONGEST = 1e12  # seconds of a batch; more is damage


class LaterVersionError(Exception):
    """An undamaged line that this version does not understand."""

    def __init__(self, fault: str, segment: Any) -> None:
        """Take what is not understood, and the segment that the line names, if it does."""
        super().__init__(f"of a later version: {fault}")
        self.segment = segment if isinstance(segment, str) else None


def encode(entry: Mapping[str, Any]) -> bytes:
    """A line, without its line break."""
    body = json.dumps(entry).encode()[1:]
    return CHECK + str(zlib.crc32(body)).encode() + b", " + body


def decode(line: bytes) -> dict[str, Any]:
    """The content of a line: a batch of rows, or rows that are struck.

    Raises:
        ValueError: the line is damaged.
        LaterVersionError: only a later version understands it.
    """
    checked = line.startswith(CHECK)
    if checked:
        head, _, body = line.rstrip(b"\r\n").partition(b", ")
        if not head[len(CHECK) :].isdigit() or zlib.crc32(body) != int(head[len(CHECK) :]):
            raise ValueError("its checksum is wrong")
        line = b"{" + body
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    fault = _fault(entry)
    if fault and checked:
        raise LaterVersionError(fault, entry.get("segment"))
    if fault:
        raise ValueError(fault)
    return entry


def _fault(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with the content of a line, if anything."""
    if entry.keys() == {"struck"}:
        places = entry["struck"]
        fine = isinstance(places, list) and all(map(_is_place, places))
        return None if fine else "odd struck rows"
    lacking, unknown = (BATCH - {"seconds"}) - entry.keys(), entry.keys() - BATCH - OPTIONAL
    if lacking or unknown:
        return f"keys {sorted(lacking)} are missing, {sorted(map(str, unknown))} are not known"
    seconds, chunk = entry.get("seconds", 0.0), entry.get("chunk", 1)
    if not isinstance(entry["segment"], str) or not _is_segment(entry["segment"]):
        return "odd segment"
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < LONGEST:
        return "odd seconds"
    if not _is_count(chunk) or chunk == 0:
        return "odd chunk"
    if not isinstance(entry["rows"], list) or not all(map(_is_row, entry["rows"])):
        return "odd rows"
    return None


def _is_segment(name: str) -> bool:
    """Whether a name is that of a file in the artifact's own folder."""
    plain = name.isprintable() and not {"/", "\\"} & set(name)
    return plain and 0 < len(name) <= LONGEST_NAME and not name.startswith(".")


def _is_row(row: Any) -> bool:
    if not (isinstance(row, dict) and row.keys() == ROW):
        return False
    start, stop, crc = row["start"], row["stop"], row["crc"]
    return (
        type(start) is type(stop) is type(crc) is int  # and not bool
        and 0 <= start <= stop < 2**48
        and crc >= 0
        and isinstance(row["id"], str)
        and isinstance(row["meta"], dict)
    )


def _is_place(place: Any) -> bool:
    return (
        isinstance(place, list)
        and len(place) == 4
        and all(isinstance(name, str) for name in place[:2])
        and all(_is_count(number) for number in place[2:])
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
