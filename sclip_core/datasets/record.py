"""The note beside a benchmark's label maps that says what they were made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sclip_core.config import tables
from sclip_core.config.protocol import is_benchmark
from sclip_core.datasets.dataset import Dataset
from sclip_core.store.files import write_whole

OTHER_DEFINITION = "made from instances; published numbers are on maps made from stuff"


def image_and_label_folders(layout: str) -> list[str]:
    """The folders that a layout's images and label maps are in."""
    row = tables()["layouts"][layout]
    return [row[part].partition("/{id}")[0] for part in ("images", "labels")]


def record_path(tree: Path, layout: str) -> Path:
    """The note of a set, beside its label maps; COCO's two sets share a folder."""
    return tree / image_and_label_folders(layout)[1] / f"prepared-{layout}.json"


def record_of(tree: Path, layout: str) -> dict[str, Any] | None:
    """The note of ``sclip data prepare``, or None; one that cannot be read is not complete."""
    path = record_path(tree, layout)
    if not os.path.lexists(path):
        return None
    try:
        record = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        record = None
    readable = isinstance(record, dict) and isinstance(record.get("made_from"), str)
    return record if readable else {"complete": False}


def incomplete(name: str, tree: Path, record: dict[str, Any]) -> str | None:
    """What is wrong with the label maps of a benchmark according to their note, or None.

    Args:
        name: the benchmark.
        tree: the folder with its layout.
        record: the note of ``sclip data prepare``; empty if there is none.
    """
    if record.get("complete", True) is True:
        return None
    source, differing = record.get("made_from"), record.get("differing")
    said = f" --source {source}" if source else ""
    again = f"sclip data prepare {name} --root {tree}{said}"
    if isinstance(differing, int) and differing:
        note = record_path(tree, tables()["benchmarks"][name]["layout"])
        return (
            f"{differing:,} label maps are not those that are made from {source}: have them "
            f"replaced (`{again} --force`) or, if they are to stay, remove {note}"
        )
    return f"the label maps were not all made, some may be of another source: run `{again}`"


def write_record(tree: Path, layout: str, record: dict[str, Any]) -> None:
    """Note what the label maps were made from.

    Raises:
        DiskError: it could not be written.
    """
    path = record_path(tree, layout)
    text = json.dumps(record, indent=2) + "\n"
    write_whole(path, lambda target: target.write_text(text, "utf-8"))


def made_from(dataset: Dataset) -> str | None:
    """What ``sclip data prepare`` made a benchmark's label maps from; None: not known."""
    record = dataset_record(dataset)
    return str(record["made_from"]) if record.get("made_from") else None


def dataset_record(dataset: Dataset) -> dict[str, Any]:
    """The note beside a benchmark's label maps; empty for the user's own images."""
    row = benchmark_row(dataset)
    return (record_of(dataset.root, row["layout"]) or {}) if row and dataset.root else {}


def benchmark_row(dataset: Dataset) -> dict[str, Any] | None:
    """A benchmark's row of the table; None for the user's own images."""
    if dataset.root is None or not is_benchmark(dataset.name):
        return None
    found: dict[str, Any] = tables()["benchmarks"][dataset.name]
    return found
