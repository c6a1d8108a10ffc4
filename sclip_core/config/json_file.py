"""JSON files of users: a network's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sclip_core.config.errors import UserError


def read_json(path: Path, what: str = "") -> Any:
    """What is in a JSON file.

    Args:
        path: of the file.
        what: it is, for the error: ``"model config "``.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{what}{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what}{path} is not valid JSON: {error}") from None


def read_arguments(path: Path, key: str) -> dict[str, Any]:
    """The arguments of a network's class, in a JSON file under the name of the class.

    Args:
        path: of the file.
        key: the class with its module, ``timm.models.vision_transformer.VisionTransformer``.

    Raises:
        UserError: the file cannot be read, is not JSON, or lacks the key.
    """
    content = read_json(path)
    arguments = content.get(key) if isinstance(content, dict) else None
    if not isinstance(arguments, dict):
        raise UserError(f"{path} lacks the section '{key}' with the arguments of a network")
    return arguments
