"""Keys of artifacts: a hash of what decides the result, never of paths, devices or batch sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

KEY_LENGTH = 16  # hex digits; short enough for a readable path
AT_ONCE = 4096  # items of a list that are encoded together


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal content: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artifact_key(identity: Mapping[str, Any]) -> str:
    """The key of an artifact.

    Args:
        identity: stage, version, settings, weights and upstream keys; plain JSON values.

    Returns:
        The first 16 hex digits of its sha256.
    """
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:KEY_LENGTH]


def artifact_key_of_many(identity: Mapping[str, Any], name: str, items: Iterable[Any]) -> str:
    """``artifact_key`` of an identity with a long list in it, which is never held as a whole.

    Args:
        identity: the rest of it.
        name: of the list, which no other name in it contains.
        items: of the list; plain JSON values.

    >>> artifact_key_of_many({"z": 1}, "a", "bc") == artifact_key({"z": 1, "a": ["b", "c"]})
    True
    """
    before, after = canonical_json({**identity, name: []}).split(f'"{name}":[]')
    digest = hashlib.sha256(f'{before}"{name}":['.encode())
    rest = iter(items)
    first = True
    while some := list(islice(rest, AT_ONCE)):
        digest.update(f"{'' if first else ','}{canonical_json(some)[1:-1]}".encode())
        first = False
    digest.update(f"]{after}".encode())
    return digest.hexdigest()[:KEY_LENGTH]
