"""What lies below a place in object storage: listed when a run opens its data, asked often.

A listing gives a thousand names a request, one request after the other, and with them the sizes
and ETags by which contents are known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock

from sclip_core.config import ImageError
from sclip_core.config.places import ObjectPath, Place
from sclip_core.store.objects.bucket import Entry, bucket_of, side_by_side

MOST = 4  # listings that are kept: images and label maps of two runs
Listing = Mapping[ObjectPath, Entry]

_LISTED: OrderedDict[ObjectPath, Listing] = OrderedDict()
_LOCK = Lock()


def objects_below(place: ObjectPath) -> Listing:
    """All objects below a place, as they were when it was listed for the first time.

    Raises:
        StorageError: they cannot be listed.
    """
    with _LOCK:
        if place not in _LISTED:
            found = bucket_of(place.bucket).entries(place)
            _LISTED[place] = {entry.path: entry for entry in found}
            while len(_LISTED) > MOST:
                _LISTED.popitem(last=False)
        return _LISTED[place]


def names_below(place: ObjectPath) -> list[str]:
    """The keys of the objects below a place, relative to it.

    Raises:
        StorageError: they cannot be listed.
    """
    start = len(place.key) + 1 if place.key else 0
    return [path.key[start:] for path in objects_below(place)]


def list_again(*places: Place | None) -> None:
    """List these places anew when they are asked for."""
    with _LOCK:
        for place in places:
            if isinstance(place, ObjectPath):
                _LISTED.pop(place, None)


def forget_object(path: ObjectPath) -> None:
    """List what has this object anew: it is not as it was."""
    with _LOCK:
        holding = [place for place, found in _LISTED.items() if path in found]
    list_again(*holding)


def entries_of(paths: Iterable[ObjectPath]) -> dict[ObjectPath, Entry | ImageError]:
    """Size and ETag of objects, from the listings that are there; of an object that lacks, why.

    Raises:
        StorageError: the storage cannot be asked.
    """
    with _LOCK:
        listings = list(_LISTED.values())
    found: dict[ObjectPath, Entry | ImageError] = {}
    unlisted = []
    for path in paths:
        entry = next((listing[path] for listing in listings if path in listing), None)
        if entry is None:
            unlisted.append(path)
        else:
            found[path] = entry
    asked = side_by_side(lambda path: bucket_of(path.bucket).entry(path), unlisted)
    for path, entry in zip(unlisted, asked, strict=True):
        found[path] = entry or missing(path)
    return found


def missing(path: ObjectPath) -> ImageError:
    """The error for an object that is not there."""
    return ImageError(f"no object at {path}: expected an image")
