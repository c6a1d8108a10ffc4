"""Label maps that a run left in the store, found by what its row in ``runs`` says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.artifact import Artifact, identity_in


class LabelMaps:
    """The label maps of a run, by the digest of the image."""

    def __init__(self, root: Path, run: Mapping[str, Any]) -> None:
        """Open the artifact.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.

        Raises:
            UserError: it is not there any more, or cannot be read.
        """
        stage = "refine" if run["mode"] == "dense" else "hybrid"
        folder = root / stage / str(run.get(f"key_{stage}"))
        manifest = folder / "manifest.json"
        try:
            identity = identity_in(manifest)
            found = json.loads(manifest.read_bytes()).get("provenance")
            if (identity.stage, identity.key) != (stage, folder.name):
                raise ValueError("of another folder")
        except (OSError, ValueError):
            raise UserError(
                f"the label maps of {run['run_id']} are not in {folder} any more: run it again"
            ) from None
        self._provenance: dict[str, Any] = found if isinstance(found, dict) else {}
        artifact = Artifact(root, identity)
        self._rows = artifact.rows()
        table = ArrayTable.of_unknown_layout(artifact)
        self._table = table or ArrayTable(artifact, "uint8", None, compress=True)
        self._has_gaps = identity.settings.get("uncovered") == "unlabelled"

    @property
    def provenance(self) -> dict[str, Any]:
        """What they were made with: versions, ``git_commit``, ``device``."""
        return self._provenance

    def __contains__(self, digest: str) -> bool:
        """Whether there is a label map of an image."""
        return digest in self._rows

    def read(self, digest: str) -> NDArray[np.int32]:
        """The classes (H, W) of an image; -1 where a pixel has none.

        Raises:
            DamagedRow: its bytes are not those that were written.
        """
        row = self._rows[digest]
        values = self._table.read_map(row)
        labels = values.astype(np.int32)
        if self._has_gaps:
            labels[labels == np.iinfo(values.dtype).max] = -1
        return labels
