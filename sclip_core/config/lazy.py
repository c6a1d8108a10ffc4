"""Names of a package that are imported on first use, so that a command loads what it uses alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names come from modules below it.

    The package imports the same names under ``TYPE_CHECKING``, for checkers and editors. None of
    them may be that of a module below the package, which its own import would put in its place.

    Args:
        package: its ``__name__``.
        names: the module of each name.
    """

    def found(name: str) -> Any:
        """Import a name, and keep it in the package."""
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(names[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return found


def by_module(package: str, modules: Mapping[str, str]) -> dict[str, str]:
    """The module of each name, of the names of each module with spaces between them."""
    return {
        name: f"{package}.{module}" for module, names in modules.items() for name in names.split()
    }
