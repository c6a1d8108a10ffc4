"""Where a set's tree is, and the note beside its label maps that says what they were made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sclip_core.config import UserError, tables
from sclip_core.store.files import write_whole


def find_root(layout: str, root: Path) -> Path:
    """The folder with a layout's tree: the root itself or one of its known subfolders.

    Args:
        layout: of ``config/benchmarks.yaml``.
        root: a folder, ``~`` allowed.

    Raises:
        UserError: there is no such folder, or no part of the layout in it.
    """
    root = Path(os.path.expanduser(root))
    if not os.path.isdir(root):
        found = "is a file" if os.path.exists(root) else "does not exist"
        raise UserError(f"--root {root} {found}: expected the folder that the sets are in")
    places: list[Path] = [
        root,
        *(root / folder for folder in tables()["layouts"][layout]["subfolders"]),
    ]
    parts = image_and_label_folders(layout)
    best = max(places, key=lambda place: sum(os.path.isdir(place / part) for part in parts))
    if any(os.path.isdir(best / part) for part in parts):
        return best
    names = ", ".join(place.relative_to(root).as_posix() for place in places[1:])
    raise UserError(
        f"no {' or '.join(parts)} in {root} or in its {names}: pass the folder that holds them as "
        f"--root, or fetch the set first (sclip data list says how)"
    )


def image_and_label_folders(layout: str) -> list[str]:
    """The folders that a layout's images and label maps are in."""
    row = tables()["layouts"][layout]
    return [row[part].partition("/{id}")[0] for part in ("images", "labels")]


def record_path(tree: Path, layout: str) -> Path:
    """The note of a set, beside its label maps; COCO's two sets share a folder."""
    return tree / image_and_label_folders(layout)[1] / f"prepared-{layout}.json"


def record_of(tree: Path, layout: str) -> dict[str, Any] | None:
    """What ``sclip data prepare`` noted; None: nothing, or nothing that can be read."""
    try:
        record = json.loads(record_path(tree, layout).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write_record(tree: Path, layout: str, record: dict[str, Any]) -> None:
    """Note what the label maps were made from.

    Raises:
        DiskError: it could not be written.
    """
    path = record_path(tree, layout)
    text = json.dumps(record, indent=2) + "\n"
    write_whole(path, lambda target: target.write_text(text, "utf-8"))
