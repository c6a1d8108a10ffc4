"""Words that other lists of the store have: a word is encoded once with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.store import places
from sclip_core.store.arrays import ArrayTable, DamagedRow, RowGone
from sclip_core.store.artifact import Artifact, Identity, identity_in
from sclip_core.store.tables import array_table, artifact_of


class KnownWords:
    """The vectors in all text banks that differ from one in nothing but their words."""

    def __init__(self, root: Place, identity: Identity, width: int) -> None:
        """Look at the manifests of the store's text banks, which name their words.

        Args:
            root: the folder of all artifacts.
            identity: of a text bank; it is not looked at itself.
            width: of the vectors, D.
        """
        wanted = _without_words(identity)
        self._tables: list[tuple[frozenset[str], ArrayTable]] = []
        for folder in places.children(root / identity.stage):
            with suppress(OSError, ValueError, UserError):  # of others, or being written
                found = identity_in(folder / "manifest.json")
                words = found.settings.get("words")
                if not isinstance(words, list) or _without_words(found) != wanted:
                    continue
                if folder.name == found.key != identity.key:
                    self._tables.append((frozenset(map(str, words)), _table(root, found, width)))

    def vector(self, word: str) -> NDArray[np.float32] | None:
        """The vector (1, D) of a word; None: no list has it, or none that can be read."""
        for words, table in self._tables:
            if word in words:
                with suppress(DamagedRow, RowGone, UserError):
                    row = table.artifact.rows().get(word)
                    if row is not None:
                        vector: NDArray[np.float32] = table.read(row)
                        return vector
        return None


def _table(root: Place, identity: Identity, width: int) -> ArrayTable:
    artifact: Artifact = artifact_of(root, identity)
    return array_table(artifact, "float32", width, compress=False)


def _without_words(identity: Identity) -> Mapping[str, Any]:
    """What decides the vectors of an identity's words."""
    plain = identity.as_dict()
    return {**plain, "settings": {k: v for k, v in plain["settings"].items() if k != "words"}}
