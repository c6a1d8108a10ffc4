"""An artifact to write to, and rows to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.artifact import Artifact, Identity


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Empty, with its manifest."""
    return make_artifact(tmp_path)


def make_artifact(root: Path) -> Artifact:
    """The artifact of some settings; the same below the same root."""
    identity = Identity("refine", 1, {"pamr_steps": 0}, {"text_bank": "0123"})
    made = Artifact(root, identity)
    made.create({})
    return made


def random_rows(dtype: str, width: int | None, lengths: list[int], seed: int = 0) -> list[NewRow]:
    """Rows called ``seed-0``, ``seed-1``, ... of those lengths."""
    random = np.random.default_rng(seed)
    tail = () if width is None else (width,)
    rows = []
    for number, length in enumerate(lengths):
        values = (random.random((length, *tail)) * 250).astype(dtype)
        rows.append(NewRow(f"{seed}-{number}", values, {"size": [length, 1]}))
    return rows


def assert_stored(table: ArrayTable, rows: list[NewRow]) -> None:
    """Every row can be read, and is what was written."""
    stored = table.artifact.ledger.rows()
    for row in rows:
        found = stored[row.id]
        assert found.meta == row.meta
        np.testing.assert_array_equal(table.read(found), row.values)
