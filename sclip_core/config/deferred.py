"""Libraries that take long to import, imported when a name of theirs is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _Deferred:
    """Stands for a module; reads and sets the module's own names."""

    def __init__(self, module: str) -> None:
        object.__setattr__(self, "_module", module)

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(import_module(self._module), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(import_module(self._module), name)

    def __repr__(self) -> str:
        return f"<module '{self._module}', imported when it is used>"


def deferred(module: str) -> Any:
    """A module that is imported when one of its names is first read.

    For what one branch of a module uses. Checkers see no types through it, so it is for libraries
    that have none.
    """
    return _Deferred(module)
