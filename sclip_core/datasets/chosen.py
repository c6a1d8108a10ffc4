"""Which images of a dataset are taken: those that a list names, and the first so many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, unknown
from sclip_core.config.frozen import ids_in
from sclip_core.datasets.samples import read_split
from sclip_core.datasets.suffixes import IMAGE_SUFFIXES


def chosen_ids(
    ids: Sequence[str], listed: Path | None, limit: int | None = None, ending: str = ""
) -> list[str]:
    """The ids that are taken, in the dataset's own order.

    Args:
        ids: of all images of the dataset.
        listed: a file with an id or the path of an image a line, or one of ``sclip freeze``; None:
            all are taken.
        limit: of these, only the first so many.
        ending: what the names of the images have after the id.

    Raises:
        UserError: the file cannot be read, or names an image that the dataset has not.
    """
    if listed is None:
        return list(ids[:limit])
    path = Path(os.path.expanduser(listed))
    lines = ids_in(path) or read_split(path)
    by_end = _by_end(ids)
    found = {line: _id_of(line, by_end, ending) for line in lines}
    absent = [line for line, image_id in found.items() if image_id is None]
    if len(absent) == 1 and len(lines) > 1:
        raise unknown(f"image in {listed} (no image of the dataset has this id):", absent[0], ids)
    if absent:
        raise UserError(
            f"{listed} names {number_of(len(absent), 'image', of=len(lines))} that the dataset has "
            f"not: {few(absent)}; expected ids such as {few(list(ids))}, one a line"
        )
    taken = set(found.values())
    if len(taken) < len(lines):
        named = [image_id for image_id in found.values() if image_id is not None]
        twice = next(i for n, i in enumerate(named) if i in named[:n])
        raise UserError(f"{listed} names {twice} twice: every image counts once, remove one line")
    return [image_id for image_id in ids if image_id in taken][:limit]


def _by_end(ids: Iterable[str]) -> Mapping[str, str | None]:
    """Ids by the last parts of their paths; None where several images have these."""
    found: dict[str, str | None] = {}
    for image_id in ids:
        parts = image_id.split("/")
        for first in range(1, len(parts)):
            end = "/".join(parts[first:])
            found[end] = None if end in found else image_id
    return {**found, **{image_id: image_id for image_id in ids}}


def _id_of(line: str, by_end: Mapping[str, str | None], ending: str) -> str | None:
    """The image that a line names: its id, or a path that ends with it, with or without ending."""
    name = PurePosixPath(line.replace("\\", "/")).as_posix()
    plain, suffix = os.path.splitext(name)
    known = suffix.lower() in IMAGE_SUFFIXES
    for whole in (name, name.removesuffix(ending), plain if known else ""):
        parts = whole.split("/")
        for first in range(len(parts)):
            image_id = by_end.get("/".join(parts[first:]))
            if image_id is not None and whole:
                return image_id
    return None
