r"""Which image annotations are of: names that mean the same file, though they are not the same.

Annotations name images as the machine that they were made on did: ``C:\data\\a.jpg``,
``/data/upload/3/a.jpg``, ``../../media/a.jpg``, ``my%20shot.jpg``, in another Unicode form.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown


class Pairing(NamedTuple):
    """The images that annotations are of."""

    known_as: dict[str, str]  # image id: its id in the annotations
    notes: tuple[str, ...]  # on names that differ


def paired(
    known: Sequence[str],
    images: Collection[str],
    source: str,
    foreign: bool = False,
    also_named: Mapping[str, str] = MappingProxyType({}),
) -> Pairing:
    """Find the image of each name in annotations.

    A name may have folders above those of the images, if all names have them. Names that do not
    fit then are compared in one Unicode form and in lower case, without percent signs; paths of
    another machine, of which none fits, without their folders. Wherever two names or two images
    would be one, neither is paired.

    Args:
        known: the ids in the annotations.
        images: the ids of the images.
        source: what to call the annotations.
        foreign: whether the names are paths of another machine.
        also_named: other names of some ids, which count where neither that id nor the image has
            a partner.

    Raises:
        UserError: none of them is of an image.
    """
    cut = _folders_above(known, images)
    ids = {"/".join(one.split("/")[cut:]): one for one in known}
    found = {image_id: one for image_id, one in ids.items() if image_id in images}
    rest = [one for image_id, one in ids.items() if image_id not in found]
    spelt = _by(_plain, rest, [one for one in images if one not in found], cut)
    notes = _note(spelt, source, "differ", "in spelling from those of --images")
    found |= spelt
    if not found and foreign:
        found = _by(lambda name: _plain(os.path.basename(name)), known, images, 0)
        notes = _note(found, source, "differ", "by the folder from those of --images")
    others = _by_other_name(also_named, found, images)
    notes += _note(others, source, "fit", "an image by the 'imagePath' in the file")
    found |= others
    if found:
        return Pairing(found, notes)
    there, listed = next(iter(images), None), next(iter(known), None)
    raise UserError(
        f"{source} has none of the images: it lists {len(known):,}, e.g. "
        f"{shown(listed)}, and --images holds {len(images):,}, e.g. {shown(there)}; names and "
        "subfolders must be the same, only the ending may differ"
    )


def _by(
    key: Callable[[str], str], known: Collection[str], images: Collection[str], cut: int
) -> dict[str, str]:
    """The pairs whose keys are equal, and of no other name or image."""
    names, files = defaultdict(list), defaultdict(list)
    for one in known:
        names[key("/".join(one.split("/")[cut:]))].append(one)
    for image_id in images:
        files[key(image_id)].append(image_id)
    return {
        files[same][0]: names[same][0]
        for same in names
        if len(names[same]) == 1 and len(files.get(same, ())) == 1
    }


def _by_other_name(
    also_named: Mapping[str, str], found: Mapping[str, str], images: Collection[str]
) -> dict[str, str]:
    """The pairs of what is left by other names, and then by the last parts of these."""
    pairs: dict[str, str] = {}
    for key in (_plain, lambda name: _plain(os.path.basename(name))):
        taken = {*found.values(), *pairs.values()}
        id_of = {other: one for one, other in also_named.items() if one not in taken}
        names = [other for one, other in also_named.items() if one not in taken]
        rest = {*images} - {*found} - {*pairs}
        pairs |= {image_id: id_of[other] for image_id, other in _by(key, names, rest, 0).items()}
    return pairs


def _plain(name: str) -> str:
    """A name as it is compared, with the characters that percent signs stand for."""
    return normalize("NFC", unquote(name)).casefold()


def _note(pairs: Mapping[str, str], source: str, verb: str, how: str) -> tuple[str, ...]:
    if not pairs:
        return ()
    some = few([f"{shown(one)} for {shown(image_id)}" for image_id, one in pairs.items()], 2)
    return (f"{source}: {number_of(len(pairs), 'name', verb)} {how}: {some}",)


def _folders_above(known: Sequence[str], images: Collection[str]) -> int:
    """How many leading folders of the annotations' names lie above ``--images``.

    It is 1 for ``images/a.jpg`` if ``--images`` is that folder. Only folders that all names share
    are left out, so that no two images become one.
    """
    shared = os.path.commonpath([f"/{os.path.dirname(one)}" for one in known]) if known else "/"
    plain = {_plain(image_id) for image_id in images}
    for cut in range(len(Path(shared).parts)):  # the root itself is a part
        if any(_plain("/".join(one.split("/")[cut:])) in plain for one in known):
            return cut
    return 0
