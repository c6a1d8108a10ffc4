"""``sclip data list``: which step a benchmark has reached, judged by file names alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sclip_core.acquire.obtain import DOWNLOADS
from sclip_core.acquire.raw import CONVERSIONS
from sclip_core.acquire.sources import source_of
from sclip_core.acquire.trees import at, find_root
from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.layouts import benchmark_files
from sclip_core.datasets.record import image_and_label_folders, incomplete, record_of


class Status(NamedTuple):
    """Which step a benchmark has reached."""

    state: str  # "ready", "partial", "raw", "fetched" or "absent"
    pairs: int  # images that have a label map
    what: str  # in words, with what to do next


def status(name: str, root: Path) -> Status:
    """Which step a benchmark has reached below a root.

    Args:
        name: the benchmark, e.g. ``"voc21"``.
        root: the folder with its tree, or the one above it; it need not be there.
    """
    name = benchmark_name(name)
    which = f"{name}{at(root)}"
    source, root = source_of(name), Path(os.path.expanduser(root))
    expected: int = tables()["benchmarks"][name]["num_images"]
    pairs = _pairs(name, root)
    if pairs:
        record = record_of(find_root(source.layout, root), source.layout) or {}
        if pairs == expected and incomplete(name, root, record) is None:
            made = f", made from {record['made_from']}" if "made_from" in record else ""
            return Status("ready", pairs, f"all {pairs:,} images{made}")
        found = f"{pairs:,} of {expected:,} images"
        return Status("partial", pairs, f"{found}: sclip data check {which}")
    if source.layout in CONVERSIONS and _raw(source.layout, root):
        return Status("raw", 0, f"raw: sclip data prepare {which}")
    here = [a for a in source.archives if _lies_there(root, a.name)]
    if here:
        have = f"{len(here)} of {len(source.archives)} archives"
        return Status("fetched", 0, f"{have}: sclip data download {which}")
    by_hand = any(archive.url is None for archive in source.archives)
    note = " (partly by hand)" if by_hand else ""
    return Status("absent", 0, f"sclip data download {which}{note}")


def _pairs(name: str, root: Path) -> int:
    """How many images there are with a label map."""
    try:
        files = benchmark_files(name, root)
    except UserError:
        return 0
    return len(files.images.intersection(files.ids) & files.labels)


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
