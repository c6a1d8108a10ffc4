"""What a setting is for: a marker in the annotation of each field of ``Settings``.

Which settings may have several values, which become columns of ``runs``, which stand under
"Masks" in a command's help and when one changes no label: all of it follows from the marker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel


def _never(settings: Any) -> bool:
    return False


@dataclass(frozen=True)
class Role:
    """What reads a setting, whether it is recorded, and whether it may vary in one command."""

    part: Literal["data", "model", "dense", "decision", "masks", "how"]
    """What reads it. ``dense``: only runs with dense labels; ``masks``: only runs with masks;
    ``how``: it says where and how fast, and changes no result."""
    recorded: bool = True
    """Whether it becomes a column of ``runs`` as it is. Some are there under another name or
    resolved; what says where and how fast is not."""
    order: int | None = None
    """Place among the settings that may have several values in one command, of which the first
    varies slowest; None: it has one value."""
    idle: Callable[[Any], bool] = _never
    """Given the settings of a run, whether this one changes no label of it."""
    idle_where: str = ""
    """When that is so, in words that follow "changes no label"."""


DATA = Role("data")
DENSE = Role("dense", idle=lambda run: run.mode == "baseline", idle_where="in mode baseline")
MASKS = Role("masks")
HOW = Role("how", recorded=False)


def plain_types(annotation: Any) -> list[Any]:
    """The plain types in an annotation: ``int`` and None's in ``Annotated[int, Gt(0)] | None``."""
    inner = get_args(annotation)
    return [leaf for part in inner for leaf in plain_types(part)] if inner else [annotation]


def role_of(model: type[BaseModel], name: str) -> Role:
    """The marker of a field.

    Raises:
        LookupError: the field has none.
    """
    for marker in model.model_fields[name].metadata:
        if isinstance(marker, Role):
            return marker
    raise LookupError(f"{model.__name__}.{name} has no Role in its annotation")
