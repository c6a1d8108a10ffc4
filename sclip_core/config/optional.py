"""Libraries that only some features need; each belongs to an extra of the package."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sclip_core.config.errors import UserError

PACKAGES = {
    "skimage": "scikit-image",
    "pillow_heif": "pillow-heif",
}  # where the package has another name than its module


def optional(module: str, extra: str, hint: str = "") -> Any:
    """Import a module of a library that may not be installed.

    Args:
        module: its name, such as ``"matplotlib.figure"``.
        extra: the extra of this package that installs the library, such as ``"plot"``.
        hint: appended to the message, such as ``", or run without it: --direct"``.

    Returns:
        The module.

    Raises:
        UserError: the library, or one that it needs, is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = (error.name or module).partition(".")[0]
        name = PACKAGES.get(library, library)
        line = f"{name} is not installed: pip install 'sclip-benchmark[{extra}]'{hint}"
        raise UserError(line) from None


@cache
def heif_opener() -> bool:
    """Let Pillow open HEIC where pillow-heif is installed (the extra ``heic``); whether it is."""
    if find_spec("pillow_heif") is None:
        return False
    import_module("pillow_heif").register_heif_opener()
    return True
