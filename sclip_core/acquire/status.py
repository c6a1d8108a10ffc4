"""``sclip data list``: how far a set has come, told by names alone; no file is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sclip_core.acquire.obtain import DOWNLOADS
from sclip_core.acquire.raw import CONVERSIONS
from sclip_core.acquire.sources import Source, source_of
from sclip_core.acquire.trees import at, find_root
from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.record import image_and_label_folders, incomplete, record_of
from sclip_core.datasets.samples import benchmark_files


class Status(NamedTuple):
    """How far a set has come."""

    state: str  # "ready", "partial", "raw", "fetched" or "absent"
    pairs: int  # images that have a label map
    what: str  # in words, with what to do next


def status(name: str, root: Path) -> Status:
    """How far a benchmark has come below a root.

    Args:
        name: the benchmark, e.g. ``"voc21"``.
        root: the folder with its tree, or the one above it; it need not be there.
    """
    name = benchmark_name(name)
    which = f"{name}{at(root)}"
    source, root = source_of(name), Path(os.path.expanduser(root))
    expected: int = tables()["benchmarks"][name]["num_images"]
    pairs = _pairs(name, root)
    if pairs == expected and _complete(name, source.layout, root):
        record = _record(source.layout, root)
        made = f", made from {record}" if record else ""
        return Status("ready", pairs, f"all {pairs:,} images{made}")
    if pairs:
        return Status(
            "partial", pairs, f"{pairs:,} of {expected:,} images: sclip data check {which}"
        )
    if source.layout in CONVERSIONS and _raw(source.layout, root):
        return Status("raw", 0, f"raw: sclip data prepare {which}")
    here = [a for a in source.archives if _lies_there(root, a.name)]
    if here:
        have = f"{len(here)} of {len(source.archives)} archives"
        return Status("fetched", 0, f"{have}: sclip data download {which}")
    return Status("absent", 0, f"sclip data download {which}{_asked(source)}")


def _pairs(name: str, root: Path) -> int:
    """How many images have a label map."""
    try:
        files = benchmark_files(name, root)
    except UserError:
        return 0
    return len(files.images.intersection(files.ids) & files.labels)


def _record(layout: str, root: Path) -> str | None:
    """What the maps were made from, where that is known."""
    found = record_of(find_root(layout, root), layout)
    return str(found["made_from"]) if found and "made_from" in found else None


def _complete(name: str, layout: str, root: Path) -> bool:
    """Whether a conversion, where there was one, came to its end."""
    tree = find_root(layout, root)
    return incomplete(name, tree, record_of(tree, layout) or {}) is None


def _raw(layout: str, root: Path) -> bool:
    """Whether there is something to convert."""
    try:
        tree = find_root(layout, root)
    except UserError:
        return False
    if layout == "voc2010":  # a file of 0.6 GB, which is not read for this
        return (tree / "trainval_merged.json").is_file()
    labels = image_and_label_folders(layout)[1]
    sources = CONVERSIONS[layout].sources
    return (tree / labels).is_dir() and any(
        CONVERSIONS[layout].present(tree, one) for one in sources if one != "instances"
    )


def _lies_there(root: Path, name: str) -> bool:
    return any(os.path.isfile(folder / name) for folder in (root, root / DOWNLOADS))


def _asked(source: Source) -> str:
    """That a person has to fetch something."""
    return " (partly by hand)" if any(archive.url is None for archive in source.archives) else ""
