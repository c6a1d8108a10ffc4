"""Where a set's tree is, and the note beside its label maps that says what they were made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sclip_core.config import UserError, tables
from sclip_core.datasets.samples import nearest_tree, trees_below
from sclip_core.store.files import write_whole

OTHER_DEFINITION = "made from instances; published numbers are on maps made from stuff"
DEFAULT_ROOT = Path("data")  # where the sets' trees are, unless the user says otherwise


def find_root(layout: str, root: Path) -> Path:
    """The folder with a layout's tree: the root itself or one of its known subfolders.

    Args:
        layout: the name of a layout.
        root: a folder, ``~`` allowed.

    Raises:
        UserError: there is no such folder, or no part of the layout in it.
    """
    root = Path(os.path.expanduser(root))
    if not os.path.isdir(root):
        found = "is a file" if os.path.exists(root) else "does not exist"
        raise UserError(f"--root {root} {found}: expected the folder that the sets are in")
    row = tables()["layouts"][layout]
    found_tree = nearest_tree(row, root)
    if found_tree.there:
        return found_tree.place
    raise UserError(
        f"no {' or '.join(image_and_label_folders(layout))} in {root} or in its "
        f"{', '.join(row['subfolders'])}: pass the folder that holds them as --root, or fetch the "
        "set first (sclip data list says how)"
    )


def other_trees(layout: str, root: Path, tree: Path) -> list[Path]:
    """Other places below a root with a part of the layout than the tree that was found."""
    row = tables()["layouts"][layout]
    below = trees_below(row, Path(os.path.expanduser(root)))
    return [other.place for other in below if other.there and other.place != tree]


def set_folders(name: str, root: Path) -> list[Path]:
    """The folders of a benchmark's images and label maps, in all places below a root."""
    layout = tables()["benchmarks"][name]["layout"]
    below = trees_below(tables()["layouts"][layout], Path(os.path.expanduser(root)))
    return [tree.place / part for tree in below for part in image_and_label_folders(layout)]


def at(root: Path) -> str:
    """The flag that names a root, where it is not the default one."""
    return "" if root == DEFAULT_ROOT else f" --root {root}"


def image_and_label_folders(layout: str) -> list[str]:
    """The folders that a layout's images and label maps are in."""
    row = tables()["layouts"][layout]
    return [row[part].partition("/{id}")[0] for part in ("images", "labels")]


def record_path(tree: Path, layout: str) -> Path:
    """The note of a set, beside its label maps; COCO's two sets share a folder."""
    return tree / image_and_label_folders(layout)[1] / f"prepared-{layout}.json"


def record_of(tree: Path, layout: str) -> dict[str, Any] | None:
    """What ``sclip data prepare`` noted; None: nothing. One that cannot be read is not complete."""
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
    """What is wrong with the label maps of a benchmark by their record; None: nothing.

    Args:
        name: the benchmark.
        tree: the folder with its layout.
        record: what ``sclip data prepare`` noted; empty where it noted nothing.
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
