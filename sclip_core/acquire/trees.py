"""Where the tree of a benchmark lies below the root that the user names."""

from __future__ import annotations

import os
from pathlib import Path

from sclip_core.config import UserError, tables
from sclip_core.datasets.layouts import nearest_tree, trees_below
from sclip_core.datasets.record import image_and_label_folders
from sclip_core.datasets.samples import own_folder

DEFAULT_ROOT = Path("data")


def find_root(layout: str, root: Path) -> Path:
    """The folder with a layout's tree: the root itself or one of its known subfolders.

    Args:
        layout: the name of a layout.
        root: a folder, ``~`` allowed.

    Raises:
        UserError: there is no such folder, or no part of the layout in it.
    """
    root = own_folder(root, "--root")
    row = tables()["layouts"][layout]
    tree = nearest_tree(row, root)
    if tree.there:
        return tree.place
    raise UserError(
        f"no {' or '.join(image_and_label_folders(layout))} in {root} or in its "
        f"{', '.join(row['subfolders'])}: pass the folder that holds them as --root, or fetch the "
        "set first (sclip data list says how)"
    )


def other_trees(layout: str, root: Path, tree: Path) -> list[Path]:
    """Places below a root that have a part of the layout, other than ``tree``."""
    row = tables()["layouts"][layout]
    below = trees_below(row, Path(os.path.expanduser(root)))
    return [other.place for other in below if other.there and other.place != tree]


def set_folders(name: str, root: Path) -> list[Path]:
    """The folders of a benchmark's images and label maps, in all places below a root."""
    layout = tables()["benchmarks"][name]["layout"]
    below = trees_below(tables()["layouts"][layout], Path(os.path.expanduser(root)))
    return [tree.place / part for tree in below for part in image_and_label_folders(layout)]


def at(root: Path) -> str:
    """The flag that names a root, for a command; empty for the default root."""
    return "" if root == DEFAULT_ROOT else f" --root {root}"
