"""Where the benchmarks' data comes from, as their files in ``config/benchmarks`` describe it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name


@dataclass(frozen=True)
class Archive:
    """One file of a publisher.

    Attributes:
        name: its file name, as published.
        url: its address; None: a person has to fetch it from ``page``.
        page: where a person fetches it.
        why: why that takes a person.
        checksum: ``"md5:..."`` or ``"sha256:..."``; None: none is known.
        bytes: its size; None: not known to the byte.
        about: its size in words, if it is not known to the byte.
        unpack: names in the archive -> places below the root; ``{id}`` is any text.
        split: the member that lists the ids that are needed; None: all that match are needed.
        to: its place below the root, if it is used as it is.
    """

    name: str
    url: str | None = None
    page: str | None = None
    why: str | None = None
    checksum: str | None = None
    bytes: int | None = None
    about: str | None = None
    unpack: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    to: str | None = None

    @property
    def size(self) -> str:
        """Its size in words, such as ``"0.8 GB"``."""
        return self.about or f"{(self.bytes or 0) / 1e9:.1f} GB"


@dataclass(frozen=True)
class Source:
    """What a layout's data is made of.

    Attributes:
        layout: the name of the layout.
        title: what people call the set.
        home: its home page.
        licence: of images and annotations, in short.
        citation: the paper that introduces the set.
        disk: the space that its validation split takes after unpacking.
        archives: what has to be fetched, in order.
        others: the same for label maps that are made from something else, by its name.
    """

    layout: str
    title: str
    home: str
    licence: str
    citation: str
    disk: str
    archives: tuple[Archive, ...]
    others: dict[str, tuple[Archive, ...]] = field(default_factory=dict)


def source_of(name: str) -> Source:
    """The source of a benchmark, e.g. of ``"voc21"``.

    Raises:
        UserError: there is no such benchmark, or its files are not fetched from anywhere.
    """
    name = benchmark_name(name)
    known = benchmarks()
    if name not in known:
        raise UserError(f"{name} cannot be downloaded; the sets that can are {', '.join(known)}")
    return known[name]


def benchmarks() -> dict[str, Source]:
    """The benchmarks that have a source, in the order of their ranks."""
    known = sources()
    rows = tables()["benchmarks"]
    return {name: known[row["layout"]] for name, row in rows.items() if row["layout"] in known}


@functools.cache
def sources() -> dict[str, Source]:
    """All sources, by layout."""
    rows = {name: row["source"] for name, row in tables()["layouts"].items() if "source" in row}
    groups = [
        g for row in rows.values() for g in (row["archives"], *row.get("others", {}).values())
    ]
    known = {e["name"]: Archive(**e) for group in groups for e in group if isinstance(e, dict)}

    def archives(entries: list[Any]) -> tuple[Archive, ...]:
        return tuple(known[e if isinstance(e, str) else e["name"]] for e in entries)

    found = {}
    for layout, row in rows.items():
        others = {key: archives(entries) for key, entries in row.get("others", {}).items()}
        plain = {**row, "archives": archives(row["archives"]), "others": others}
        found[layout] = Source(layout, **plain)
    return found
