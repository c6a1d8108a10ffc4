"""Where exports are written: a file or a folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sclip_core.config import UserError
from sclip_core.store.files import TEMPORARY, make_folder, write_whole, written_to

ELSEWHERE = "choose another path"


def check_file(path: Path, ending: str) -> None:
    """Refuse a file that is there already or has another ending, before anything is read.

    Raises:
        UserError: it is.
    """
    if path.suffix.lower() != ending:
        raise UserError(f"{path}: this format is written as {ending}; change the ending")
    if os.path.lexists(path):
        raise UserError(f"{path} is there already: remove it, or choose another path")


def check_folder(path: Path) -> None:
    """Refuse a folder that has anything in it, before anything is read.

    Raises:
        UserError: it has, or it is a file.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"{path} is a file: this format is a folder, -o DIR")
    if os.path.isdir(path) and any(path.iterdir()):
        raise UserError(f"{path} is not empty: pass a new or an empty folder, -o DIR")


def write_new(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, whole or not at all; its folder is made.

    Raises:
        DiskError: it cannot be written.
    """
    with written_to(path, ELSEWHERE):
        make_folder(path.parent)
        write_whole(path, write)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to be filled, which takes its name when the block has ended without an error.

    Args:
        path: new, or an empty folder.

    Raises:
        DiskError: it cannot be written.
    """
    with written_to(path, ELSEWHERE):
        make_folder(path.parent)
        filled = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TEMPORARY}{os.getpid()}-"))
        try:
            os.chmod(filled, 0o755)  # mkdtemp makes it readable by the owner only
            yield filled
            os.replace(filled, path)  # an empty folder of that name is replaced
        finally:
            shutil.rmtree(filled, ignore_errors=True)


def file_in(folder: Path, name: str, ending: str | None = None) -> Path:
    """A path below a folder for the name of an image, whose folders are made.

    Args:
        folder: the export.
        name: relative, with ``/``.
        ending: that is put behind the name; None: as it is.

    Raises:
        UserError: the name leads out of the folder.
    """
    path = folder / (name if ending is None else f"{name}{ending}")
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise UserError(f"{name} is no name of a file below the export: rename the image")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def as_json(value: Any) -> str:
    """JSON on one line, in UTF-8 letters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
