"""One artifact: a folder ``<root>/<stage>/<key>/`` with a manifest, a ledger and data.

Settings decide the folder, images decide the rows: it is a table that grows.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sclip_core.config import UserError
from sclip_core.store.files import fsync, make_folder, write_whole, written_to
from sclip_core.store.keys import artifact_key
from sclip_core.store.ledger import Ledger, Row


@dataclass(frozen=True)
class Identity:
    """What an artifact holds, in plain words; its hash is the key."""

    stage: str
    version: int  # bumped by hand when the stage computes something else
    settings: Mapping[str, Any]  # those that the stage reads
    upstream: Mapping[str, str]  # keys of the artifacts that it reads, by stage
    weights_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As written to the manifest and hashed."""
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
        """16 hex digits."""
        return artifact_key(self.as_dict())


OF_A_MANIFEST = {"key", *Identity.__dataclass_fields__, "provenance"}


class Artifact:
    """A folder of the store."""

    def __init__(self, root: Path, identity: Identity) -> None:
        """Name the artifact; nothing is read or written yet."""
        self.identity = identity
        self.path = root / identity.stage / identity.key
        self.ledger = Ledger(self.path / "ledger.jsonl")

    @classmethod
    def at(cls, folder: Path) -> Artifact:
        """The artifact in a folder, whatever it is; what its manifest does not say is empty."""
        identity = Identity(folder.parent.name, 0, {}, {})
        with suppress(OSError, ValueError):
            identity = identity_in(folder / "manifest.json")
        artifact = cls(folder.parents[1], identity)
        artifact.path, artifact.ledger = folder, Ledger(folder / "ledger.jsonl")
        return artifact

    def create(self, provenance: Mapping[str, Any]) -> bool:
        """Make the folder and its manifest, or check the one that is there.

        A manifest that is missing or damaged is written again: the folder's name, which is the hash
        of the settings, says as much.

        Args:
            provenance: versions, commit, device; recorded, not compared.

        Returns:
            Whether a damaged manifest was written again.

        Raises:
            UserError: the folder holds other settings than its key says, or cannot be written.
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
        """Ask the disk to keep the names of the folder, whoever has made it."""
        with written_to(self.path):
            for folder in (self.path, self.path.parent, self.path.parents[1]):
                fsync(folder)

    def _is_damaged(self, manifest: Path) -> bool:
        """Whether a manifest is not what was written; of one without a checksum, if it is JSON."""
        try:
            return not is_intact(manifest.read_bytes())
        except OSError:
            return False  # reading it again says what is wrong

    def check(self) -> None:
        """Compare the manifest, where there is one that is whole, with what is wanted.

        Raises:
            UserError: it holds something else: nothing may be added to it.
        """
        manifest = self.path / "manifest.json"
        if not manifest.exists() or self._is_damaged(manifest):
            return
        try:
            found = json.loads(manifest.read_text("utf-8"))
            wanted = self.identity.as_dict()
            different = [name for name in wanted if found.get(name) != wanted[name]]
        except (OSError, ValueError, AttributeError):
            different = ["the file, which is not readable,"]
        if different:
            raise UserError(
                f"{manifest} does not say what its folder's name says ({', '.join(different)} "
                "differ): it was edited or copied; move the folder away and run again"
            )

    def rows(self) -> dict[str, Row]:
        """The rows that are there, by id."""
        self.check()
        return self.ledger.rows()

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of the ids that are not there, in order."""
        rows = self.rows()
        return [row_id for row_id in ids if row_id not in rows]


def identity_in(manifest: Path) -> Identity:
    """What a manifest says that its folder holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it says nothing of that kind.
    """
    try:
        found = json.loads(manifest.read_bytes())
        if not isinstance(found, dict) or not Identity.__dataclass_fields__.keys() <= found.keys():
            raise ValueError("no manifest")
        identity = Identity(**{name: found[name] for name in Identity.__dataclass_fields__})
        named = isinstance(identity.stage, str) and isinstance(identity.version, int)
        mapped = isinstance(identity.settings, dict) and isinstance(identity.upstream, dict)
        if not (named and mapped and identity.key):
            raise ValueError("values of other kinds")
    except RecursionError:
        raise ValueError("nested too deep") from None
    return identity


def manifest_text(content: Mapping[str, Any]) -> str:
    """A manifest as it is written: the content, and a checksum of it as the last key."""
    plain = json.loads(json.dumps(content, default=str))
    return json.dumps({**plain, "check": _checksum(plain)}, indent=2) + "\n"


def is_intact(manifest: bytes) -> bool:
    """Whether the bytes are those of a manifest that was written; version 0.1.0 had no checksum."""
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
    """CRC-32 of the canonical JSON."""
    return zlib.crc32(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
