"""Another split of a benchmark than the one that is evaluated: its files, by the usual one's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sclip_core.config import UserError

# What the parts of a layout call the split that is evaluated, and how others are called there.
USUAL = re.compile(r"(?<=/)(val(?:idation)?)(2017)?(?=/|\.txt$)")
ENDINGS = ("", "ing")  # train, and ADE20K's training
PARTS = ("images", "labels", "split")


def of_split(layout: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """What a layout may be for another split: with its name where the usual one's stands.

    Returns:
        The layout itself for the usual split; none where it has no splits.
    """
    usual = {found[1] for part in PARTS for found in USUAL.finditer(layout.get(part, ""))}
    if not usual:
        return []
    if split in (*usual, "val"):
        return [layout]
    return [
        {
            **layout,
            **{part: _renamed(layout[part], split + end) for part in PARTS if part in layout},
        }
        for end in ENDINGS
    ]


def _renamed(pattern: str, split: str) -> str:
    return USUAL.sub(lambda found: split + (found[2] or ""), pattern)


def no_split(name: str, layout: dict[str, Any], split: str, root: Path) -> UserError:
    """The error for a split that is not there: it names those that are."""
    if not of_split(layout, split):
        return UserError(f"{name} has one set of images, and no split '{split}': leave --split out")
    there = sorted({found for part in PARTS for found in _there(layout.get(part, ""), root)})
    listed = f"there are {', '.join(there)}" if there else "there is none"
    return UserError(
        f"{name}: no split '{split}' below {root}: {listed}; expected its folders of images and "
        "label maps, or its list of images, beside those of the split that is evaluated"
    )


def _there(pattern: str, root: Path) -> Iterator[str]:
    """The names beside the usual split's in a part of a layout."""
    found = USUAL.search(pattern)
    if not found:
        return
    folder = root / pattern[: found.start()]
    for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        is_list = pattern.endswith(".txt")
        if entry.endswith(".txt") == is_list and not entry.startswith("."):
            yield entry.removesuffix(".txt").removesuffix(found[2] or "")
