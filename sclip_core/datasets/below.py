"""What lies in a folder with its subfolders, or below a place in object storage."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sclip_core.config import UserError
from sclip_core.config.places import ObjectPath, Place
from sclip_core.config.protocol import is_text

HIDDEN = re.compile(r"(^|/)\.")  # a name, or a folder above it, that begins with a dot


def files_below(folder: Place) -> Iterator[str]:
    """Paths, relative to a folder and with "/", of all files in it; hidden ones are left out.

    Raises:
        UserError: a folder that cannot be listed or holds itself, a name that is not UTF-8.
        StorageError: object storage cannot be asked.
    """
    if isinstance(folder, ObjectPath):
        yield from (name for name in objects_below(folder) if not HIDDEN.search(name))
        return

    def refuse(error: OSError) -> None:
        raise _not_listed(error)

    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [entry for entry in folders if not entry.startswith(".")]
        _refuse_loops(here, folders)
        inside = Path(here).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        if files and not is_text(prefix):
            raise UserError(f"the name of {here}/{files[0]} is not UTF-8: rename it")
        for file in files:
            if not file.isascii() and not is_text(prefix + file):
                raise UserError(f"the name of {here}/{file} is not UTF-8: rename it")
            if not file.startswith("."):
                yield prefix + file


def objects_below(place: ObjectPath) -> list[str]:
    """The keys of the objects below a place, relative to it, as first listed.

    Raises:
        StorageError: object storage cannot be asked.
    """
    from sclip_core.store.objects.listing import names_below

    return names_below(place)


def lies_in(place: Place, folder: Place) -> bool:
    """Whether a folder is another one or lies in it."""
    if isinstance(place, ObjectPath) and isinstance(folder, ObjectPath):
        return folder in (place, *place.parents)
    if isinstance(place, ObjectPath) or isinstance(folder, ObjectPath):
        return False
    return place.resolve().is_relative_to(folder.resolve())


def _refuse_loops(here: str, folders: Sequence[str]) -> None:
    """Raise where a link leads back up: the walk would not end."""
    real = os.path.realpath(here)
    for folder in folders:
        link = os.path.join(here, folder)
        if os.path.islink(link) and Path(real).is_relative_to(os.path.realpath(link)):
            raise UserError(f"{link} links to a folder that contains it: remove the link")


def entries(folder: Path) -> list[str]:
    """The names of what is in a folder, sorted.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _not_listed(error) from None


def _not_listed(error: OSError) -> UserError:
    return UserError(f"cannot list {error.filename}: {error.strerror}")
