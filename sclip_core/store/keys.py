"""Keys of artifacts: a hash of what decides the result, never of paths, devices or batch sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY_LENGTH = 16  # hex digits; short enough for a readable path


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
