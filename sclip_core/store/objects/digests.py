"""Digests of objects, remembered by URL, size and ETag, by all who use the same artifacts.

What a process has digested it puts beside the artifacts as a table that never changes. Whoever
opens the same images reads all tables and needs to read no image for its digest. Several machines
that begin at once take the images in another order each and look at the others' tables in between,
so that together they read each image about once.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.places import ObjectPath, Place, listed_place
from sclip_core.store import places
from sclip_core.store.arrow import reader_of
from sclip_core.store.digest_columns import NOTHING
from sclip_core.store.digests import Digests
from sclip_core.store.hex_columns import DIGEST
from sclip_core.store.objects.bucket import THREADS, Entry, content_name, side_by_side
from sclip_core.store.objects.contents import Contents, content_and_etag
from sclip_core.store.objects.listing import entries_of, forget_object

if TYPE_CHECKING:
    import pyarrow as pa

PART = 1024  # objects after which their digests are put, and others' are read
FOLDER = "digests"  # below the artifacts


class Told(Protocol):
    """Who is told how far it is."""

    def begin(self, total: int, done: int) -> None:
        """Some of the objects are to be read."""

    def advance(self, count: int) -> None:
        """So many more are digested."""

    def finish(self) -> None:
        """All are."""


class ObjectDigests:
    """sha256 of objects."""

    def __init__(self, artifacts: Place, keep: bool, contents: Contents | None = None) -> None:
        """Read nothing yet.

        Args:
            artifacts: the place of all artifacts, which has the tables below it.
            keep: whether new digests are put there.
            contents: takes what was read.
        """
        self._folder = artifacts / FOLDER
        self._keep, self._contents = keep, contents
        self._tables: dict[str, pa.Table] = {}  # by name, which begins with the time

    def of_many(
        self, paths: Iterable[ObjectPath], told: Told | None = None
    ) -> dict[ObjectPath, str | ImageError]:
        """The sha256 of objects, 64 hex digits; of one that cannot be read, the error.

        Args:
            paths: of the objects.
            told: is told how far it is.

        Raises:
            StorageError: the storage cannot be reached.
        """
        found: dict[ObjectPath, str | ImageError] = {}
        unknown: list[Entry] = []
        entries = entries_of(dict.fromkeys(paths))
        there = [entry for entry in entries.values() if isinstance(entry, Entry)]
        found |= {path: one for path, one in entries.items() if isinstance(one, ImageError)}
        self._refresh()
        for entry, digest in zip(there, self._remembered(there), strict=True):
            if digest:
                found[entry.path] = digest
            else:
                unknown.append(entry)
        if unknown:
            if told:
                told.begin(len(there), len(there) - len(unknown))
            found |= self._read(unknown, told)
            if told:
                told.finish()
        return found

    def remembered(self, paths: Iterable[ObjectPath]) -> dict[ObjectPath, str]:
        """The sha256 of objects that are known; none is read.

        Raises:
            StorageError: the storage cannot be reached.
        """
        entries = [
            each for each in entries_of(dict.fromkeys(paths)).values() if isinstance(each, Entry)
        ]
        self._refresh()
        known = zip(entries, self._remembered(entries), strict=True)
        return {entry.path: digest for entry, digest in known if digest}

    def forget(self, path: ObjectPath) -> None:
        """Read an object again the next time."""
        entry = entries_of([path])[path]
        if isinstance(entry, Entry):
            self._put([(_key(entry), "")])
        forget_object(path)

    def _read(
        self, unknown: Sequence[Entry], told: Told | None
    ) -> dict[ObjectPath, str | ImageError]:
        """Digest objects a part at a time, in an order of one's own."""
        found: dict[ObjectPath, str | ImageError] = {}
        parts = [unknown[start : start + PART] for start in range(0, len(unknown), PART)]
        random.Random().shuffle(parts)  # not the generator that a seed is given to
        with ThreadPoolExecutor(THREADS, "sclip-digests") as pool:
            for number, part in enumerate(parts):
                if number:  # meanwhile others may have done it
                    self._refresh()
                rest = []
                for entry, digest in zip(part, self._remembered(part), strict=True):
                    if digest:
                        found[entry.path] = digest
                    else:
                        rest.append(entry)
                if told:
                    told.advance(len(part) - len(rest))
                new: list[tuple[str, str]] = []
                try:
                    for entry, (key, one) in zip(rest, pool.map(self._digest, rest), strict=True):
                        found[entry.path] = one
                        if isinstance(one, str) and key:
                            new.append((key, one))
                        if told:
                            told.advance(1)
                finally:
                    self._put(new)
        return found

    def _digest(self, entry: Entry) -> tuple[str, str | ImageError]:
        """What an object is remembered by, of what was read, and its digest."""
        try:
            data, etag = content_and_etag(entry.path)
        except ImageError as error:
            return "", error
        digest = hashlib.sha256(data).hexdigest()
        if self._contents is not None:
            self._contents.keep(digest, data)
        return _key(Entry(entry.path, len(data), etag)), digest

    def _remembered(self, entries: Sequence[Entry]) -> Sequence[str | None]:
        """The digests that are known; an empty one was forgotten."""
        if not self._tables or not entries:
            return [None] * len(entries)
        import pyarrow as pa
        import pyarrow.compute as pc

        newest_first = [self._tables[name] for name in sorted(self._tables, reverse=True)]
        table = pa.concat_tables(newest_first).combine_chunks()
        keys = pa.array([_key(entry) for entry in entries], pa.string())
        at = pc.index_in(keys, value_set=table["key"].combine_chunks())
        digests: list[str | None] = table["sha256"].take(at).to_pylist()
        return digests

    def _refresh(self) -> None:
        """Read the tables that are new; one that is damaged is as if it were not there."""
        found = {path.name: path for path in places.children(self._folder, "*.parquet")}
        new = [name for name in found if name not in self._tables]
        for name, table in zip(new, side_by_side(lambda n: _table_in(found[n]), new), strict=True):
            self._tables[name] = table

    def _put(self, new: Sequence[tuple[str, str]]) -> None:
        """Remember digests, and put them where others find them."""
        if not new:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        keys, digests = [key for key, _ in new], [digest for _, digest in new]
        table = pa.table({"key": keys, "sha256": digests}, _schema())
        target = io.BytesIO()
        pq.write_table(table, target, compression="zstd", write_page_checksum=True)
        name = f"{content_name(target.getvalue(), time.time_ns())}.parquet"
        self._tables[name] = table
        if self._keep:  # it only saves time; a stage that has to write reports an error
            with suppress(OSError, UserError):
                places.write_new(self._folder / name, target.getvalue())


class DataDigests:
    """sha256 of the files and objects of a user's data."""

    def __init__(self, files: Digests, objects: ObjectDigests) -> None:
        """Take what digests either kind."""
        self._files, self._objects = files, objects

    def of_many(
        self, paths: Iterable[Place | str], told: Told | None = None
    ) -> list[str | ImageError]:
        """The sha256 of each, in order; for one that cannot be read, the error.

        Args:
            paths: of files and objects, also as text.
            told: is told how far it is with the objects.

        Raises:
            StorageError: object storage cannot be reached.
        """
        listed = [_object_or_file(path) for path in paths]
        files = [path for path in listed if not isinstance(path, ObjectPath)]
        objects = [path for path in listed if isinstance(path, ObjectPath)]
        of_files = iter(self._files.of_many(files) if files else [])
        of_objects = self._objects.of_many(objects, told) if objects else {}
        return [of_objects[p] if isinstance(p, ObjectPath) else next(of_files) for p in listed]

    def in_column(
        self, paths: Iterable[str], told: Told | None = None
    ) -> tuple[NDArray[Any], dict[int, ImageError]]:
        """The same as digests of 32 bytes, zeros where there is an error; errors by position."""
        rest = iter(paths)
        first = list(islice(rest, 1))  # all are files, or all are objects
        if not any(isinstance(listed_place(path), ObjectPath) for path in first):
            return self._files.in_column(chain(first, rest))
        found = self.of_many(chain(first, rest), told)
        errors = {at: one for at, one in enumerate(found) if isinstance(one, ImageError)}
        digests = (NOTHING if isinstance(one, ImageError) else bytes.fromhex(one) for one in found)
        return np.frombuffer(b"".join(digests), DIGEST), errors

    def of(self, path: Place) -> str:
        """The sha256 of one.

        Raises:
            ImageError: it cannot be read.
        """
        (digest,) = self.of_many([path])
        if isinstance(digest, ImageError):
            raise digest
        return digest

    def remembered(self, paths: Iterable[Place | str]) -> list[str | None]:
        """The sha256 of each, in order, as far as it is known; nothing is read.

        Raises:
            StorageError: object storage cannot be reached.
        """
        listed = [_object_or_file(path) for path in paths]
        objects = [path for path in listed if isinstance(path, ObjectPath)]
        of_objects = self._objects.remembered(objects) if objects else {}
        return [
            of_objects.get(p) if isinstance(p, ObjectPath) else self._files.remembered(p)
            for p in listed
        ]

    def forget(self, path: Place) -> None:
        """Read it again the next time, even if it seems unchanged."""
        if isinstance(path, ObjectPath):
            self._objects.forget(path)
        else:
            self._files.forget(path)


def _object_or_file(path: Place | str) -> Place | str:
    """Of text, an object's place; that of a file stays text, which takes less memory."""
    place = listed_place(path) if isinstance(path, str) else path
    return place if isinstance(place, ObjectPath) else path


def _key(entry: Entry) -> str:
    """What an object is remembered by; nothing where the storage gives no ETag."""
    return f"{entry.path}\n{entry.size}\n{entry.etag}" if entry.etag else ""


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("key", pa.string()), ("sha256", pa.string())])


def _table_in(path: Place) -> pa.Table:
    """The table in an object or file; without rows if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with suppress(OSError, pa.ArrowException):
        data = reader_of(places.read(path))
        return pq.read_table(data, page_checksum_verification=True).cast(_schema())
    return _schema().empty_table()
