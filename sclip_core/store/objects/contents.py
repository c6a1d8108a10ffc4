"""Contents of a user's objects: images and label maps, read when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from sclip_core.config import ImageError
from sclip_core.config.places import ObjectPath
from sclip_core.store.files import KEPT
from sclip_core.store.objects.bucket import PATIENT, QUICK, bucket_of
from sclip_core.store.objects.faults import StorageError
from sclip_core.store.objects.listing import missing

MOST_BYTES = 2**28  # of contents that are kept


def content(path: ObjectPath) -> bytes:
    """What is in an object.

    Raises:
        ImageError: it is not there, or cannot be read though the storage answers.
        StorageError: the storage does not answer.
    """
    return content_and_etag(path)[0]


def content_and_etag(path: ObjectPath) -> tuple[bytes, str]:
    """What is in an object, and the ETag of just that; as ``content``."""
    bucket = bucket_of(path.bucket)
    try:
        try:
            return bucket.fetch(path, QUICK)
        except StorageError as error:
            if not error.may_pass or bucket.answers(path.parent):
                raise
        return bucket.fetch(path, PATIENT)  # it may come back: hours of work depend on it
    except FileNotFoundError:
        raise missing(path) from None
    except StorageError as error:
        if not bucket.answers(path.parent):
            raise
        raise ImageError(str(error).removesuffix(f"; {KEPT}")) from None


class Contents:
    """Contents that were read to be digested, by digest: those used last, up to 256 MiB."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        """Begin with none.

        Args:
            most: bytes that are kept.
        """
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._most, self._bytes = most, 0
        self._lock = Lock()

    def keep(self, digest: str, data: bytes) -> None:
        """Keep what has a digest, in place of what was not used for the longest time."""
        with self._lock:
            if digest in self._kept or len(data) > self._most:
                return
            self._kept[digest] = data
            self._bytes += len(data)
            while self._bytes > self._most:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def get(self, digest: str) -> bytes | None:
        """What has a digest, if it is kept."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)
