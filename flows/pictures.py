"""Pictures that a command writes: where it can be written, in the format of the name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sclip_core.config import UserError
from sclip_core.store.files import writable_folder, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

# By the ending of the name, Pillow's format and its options; a name without an ending is a PNG.
FORMATS = {
    "": ("PNG", {}),
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".webp": ("WEBP", {"quality": 95}),
}
EXACT = ("", ".png")  # for label maps: the others blur


def check_target(target: Path, exact: bool = False) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Args:
        target: the picture's name.
        exact: whether each pixel has to be kept, as of a label map.

    Raises:
        UserError: its folder is not there or takes no files, it is a folder itself, or its ending
            is of another format.
    """
    if os.path.isdir(target):
        raise UserError(f"{target} is a folder: pass the name of a picture in it")
    if not os.path.isdir(target.parent):
        raise UserError(f"no folder {target.parent} to write {target.name} to: make it first")
    endings = EXACT if exact else tuple(FORMATS)
    if target.suffix.lower() not in endings:
        what = "a label map is written as" if exact else "pictures are written as"
        raise UserError(f"{target}: {what} {', '.join(filter(None, endings))}: name it so")
    writable_folder(target.parent, "-o")


def save(picture: Image, target: Path) -> None:
    """Write a picture, whole or not at all.

    Args:
        picture: to write.
        target: a name that `check_target` took.

    Raises:
        DiskError: it cannot be written.
    """
    kind, options = FORMATS[target.suffix.lower()]
    write_whole(target, lambda path: picture.save(path, kind, **options))
