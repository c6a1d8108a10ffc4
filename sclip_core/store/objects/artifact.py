"""An artifact in object storage: a manifest, and batches of rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from sclip_core.config.places import ObjectPath
from sclip_core.store import places
from sclip_core.store.artifact import Artifact, Identity, is_intact, manifest_text, of_others
from sclip_core.store.objects.ledger import FRESH, LiveRows, ObjectLedger, ledger_of


class ObjectArtifact(Artifact):
    """The objects of one stage's rows for one set of settings."""

    in_objects: ClassVar[bool] = True
    path: ObjectPath  # type: ignore[assignment]  # used by what takes a place of either kind
    ledger: ObjectLedger  # type: ignore[assignment]  # as above

    def __init__(self, root: ObjectPath, identity: Identity) -> None:
        """Name the artifact, without reading or writing anything."""
        self.identity = identity
        self.path = root / identity.stage / identity.key
        self.ledger = ledger_of(self.path)
        self._matches = False  # found so already; asking again takes long, and manifests stay
        self._asked = -FRESH  # when there was none, or a damaged one

    def create(self, provenance: Mapping[str, Any]) -> bool:
        """Write the manifest, or check the one that is there; see ``Artifact``."""
        if self._matches:
            return False
        manifest = self.path / "manifest.json"
        content = {"key": self.identity.key, **self.identity.as_dict(), "provenance": provenance}
        data = manifest_text(content).encode()
        there = self._manifest()
        if there is None and not places.write_new(manifest, data):
            there = self._manifest()  # another process wrote one at this moment, on another device
        damaged = there is not None and not is_intact(there)
        if damaged:
            places.write(manifest, data)
        self._compare(there if there and not damaged else data)
        return damaged

    def make_durable(self) -> None:
        """Nothing: a put that was answered is durable."""

    def check(self) -> None:
        """Compare an undamaged manifest with the identity; see ``Artifact``."""
        if self._matches or time.monotonic() - self._asked < FRESH:
            return
        found = self._manifest()
        self._asked = time.monotonic()
        if found is not None and is_intact(found):
            self._compare(found)

    def _manifest(self) -> bytes | None:
        """The manifest that is there; None: there is none."""
        try:
            return places.read(self.path / "manifest.json")
        except FileNotFoundError:
            return None

    def _compare(self, manifest: bytes) -> None:
        """See that an undamaged manifest is of this identity.

        Raises:
            UserError: it is of another one.
        """
        found, wanted = json.loads(manifest), self.identity.as_dict()
        different = [name for name in wanted if found.get(name) != wanted[name]]
        if different:
            raise of_others(self.path / "manifest.json", different)
        self._matches = True

    def refresh(self) -> None:
        """See what others have written, before rows are read."""
        self.ledger.refresh()

    def rows(self) -> LiveRows:
        """The stored rows by id; see ``Artifact``."""
        self.check()
        return self.ledger.rows()
