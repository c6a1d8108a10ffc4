"""The settings as parameters: the flow and the command take theirs from one model.

Prefect and cyclopts both read a function's signature. It is written here from the fields of
``Settings``, so that a new setting is at once a flow parameter, a flag and a key of pipeline.yaml.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter
from pydantic import Field
from pydantic.fields import FieldInfo

from sclip_core.config import CHEAP, OF_MASKS, SEVERAL, Settings
from sclip_core.config.errors import shown
from sclip_core.config.places import ObjectPath
from sclip_core.config.roles import plain_types

SEVERAL_HELP = {"pamr_dilations": " sclip run takes several: '8,16;1,2'."}
GRID = Group("Grid, one value or several: 0,5,10", sort_key=0)
Function = TypeVar("Function", bound=Callable[..., Any])


def with_settings(
    annotate: Callable[[str, FieldInfo], Any], names: Iterable[str] = Settings.model_fields
) -> Callable[[Function], Function]:
    """Add a keyword parameter, None by default, for every setting.

    Args:
        annotate: gives a parameter's annotation by name and field.
        names: of the settings.
    """
    fields = {name: Settings.model_fields[name] for name in names}

    def add(function: Function) -> Function:
        """Put the settings where ``**given`` stands in the signature."""
        own = inspect.signature(function, eval_str=True)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotate(name, field)
            )
            for name, field in fields.items()
        ]
        signature = own.replace(parameters=[*kept, *added])
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__annotations__ = {
            **{p.name: p.annotation for p in signature.parameters.values()},
            "return": own.return_annotation,
        }
        return function

    return add


def prefect_type(name: str, field: FieldInfo) -> Any:
    """The field's own type and bounds, for Prefect's validation; not given: None."""
    own = typing.get_type_hints(Settings, include_extras=True)[name]
    if name not in SEVERAL:
        return own | None
    # in this order: [8, 16] is one set of dilations, and [[8, 16], [1, 2]] two
    several = own | list[own]  # type: ignore[valid-type]
    return Annotated[several, Field(union_mode="left_to_right")] | None


def flag(name: str, field: FieldInfo) -> Any:
    """A flag of the command line; values are checked by ``Settings``, with its own words."""
    hint = SEVERAL_HELP.get(name, " sclip run takes several.") if name in SEVERAL else ""
    return _flag(name, field, SEVERAL, hint)


def sweep_flag(name: str, field: FieldInfo) -> Any:
    """A flag of a sweep: several values are for those settings alone that encode no image anew."""
    if name not in CHEAP:
        return _flag(name, field, CHEAP, "")
    return _flag(name, field, CHEAP, " Sets: '8,16;1,2'." if "dilations" in name else "", GRID)


def _flag(
    name: str, field: FieldInfo, several: Sequence[str], hint: str, group: Group | None = None
) -> Any:
    if name == "plugins":
        names = ("--plugin", "--plugins")
        return Annotated[
            list[str] | None,
            Parameter(name=names, help=field.description, group="Parameters", negative=()),
        ]
    kind: Any = str  # lists too: 8,16
    leaves = plain_types(field.annotation)
    if typing.get_origin(field.annotation) is not tuple and name not in SEVERAL:
        kind = next(
            (k for k in leaves if k in (int, float, bool, Path) and ObjectPath not in leaves), str
        )
    help_text = (field.description or "") + hint
    default = field.default
    if default not in (None, ()) and not isinstance(default, bool):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        help_text += f" [{shown}]"
    parameter = Parameter(
        help=help_text,
        negative=None if kind is bool else (),
        group=group or ("Masks" if name in OF_MASKS else "Parameters"),
        converter=partial(_number, several) if kind in (int, float) else None,
    )
    return Annotated[kind | None, parameter]


def _number(several: Sequence[str], kind: Any, tokens: Any) -> int | float:
    """One number, as typed: cyclopts would take 2.7 for 3."""
    typed: str = tokens[0].value
    kinds = [leaf for leaf in plain_types(kind) if leaf in (int, float)]
    if "," in typed:
        found = f"expected one value, found {shown(typed)}"
        raise ValueError(f"{found}: several are for {', '.join(several)}.")
    if int in kinds:
        if not re.fullmatch(r"[+-]?[0-9]+", typed):
            raise ValueError(f"expected a whole number, found {shown(typed)}.")
        return int(typed)
    try:
        return float(typed)
    except ValueError:
        raise ValueError(f"expected a number, found {shown(typed)}.") from None
