"""An artifact: a folder ``<root>/<stage>/<key>/`` with a manifest, a ledger and data.

Settings decide the folder and images decide the rows, so an artifact is a table that grows.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.store import places
from sclip_core.store.file_states import TICK, State
from sclip_core.store.files import fsync, make_folder, write_whole, written_to
from sclip_core.store.keys import artifact_key
from sclip_core.store.ledger import Ledger, Row
from sclip_core.store.ledger_rows import missing


@dataclass(frozen=True)
class Identity:
    """What an artifact holds; the hash of this is its key."""

    stage: str
    version: int  # raised by hand when the stage computes something else
    settings: Mapping[str, Any]  # those that the stage reads
    upstream: Mapping[str, str]  # keys of the artifacts that it reads, by stage
    weights_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The identity as plain JSON values, as it is hashed and written to the manifest."""
        identity = {
            "stage": self.stage,
            "version": self.version,
            "settings": dict(self.settings),
            "upstream": dict(self.upstream),
            "weights_sha256": self.weights_sha256,
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    @cached_property
    def key(self) -> str:
        """The key of the artifact: 16 hex digits."""
        return artifact_key(self.as_dict())


OF_A_MANIFEST = {"key", *Identity.__dataclass_fields__, "provenance"}


class Artifact:
    """The folder of one stage's rows for one set of settings: manifest, ledger and data."""

    in_objects: ClassVar[bool] = False
    """Whether it lies in object storage."""

    def __init__(self, root: Path, identity: Identity) -> None:
        """Name the artifact, without reading or writing anything."""
        self.identity = identity
        self.path = root / identity.stage / identity.key
        self.ledger = Ledger.at(self.path / "ledger.jsonl")
        self._checked: State | None = None  # of the manifest, when it was right

    @classmethod
    def at(cls, folder: Path) -> Artifact:
        """The artifact in a folder; without a readable manifest its identity is empty."""
        identity = Identity(folder.parent.name, 0, {}, {})
        with suppress(OSError, ValueError):
            identity = identity_in(folder / "manifest.json")
        artifact = cls(folder.parents[1], identity)
        artifact.path, artifact.ledger = folder, Ledger.at(folder / "ledger.jsonl")
        return artifact

    def create(self, provenance: Mapping[str, Any]) -> bool:
        """Make the folder and its manifest, or check the existing one.

        A manifest that is missing or damaged is written again: the folder's name is the hash of the
        identity, so it proves what the folder holds.

        Args:
            provenance: versions, commit, device; recorded, not compared.

        Returns:
            Whether a damaged manifest was written again.

        Raises:
            UserError: the folder's manifest does not match its name, or cannot be written.
        """
        manifest = self.path / "manifest.json"
        with written_to(self.path):
            make_folder(self.path)
        there = manifest.exists()
        if there and not self._is_damaged(manifest):
            self.check()
            return False
        content = {"key": self.identity.key, **self.identity.as_dict(), "provenance": provenance}
        text = manifest_text(content)
        write_whole(manifest, lambda path: path.write_text(text, "utf-8"))
        self.check()
        return there

    def make_durable(self) -> None:
        """Flush the names of the folder and its parents to the disk, whoever made them."""
        with written_to(self.path):
            for folder in (self.path, self.path.parent, self.path.parents[1]):
                fsync(folder)

    def _is_damaged(self, manifest: Path) -> bool:
        """Whether a manifest is damaged."""
        try:
            return not is_intact(manifest.read_bytes())
        except OSError:
            return False  # the next read reports the error

    def check(self) -> None:
        """Compare an undamaged manifest with the identity.

        Raises:
            UserError: they differ, so nothing may be added to the folder.
        """
        manifest = self.path / "manifest.json"
        try:
            state = State.of(manifest.stat())
        except OSError:
            return
        if state == self._checked or self._is_damaged(manifest):
            return
        try:
            found = json.loads(manifest.read_text("utf-8"))
            wanted = self.identity.as_dict()
            different = [name for name in wanted if found.get(name) != wanted[name]]
        except (OSError, ValueError, AttributeError):
            different = ["the file, which is not readable,"]
        if different:
            raise of_others(manifest, different)
        # A change within a tick of the kernel's clock would not show.
        if time.time_ns() - max(state.mtime, state.ctime) > TICK:
            self._checked = state

    def refresh(self) -> None:
        """See what others have written, before rows are read; a ledger on disk shows it at once."""

    def rows(self) -> Mapping[str, Row]:
        """The stored rows by id.

        Raises:
            UserError: the manifest does not match.
        """
        self.check()
        return self.ledger.rows()

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The ids that have no row, in order."""
        return missing(self.rows(), ids)


def of_others(manifest: Place, different: Iterable[str]) -> UserError:
    """The error for a manifest of other settings than the name of its folder says."""
    return UserError(
        f"{manifest} does not match the name of its folder ({', '.join(different)} "
        "differ): it was edited or copied; move the folder away and run again"
    )


def identity_in(manifest: Place) -> Identity:
    """The identity in a manifest.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no identity.
    """
    try:
        found = json.loads(places.read(manifest))
        if not isinstance(found, dict) or not Identity.__dataclass_fields__.keys() <= found.keys():
            raise ValueError("not a manifest")
        identity = Identity(**{name: found[name] for name in Identity.__dataclass_fields__})
        named = isinstance(identity.stage, str) and isinstance(identity.version, int)
        mapped = isinstance(identity.settings, dict) and isinstance(identity.upstream, dict)
        if not (named and mapped and identity.key):
            raise ValueError("values of wrong types")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return identity


def manifest_text(content: Mapping[str, Any]) -> str:
    """A manifest as it is written: the content, then its checksum."""
    plain = json.loads(json.dumps(content, default=str))
    return json.dumps({**plain, "check": _checksum(plain)}, indent=2) + "\n"


def is_intact(manifest: bytes) -> bool:
    """Whether bytes are an undamaged manifest; one of version 0.1.0 has no checksum."""
    try:
        content = json.loads(manifest)
        if not isinstance(content, dict):
            return False
        checked = content.pop("check", None) is not None
        if not checked and content.keys() != OF_A_MANIFEST:
            return False
        text = manifest_text(content) if checked else json.dumps(content, indent=2) + "\n"
    except (ValueError, RecursionError):
        return False
    return text.encode() == manifest


def _checksum(content: Mapping[str, Any]) -> int:
    """CRC-32 of the content as canonical JSON."""
    return zlib.crc32(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
