"""Where each benchmark's data comes from: ``sources.yaml`` as objects."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name


@dataclass(frozen=True)
class Archive:
    """One file of a publisher.

    Attributes:
        name: its file name, as published.
        url: where it is fetched from; None: a person has to, on ``page``.
        page: where a person fetches it.
        why: why that takes a person.
        checksum: ``"md5:..."`` or ``"sha256:..."``; None: none is known.
        bytes: its size; None: not known to the byte.
        about: its size in words, where that is so.
        unpack: names in the archive -> places below the root; ``{id}`` is any text.
        split: the member that lists the ids that are needed; None: all that match.
        to: its place below the root, where it is used as it is.
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
        """In words."""
        return self.about or f"{(self.bytes or 0) / 1e9:.1f} GB"


@dataclass(frozen=True)
class Source:
    """What a layout's data is made of.

    Attributes:
        layout: of ``config/benchmarks.yaml``.
        title: what people call it.
        home: its page.
        licence: of images and annotations, in short.
        disk: what it takes, unpacked, of the validation split.
        archives: what has to be fetched, in order.
        others: the same for label maps that are made from something else, by its name.
    """

    layout: str
    title: str
    home: str
    licence: str
    disk: str
    archives: tuple[Archive, ...]
    others: dict[str, tuple[Archive, ...]] = field(default_factory=dict)


def source_of(name: str) -> Source:
    """The source of a benchmark, e.g. of ``"voc21"``.

    Raises:
        UserError: no such benchmark, or one that is not made of files that are fetched.
    """
    name = benchmark_name(name)
    known = benchmarks()
    if name not in known:
        raise UserError(f"{name} is none of the sets that are fetched: {', '.join(known)}")
    return known[name]


def benchmarks() -> dict[str, Source]:
    """The benchmarks that have a source, in the order of their table."""
    known = sources()
    rows = tables()["benchmarks"]
    return {name: known[row["layout"]] for name, row in rows.items() if row["layout"] in known}


@functools.cache
def sources() -> dict[str, Source]:
    """All of ``sources.yaml``, by layout."""
    text = resources.files("sclip_core.acquire").joinpath("sources.yaml").read_text("utf-8")
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(text)
    archives = {name: Archive(name, **row) for name, row in loaded["archives"].items()}
    found = {}
    for layout, row in loaded["sets"].items():
        others = {
            key: tuple(archives[name] for name in names)
            for key, names in row.pop("others", {}).items()
        }
        own = tuple(archives[name] for name in row.pop("archives"))
        found[layout] = Source(layout, archives=own, others=others, **row)
    return found
