"""What the readers of annotations share: JSON files, their fields, the ids of images."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.config.protocol import is_text

NUMBER = re.compile("0|[1-9][0-9]{0,17}")  # "007" is a name
SCHEME = re.compile("^([A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://)")  # a drive, file://, https://
KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


def read_bytes_of(path: Path) -> bytes:
    """The bytes of a file of annotations.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: it cannot be read, is cut short or no JSON, or holds something else.
    """
    try:
        loaded = json.loads(read_bytes_of(path))
    except (ValueError, RecursionError) as error:
        fault = str(error) or "nested too deep"
        raise UserError(
            f"{path} is not JSON, or cut short ({fault}): export or copy it again"
        ) from None
    if not isinstance(loaded, dict):
        raise UserError(
            f"{path} holds {_entries_alone(loaded) or KINDS.get(type(loaded), shown(loaded))}: "
            "expected an object {...}"
        )
    return loaded


def _entries_alone(loaded: object) -> str | None:
    """What a list of COCO's annotations alone is; None: it is another list."""
    first = loaded[0] if isinstance(loaded, list) and loaded else None
    if not isinstance(first, dict) or not {"image_id", "category_id"} <= set(first):
        return None
    return "a list of annotations alone, without 'images' and 'categories'"


def field(entry: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """One field of an entry.

    Raises:
        UserError: it is missing, or of another type.
    """
    value = entry.get(key)
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    found = "is missing" if key not in entry else f"is {shown(value)}"
    raise UserError(f"{where}: '{key}' {found}; expected {KINDS[kind]}")


def objects(entry: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A field that holds a list of objects.

    Raises:
        UserError: it is missing, or holds something else.
    """
    entries: list[dict[str, Any]] = field(entry, key, list, where)
    for number, one in enumerate(entries):
        if not isinstance(one, dict):
            raise UserError(f"{where}: '{key}' [{number}] is {shown(one)}; expected an object")
    return entries


def identity(entry: Mapping[str, Any], key: str, where: str) -> int | str:
    """A field by which an entry is identified; ``"12"`` and ``12.0`` are the number 12.

    Raises:
        UserError: it is missing, or neither a whole number nor a text.
    """
    value = identity_or_none(entry, key)
    if value is not None:
        return value
    raise UserError(f"{where}: '{key}' is {shown(entry.get(key))}; expected a whole number")


def identity_or_none(entry: Mapping[str, Any], key: str) -> int | str | None:
    """What `identity` gives; None in place of an error."""
    value = as_number(entry.get(key))
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def as_number(value: object) -> object:
    """A number that is written as a text or with a decimal point as a whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return int(value)
    return value


def optional_size(
    entry: Mapping[str, Any], height: str, width: str, where: str
) -> tuple[int, int] | None:
    """The (H, W) of the image, or None if the entry does not give it.

    Raises:
        UserError: what it gives are not whole numbers.
    """
    sides = [entry.get(height), entry.get(width)]
    if None in sides:
        return None
    whole: list[Any] = [as_number(side) for side in sides]
    if not all(type(side) is int and side > 0 for side in whole):
        raise UserError(
            f"{where}: the image's size is {shown(sides)} (height, width); expected two whole "
            "numbers of pixels"
        )
    return whole[0], whole[1]


def relative_name(name: str, where: str) -> str:
    r"""The path of a file below a folder, with "/" in place of Windows' "\".

    Raises:
        UserError: it leads out of the folder, is empty, or cannot be the name of a file.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"{where}: the file name {shown(name)} is not a path below --images, such as "
            f"{path.name or 'a.jpg'}: export the annotations with such names"
        )
    if not is_text(name) or "\0" in name:
        raise UserError(f"{where}: {shown(name)} cannot be the name of a file")
    return path.as_posix()


def id_of(name: str, where: str) -> str:
    r"""The id of an image by its file name: ``a\b.jpg`` gives ``a/b``.

    Of a path of another machine, what leads to its folder is left out: ``C:\data\a.jpg`` and
    ``../data/a.jpg`` give ``data/a``. An id is only compared with those of files that are there.

    Raises:
        UserError: it is empty, or cannot be the name of a file.
    """
    path = PurePosixPath(SCHEME.sub("", name.replace("\\", "/")))
    parts = [part for part in path.parts if part not in ("/", "//", "..")]
    if not parts:
        raise UserError(f"{where}: the file name {shown(name)} is empty")
    if not is_text(name) or "\0" in name:
        raise UserError(f"{where}: {shown(name)} cannot be the name of a file")
    return os.path.splitext("/".join(parts))[0]


def is_foreign(name: str) -> bool:
    """Whether the name of a file is a path of another machine: absolute, or out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(SCHEME.match(name)) or path.is_absolute() or ".." in path.parts


def refuse_twice(key: Hashable, seen: Mapping[Any, Any], what: str, where: str) -> None:
    """Refuse a name or number that has been seen before.

    Raises:
        UserError: it has.
    """
    if key in seen:
        raise UserError(f"{where}: {what} {shown(key)} is there twice; remove or rename one")
