"""Places in object storage, by name: ``s3://bucket/prefix`` beside a folder's ``Path``."""

from __future__ import annotations

import hashlib
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sclip_core.config.errors import UserError
from sclip_core.config.paths import URL

SCHEMES = ("s3", "gs", "az")
SPELLINGS = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "azure": "az"}
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")  # what all three clouds take, and a bit


class ObjectPath:
    """The name of an object or of what begins with a prefix, used as a ``Path`` is.

    It names and never reads: ``sclip_core.store.places`` reads and writes.

    Attributes:
        bucket: scheme and bucket, ``s3://bucket``; of ``az`` the container.
        key: the rest, without a slash at either end.
    """

    __slots__ = ("bucket", "key")

    def __init__(self, url: str) -> None:
        """Read a URL.

        Raises:
            ValueError: it is none, of another scheme, or names no bucket.
            UserError: it may hold credentials.
        """
        found = URL.match(url)
        scheme = found[1].lower() if found else ""
        scheme = SPELLINGS.get(scheme, scheme)
        if not found or scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"is a URL of a kind that is not supported: pass a folder, or {known}")
        bucket, _, key = url[found.end() :].partition("/")
        parts = [part for part in key.split("/") if part]
        if "@" in bucket:  # s3://key:secret@bucket, of which nothing may be repeated
            raise UserError(
                f"{scheme}://...@{bucket.rpartition('@')[2]} has something before an @: "
                "credentials are taken from the environment, never from a URL; leave them out"
            )
        if not BUCKET.fullmatch(bucket):
            raise ValueError(f"names no bucket: expected {scheme}://BUCKET/PREFIX")
        if {".", ".."} & set(parts) or not key.isprintable() or {"?", "#"} & set(key):
            raise ValueError("has '.', '..', '?', '#' or what cannot be printed in its prefix")
        self.bucket, self.key = f"{scheme}://{bucket}", "/".join(parts)

    @classmethod
    def _of(cls, bucket: str, key: str) -> ObjectPath:
        made = object.__new__(cls)
        made.bucket, made.key = bucket, key
        return made

    def __truediv__(self, name: str | os.PathLike[str]) -> ObjectPath:
        """What is below this place."""
        parts = [part for part in os.fspath(name).split("/") if part]
        return ObjectPath._of(self.bucket, "/".join([*filter(None, [self.key]), *parts]))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        """The last suffix of the name, with its dot."""
        stem, dot, ending = self.name.rpartition(".")
        return f".{ending}" if dot and stem else ""

    @property
    def parent(self) -> ObjectPath:
        """The place that this one is in; of a bucket, the bucket."""
        return ObjectPath._of(self.bucket, self.key.rpartition("/")[0])

    @property
    def parents(self) -> tuple[ObjectPath, ...]:
        """The places that this one is in, the nearest first."""
        found, place = [], self
        while place.key:
            place = place.parent
            found.append(place)
        return tuple(found)

    def with_name(self, name: str) -> ObjectPath:
        """Another object beside this one."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> ObjectPath:
        """The same with another last suffix."""
        return self.with_name(f"{self.stem}{suffix}")

    def relative_to(self, other: ObjectPath) -> str:
        """The part of the key below another place.

        Raises:
            ValueError: it is not below it.
        """
        prefix = f"{other.key}/" if other.key else ""
        if self.bucket != other.bucket or not self.key.startswith(prefix):
            raise ValueError(f"{self} is not below {other}")
        return self.key[len(prefix) :]

    def match(self, pattern: str) -> bool:
        """Whether the name matches a pattern such as ``*.parquet``."""
        return fnmatchcase(self.name, pattern)

    def absolute(self) -> ObjectPath:
        """The place itself: a URL depends on no folder."""
        return self

    def __str__(self) -> str:
        """The URL."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __repr__(self) -> str:
        """As Python would write it."""
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Whether both name the same place."""
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __lt__(self, other: ObjectPath) -> bool:
        """In the order of their names."""
        return str(self) < str(other)

    def __hash__(self) -> int:
        """By the URL."""
        return hash((self.bucket, self.key))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An instance, or the text of a URL; written as text."""
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_plain_validator_function(cls),
            python_schema=core_schema.is_instance_schema(cls),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Text."""
        return {"type": "string", "format": "uri"}


Place: TypeAlias = Path | ObjectPath


def place_of(given: str | os.PathLike[str] | ObjectPath) -> Place:
    """A folder or, of a URL, a place in object storage; ``~`` is the user's home.

    Args:
        given: what a user gave. ``Path("s3://bucket")``, which has lost a slash, is a URL too.

    Raises:
        ValueError: a URL that cannot be used.
    """
    if isinstance(given, ObjectPath):
        return given
    text = os.fspath(given)
    if URL.match(text):
        return ObjectPath(text)
    return Path(os.path.expanduser(text))


def listed_place(text: str) -> Place:
    """The place that a text names, of a path or of an ``ObjectPath`` that was listed.

    Objects that others have put may have names that a user cannot give.
    """
    if text[2:5] != "://":  # a path has no two slashes
        return Path(text)
    bucket, _, key = text[5:].partition("/")
    return ObjectPath._of(f"{text[:5]}{bucket}", key)


def _taken(value: Any) -> Any:
    """For pydantic: what is a place; anything else as it is."""
    if not isinstance(value, str | os.PathLike | ObjectPath):
        return value
    return place_of(value)


def local_folder(root: Place) -> Path:
    """The folder for what belongs to this machine: digests, drawn label maps, a server's files.

    Args:
        root: of all artifacts. A folder has it in itself; a place in object storage in the
            user's cache, ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if not isinstance(root, ObjectPath):
        return root
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", str(root))[:60]
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return Path(cache) / "sclip" / f"{readable}-{digest}"


AnyPlace = Annotated[Path | ObjectPath, BeforeValidator(_taken)]
