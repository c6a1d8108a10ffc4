"""Object storage through obstore: S3 and what speaks its protocol, Google's, Azure's.

Objects are written whole, by a put that fails where the name is taken. That is all that the store
relies on, so it is tried out before a store is written to. Credentials come from the environment,
as the tools of each cloud take them, and go nowhere else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sclip_core.config.optional import optional
from sclip_core.config.places import ObjectPath
from sclip_core.store.files import KEPT
from sclip_core.store.objects.faults import (
    NOT_FOUND,
    PANIC,
    StorageError,
    is_final,
    kind,
    reason,
    told,
)

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Seconds for which a request that fails is tried again ...
QUICK = 12.0  # before the storage has answered once: then the address is mostly wrong
PATIENT = 300.0  # later: hours of work depend on it
SAID_AFTER = 10.0  # seconds after which a user is told why nothing goes on
LONGEST_PAUSE = 20.0  # seconds between two tries
TIMEOUTS = {QUICK: "8s", PATIENT: "120s"}  # of one request; a batch of 64 MiB may take that long
CONFLICTS = 5  # times that a name may be neither free nor taken
THREADS = 16  # requests at once: each waits for tens of milliseconds


class Entry(NamedTuple):
    """An object as a listing has it."""

    path: ObjectPath
    size: int  # bytes
    etag: str  # changes with the content


class Bucket:
    """The objects of one bucket; safe to be used by several threads."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: scheme and name, ``s3://bucket``.

        Raises:
            UserError: obstore is not installed, or cannot use the environment's settings.
        """
        self._obstore = optional("obstore", "s3", f", which reads and writes {url}")
        self._url = url
        self._patience = QUICK
        try:
            self._stores = {patience: _opened(url, patience) for patience in TIMEOUTS}
        except Exception as error:  # obstore raises its own and ValueError
            raise StorageError(f"{url} cannot be opened ({reason(error)})") from None

    @property
    def _store(self) -> Any:
        return self._stores[self._patience]

    def read(self, path: ObjectPath) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """
        return self._tried(path, lambda: self._bytes(self._obstore.get(self._store, path.key)))

    def fetch(self, path: ObjectPath, patience: float) -> tuple[bytes, str]:
        """The content of an object, and its ETag.

        Args:
            path: of the object.
            patience: seconds for which it is tried.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """

        def get() -> tuple[bytes, str]:
            found = self._obstore.get(self._store, path.key)
            return self._bytes(found), found.meta["e_tag"] or ""

        return self._tried(path, get, patience=patience)

    def answers(self, place: ObjectPath) -> bool:
        """Whether the storage lists what is below a place, asked once, for a page of names."""
        try:
            prefix = f"{place.key}/" if place.key else None
            next(iter(self._obstore.list(self._store, prefix, chunk_size=1)), None)
        except Exception:  # obstore's own exceptions share no module of their own
            return False
        return True

    def read_range(self, path: ObjectPath, start: int, stop: int) -> bytes:
        """Some bytes of an object; as ``read``."""
        if start == stop:
            return b""

        def get() -> bytes:
            found = self._obstore.get_range(self._store, path.key, start=start, end=stop)
            data = bytes(found)
            if len(data) != stop - start:
                raise ConnectionError(f"{len(data)} of {stop - start} bytes came")
            return data

        return self._tried(path, get)

    def entry(self, path: ObjectPath) -> Entry | None:
        """Size and ETag of an object; None if there is none.

        Raises:
            StorageError: the storage cannot be asked.
        """
        try:
            found = self._tried(path, lambda: self._obstore.head(self._store, path.key))
        except FileNotFoundError:
            return None
        return Entry(path, found["size"], found["e_tag"] or "")

    def entries(self, prefix: ObjectPath) -> list[Entry]:
        """All objects below a place, by name.

        Args:
            prefix: the place.

        Raises:
            StorageError: they cannot be listed.
        """
        whole = f"{prefix.key}/" if prefix.key else None

        def get() -> list[Entry]:
            listed = self._obstore.list(self._store, whole, chunk_size=1000)
            return [
                Entry(ObjectPath._of(self._url, found["path"]), found["size"], found["e_tag"] or "")
                for page in listed
                for found in page
            ]

        found = self._tried(prefix, get, may_lack=False)
        return sorted(found, key=lambda entry: entry.path.key)

    def children(self, prefix: ObjectPath) -> list[ObjectPath]:
        """The places directly below one, objects and what has objects below it, by name."""
        whole = f"{prefix.key}/" if prefix.key else None

        def get() -> list[str]:
            found = self._obstore.list_with_delimiter(self._store, whole)
            return [*found["common_prefixes"], *(each["path"] for each in found["objects"])]

        keys = self._tried(prefix, get, may_lack=False)
        return sorted(ObjectPath._of(self._url, key) for key in keys)

    def put(self, path: ObjectPath, data: bytes) -> None:
        """Write an object, in place of an older one.

        Raises:
            StorageError: it could not be written; an older one is unchanged.
        """
        self._tried(path, lambda: self._obstore.put(self._store, path.key, data), writing=True)

    def put_new(self, path: ObjectPath, data: bytes) -> bool:
        """Write an object unless the name is taken: of several writers one succeeds.

        An answer may get lost after the object was written, and the next try then finds the name
        taken, by this very content: that is a success. Two puts at the same moment may both be
        refused, with no object there: the next try decides.

        Returns:
            Whether the object has this content; False: another one was there first.

        Raises:
            StorageError: it could not be written.
        """

        def put() -> bool:
            try:
                self._obstore.put(self._store, path.key, data, mode="create", use_multipart=False)
            except Exception as error:
                if kind(error) not in ("AlreadyExistsError", "PreconditionError"):
                    raise
                return False
            return True

        for _ in range(CONFLICTS):
            if self._tried(path, put, writing=True):
                return True
            try:
                return self.read(path) == data
            except FileNotFoundError:
                time.sleep(random.uniform(0.1, 0.5))
        raise StorageError(
            f"{path} cannot be written (the storage says that it is there, and has no such object);"
            f" {KEPT}"
        )

    def delete(self, path: ObjectPath) -> None:
        """Remove an object, if it is there.

        Raises:
            StorageError: it could not be removed.
        """
        try:
            self._tried(path, lambda: self._obstore.delete(self._store, path.key), writing=True)
        except FileNotFoundError:
            return

    def probe(self, root: ObjectPath) -> None:
        """See that a put fails where the name is taken, which the store relies on.

        Args:
            root: where a small object is put, and removed again.

        Raises:
            StorageError: the storage replaces the object, or cannot be written to.
        """
        path = root / f".probe-{uuid.uuid4().hex}"
        try:
            self.put_new(path, b"first")
            if self.put_new(path, b"second") or self.read(path) != b"first":
                raise StorageError(
                    f"{self._url} replaces an object where only a new one was asked for "
                    "(If-None-Match is not honoured), so two writers could lose each other's rows: "
                    "pass a store that honours it, or a folder: --artifacts DIR"
                )
        finally:
            with suppress(StorageError):  # who may write need not be allowed to remove
                self.delete(path)

    def _tried(
        self,
        path: ObjectPath,
        request: Callable[[], Result],
        writing: bool = False,
        may_lack: bool = True,
        patience: float = PATIENT,
    ) -> Result:
        """What a request gives, tried again where another try may help."""
        started, attempt, said = time.monotonic(), 0, False
        while True:
            try:
                found = request()
            except BaseException as error:  # obstore's own exceptions share no module of their own
                if not isinstance(error, Exception) and kind(error) != PANIC:
                    raise
                if kind(error) == NOT_FOUND and not writing and may_lack:
                    self._patience = PATIENT  # it has answered
                    raise FileNotFoundError(str(path)) from None
                pause = min(LONGEST_PAUSE, 0.1 * 2**attempt) * random.uniform(0.5, 1)
                waited = time.monotonic() - started
                if is_final(error) or waited + pause > min(patience, self._patience):
                    raise told(path, error, writing, waited) from None
                if waited > SAID_AFTER and not said:
                    LOG.warning("%s does not answer (%s); trying again", path, reason(error))
                    said = True
            else:
                self._patience = PATIENT
                return found
            attempt += 1
            time.sleep(pause)

    @staticmethod
    def _bytes(found: Any) -> bytes:
        size = found.meta["size"]
        data = bytes(found.bytes())
        if len(data) != size:
            raise ConnectionError(f"{len(data)} of {size} bytes came")
        return data


@cache
def bucket_of(path_bucket: str) -> Bucket:
    """The bucket of a place, ``place.bucket``; opened once a process."""
    return Bucket(path_bucket)


def side_by_side(work: Callable[[Any], Result], items: list[Any]) -> Iterator[Result]:
    """What requests give, in order, several at a time."""
    if len(items) < 2:
        return map(work, items)
    with ThreadPoolExecutor(min(THREADS, len(items)), "sclip-objects") as pool:
        return iter(list(pool.map(work, items)))


def content_name(data: bytes, started: int) -> str:
    """A name for an object that holds this: the time comes first, so names are in its order.

    Args:
        data: the content.
        started: nanoseconds; the same in each try, so that a lost answer makes no second object.
    """
    return f"{started:016x}-{hashlib.sha256(data).hexdigest()[:16]}"


def _opened(url: str, patience: float) -> Any:
    from obstore.store import from_url

    named = next((name for name in ENDPOINTS if os.environ.get(name)), "")
    endpoint = os.environ.get(named, "")
    ours = named.startswith("AWS_") == url.startswith("s3://")
    if endpoint and ours and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"{named} is no URL: it has to begin with http:// or https://")
    if any(host in endpoint for host in LOOPBACK):
        _exempt(os.environ)
    options: Any = {"timeout": TIMEOUTS[patience], "connect_timeout": "5s"}
    if endpoint.startswith("http://"):
        options["allow_http"] = True
    # The few tries that cost nothing; ``_tried`` makes the others, and knows when to stop.
    retries: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=patience / 2)}
    given: dict[str, Any] = {}
    if url.startswith("s3://"):
        given = _amazon()
    return from_url(url, client_options=options, retry_config=retries, **given)


def _amazon() -> dict[str, Any]:
    """What obstore does not take from the environment by itself: profiles, and their region."""
    named = os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    given: dict[str, Any] = {} if region else {"region": "us-east-1"}
    if named or os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return given
    try:  # profiles, SSO, roles
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return given
    session = boto3.Session()
    if session.region_name:
        given["region"] = session.region_name
    if session.get_credentials() is None:
        return given  # obstore's own: a container's role, web identity
    return {**given, "credential_provider": Boto3CredentialProvider(session)}


def _exempt(environment: MutableMapping[str, str]) -> None:
    """Ask no proxy for a store on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
