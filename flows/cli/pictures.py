"""Pictures that a command writes: where it can be written, in the format of the name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sclip_core.config import UserError
from sclip_core.store.files import write_whole, written_to

if TYPE_CHECKING:
    from PIL.Image import Image

# By the ending of the name, Pillow's format and its options; a name without an ending is a PNG.
PNG = {"compress_level": 4}  # Pillow's own level 6 takes three times as long to save a twentieth
FORMATS = {
    "": ("PNG", PNG),
    ".png": ("PNG", PNG),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".webp": ("WEBP", {"quality": 95}),
}
EXACT = ("", ".png")  # for label maps: the others blur
ELSEWHERE = "choose another place for it"


def check_target(
    target: Path,
    exact: bool = False,
    taken: Iterable[Path] = (),
    endings: Iterable[str] | None = None,
) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Args:
        target: the picture's name.
        exact: whether each pixel has to be kept, as of a label map.
        taken: files, and folders with all that is in them, that it must not replace.
        endings: of names of a file that is no picture.

    Raises:
        UserError: its folder is not there or takes no files, it is a folder itself or no file, a
            link to nothing, it is taken, or its ending is of another format.
    """
    if os.path.isdir(target):
        what = "a picture" if endings is None else "a file"
        raise UserError(f"{target} is a folder: pass the name of {what} in it")
    if not os.path.isdir(target.parent):
        raise UserError(f"no folder {target.parent} to write {target.name} to: make it first")
    if os.path.islink(target) and not os.path.exists(target):
        missing = os.readlink(target)
        raise UserError(f"{target} is a link to {missing}, which is not there: {ELSEWHERE}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise UserError(f"{target} is a device or a pipe: {ELSEWHERE}")
    real = Path(os.path.realpath(target))
    for other in taken:
        if real.is_relative_to(os.path.realpath(other)):
            raise UserError(f"{target} would replace {other}, or a file in it: {ELSEWHERE}")
    if endings is None:
        endings = EXACT if exact else tuple(FORMATS)
    if target.suffix.lower() not in endings:
        what = "a label map is written as" if exact else "pictures are written as"
        raise UserError(f"{target}: {what} {', '.join(filter(None, endings))}: name it so")
    with written_to(target.parent, ELSEWHERE), tempfile.TemporaryFile(dir=target.parent):
        pass


def save(picture: Image, target: Path) -> None:
    """Write a picture, whole or not at all.

    Args:
        picture: to write.
        target: a name that `check_target` took.

    Raises:
        DiskError: it cannot be written.
    """
    kind, options = FORMATS[target.suffix.lower()]
    with written_to(target, ELSEWHERE):
        write_whole(target, lambda path: picture.save(path, kind, **options))
