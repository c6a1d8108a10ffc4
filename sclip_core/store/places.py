"""Reading and writing whole files, be they in a folder or in object storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

from sclip_core.config.places import ObjectPath, Place
from sclip_core.store.files import make_folder, writable_folder, write_whole, written_to

if TYPE_CHECKING:
    from sclip_core.store.objects.bucket import Bucket


def read(place: Place) -> bytes:
    """The content of a file or object.

    Raises:
        OSError: there is none, or it cannot be read.
        StorageError: object storage cannot be read.
    """
    return _bucket(place).read(place) if isinstance(place, ObjectPath) else place.read_bytes()


def exists(place: Place) -> bool:
    """Whether a file or object is there.

    Raises:
        StorageError: object storage cannot be asked.
    """
    if isinstance(place, ObjectPath):
        return _bucket(place).entry(place) is not None
    return place.is_file()


def is_there(place: Place) -> bool:
    """Whether a folder is there, or any object below a place.

    Raises:
        StorageError: object storage cannot be asked.
    """
    if isinstance(place, ObjectPath):
        return bool(_bucket(place).children(place))
    return place.is_dir()


@overload
def children(place: Path, pattern: str = "*") -> list[Path]: ...
@overload
def children(place: ObjectPath, pattern: str = "*") -> list[ObjectPath]: ...
@overload
def children(place: Place, pattern: str = "*") -> list[Place]: ...
def children(place: Place, pattern: str = "*") -> list[Path] | list[ObjectPath] | list[Place]:
    """What is directly below a place and has a name like a pattern, by name.

    Raises:
        StorageError: object storage cannot be asked.
    """
    if isinstance(place, ObjectPath):
        return [each for each in _bucket(place).children(place) if each.match(pattern)]
    return sorted(place.glob(pattern))


def write(place: Place, data: bytes) -> None:
    """Write a file or object as a whole, in place of an older one; make the folder.

    Raises:
        DiskError: it could not be written; an older one is unchanged.
    """
    if isinstance(place, ObjectPath):
        _bucket(place).put(place, data)
        return
    with written_to(place.parent):
        make_folder(place.parent)
    write_whole(place, lambda path: path.write_bytes(data))


def write_new(place: Place, data: bytes) -> bool:
    """Write a file or object where none is; of several writers to object storage one succeeds.

    Returns:
        Whether it has this content.

    Raises:
        DiskError: it could not be written.
    """
    if isinstance(place, ObjectPath):
        return _bucket(place).put_new(place, data)
    if place.exists():
        return place.read_bytes() == data
    write(place, data)
    return True


def writable(root: Place) -> Place:
    """The folder or place of all artifacts, made if necessary and tried out.

    Raises:
        DiskError: it cannot be written, or object storage does not promise what the store needs.
    """
    if not isinstance(root, ObjectPath):
        return writable_folder(root)
    if root not in _PROBED:
        _bucket(root).probe(root)
        _PROBED.add(root)
    return root


_PROBED: set[ObjectPath] = set()


def _bucket(place: ObjectPath) -> Bucket:
    from sclip_core.store.objects.bucket import bucket_of

    return bucket_of(place.bucket)
