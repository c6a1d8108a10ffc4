"""The ledger of an artifact: the one place that says which rows are there.

A line is appended and fsynced after its data. What has no line does not exist; a line torn by a
crash is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from sclip_core.store.files import fsync


@dataclass(frozen=True)
class Row:
    """Where the data of one image (or word) lies."""

    id: str  # digest of the file's bytes; for the text bank, the word
    start: int  # range in the segment's first axis
    stop: int
    crc: int  # CRC-32 of the row's bytes
    meta: dict[str, Any] = field(default_factory=dict)  # small facts, e.g. the image's size
    segment: str = ""


class Ledger:
    """``ledger.jsonl``: one line a batch."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist."""
        self._path = path
        self._lock = FileLock(str(path) + ".lock")

    def rows(self) -> dict[str, Row]:
        """Every row by its id; a later line replaces an earlier one."""
        return {
            row["id"]: Row(**row, segment=entry["segment"])
            for entry in self._entries()
            for row in entry["rows"]
        }

    def segment_end(self, segment: str) -> int:
        """First position of a segment that no line claims."""
        stops = (
            row["stop"]
            for entry in self._entries()
            if entry["segment"] == segment
            for row in entry["rows"]
        )
        return max(stops, default=0)

    def seconds(self) -> float:
        """Time that all batches took; of a pass that several artifacts share, each has all."""
        return float(sum(entry.get("seconds", 0.0) for entry in self._entries()))

    def append(self, segment: str, rows: Sequence[Row], seconds: float) -> None:
        """Make a batch exist: its data must be on disk already."""
        plain = [{k: v for k, v in asdict(row).items() if k != "segment"} for row in rows]
        entry = {"segment": segment, "seconds": round(seconds, 3), "rows": plain}
        with self._lock, self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")  # the last writer was cut off in its line
            file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if end == 0:
                fsync(self._path.parent)

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict) and "rows" in entry:
                    yield entry
