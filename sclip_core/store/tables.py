"""An artifact and its tables, wherever it lies: in a folder or in object storage."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sclip_core.config.places import ObjectPath, Place
from sclip_core.store.arrays import ArrayTable
from sclip_core.store.artifact import Artifact, Identity
from sclip_core.store.objects.artifact import ObjectArtifact
from sclip_core.store.objects.tables import ObjectArrays, ObjectParts, ObjectRecords
from sclip_core.store.parts import PartTable
from sclip_core.store.records import RecordTable


def artifact_of(root: Place, identity: Identity) -> Artifact:
    """The artifact of an identity, below a folder or a place of all artifacts."""
    if isinstance(root, ObjectPath):
        return ObjectArtifact(root, identity)
    return Artifact(root, identity)


def array_table(artifact: Artifact, dtype: str, width: int | None, compress: bool) -> ArrayTable:
    """The table of arrays of an artifact, wherever it lies; arguments as of ``ArrayTable``."""
    kind = ObjectArrays if artifact.in_objects else ArrayTable
    return kind(artifact, dtype, width, compress)


def part_table(artifact: Artifact, columns: Sequence[str]) -> PartTable:
    """The table of integers of an artifact, wherever it lies; arguments as of ``PartTable``."""
    return (ObjectParts if artifact.in_objects else PartTable)(artifact, columns)


def record_table(artifact: Artifact, schema: pa.Schema, id_column: str) -> RecordTable:
    """The table of records of an artifact, wherever it lies; arguments as of ``RecordTable``."""
    return (ObjectRecords if artifact.in_objects else RecordTable)(artifact, schema, id_column)
