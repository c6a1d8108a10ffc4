"""The settings as parameters: the flow and the command take theirs from one model.

Prefect and cyclopts both read a function's signature, and Prefect its docstring. Both are written
here from the fields of ``Settings``, so that a new setting is at once a flow parameter with its
help, a flag and a key of pipeline.yaml.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter
from pydantic import Field, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sclip_core.config import CHEAP, OF_MASKS, SEVERAL, Settings, UserError, several_values
from sclip_core.config.errors import shown
from sclip_core.config.places import ObjectPath
from sclip_core.config.roles import plain_types

# In a form: what most people fill in.
FIRST = ("dataset", "images", "labels", "classes", "pamr", "pamr_steps", "num_samples", "data_root")
OWN_HELP = {  # of the flow's own parameters
    "config": "A pipeline.yaml whose section sclip holds settings.",
    "preset": "A benchmark, demo, vitl14-336, hybrid, hybrid-8, baseline; or several: a,b.",
    "pamr": "Refine with PAMR, 10 steps unless pamr_steps says otherwise.",
    "part": "Which of the parts of sclip-shard, from 0.",
    "parts": "How many parts the images are divided into.",
    "deployment": "Of sclip-shard, a run of which computes a part.",
}
SEVERAL_HELP = {"pamr_dilations": " sclip run takes several: '8,16;1,2'."}
SWITCHES = {"pamr_steps": "pamr", "slide_crop": "slide"}  # that turn a setting on and off
GRID = Group("Grid, one value or several: 0,5,10", sort_key=0)
Function = TypeVar("Function", bound=Callable[..., Any])


def with_settings(
    annotate: Callable[[str, FieldInfo], Any],
    names: Iterable[str] = Settings.model_fields,
    first: Sequence[str] = (),
) -> Callable[[Function], Function]:
    """Add a keyword parameter, None by default, for every setting.

    Args:
        annotate: gives a parameter's annotation by name and field.
        names: of the settings.
        first: parameters in the order in which they come first; all are then keywords alone.
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
        if first:
            kept = [p.replace(kind=p.KEYWORD_ONLY) for p in kept]
        parameters = sorted(
            [*kept, *added],
            key=lambda p: first.index(p.name) if p.name in first else len(first),
        )
        signature = own.replace(parameters=parameters)
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__annotations__ = {
            **{p.name: p.annotation for p in signature.parameters.values()},
            "return": own.return_annotation,
        }
        return function

    return add


def with_help(function: Function) -> Function:
    """Write what each parameter of the flow is for where Prefect reads it: in the docstring."""
    told = {**OWN_HELP, **{n: _parameter_help(n, f) for n, f in Settings.model_fields.items()}}
    lines = [f"    {name}: {told[name]}" for name in inspect.signature(function).parameters]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines])
    return function


class AsText:
    """Adds text to what a form takes: values with commas between them, as in a command."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The values' own schema, or a string."""
        return {"anyOf": [handler(core), {"type": ["string", "number"]}]}


def prefect_type(name: str, field: FieldInfo) -> Any:
    """The field's own type and bounds, for Prefect's validation; not given: None."""
    own = typing.get_type_hints(Settings, include_extras=True)[name]
    if name not in SEVERAL:
        return (Annotated[own, AsText()] if _is_tuple(field) else own) | None
    # in this order: [8, 16] is one set of dilations, and [[8, 16], [1, 2]] two
    several = own | list[own]  # type: ignore[valid-type]
    if str not in plain_types(own):
        several |= Annotated[str, Field(pattern=r"[,;]")]  # as a command has them: 0,5,10
    return Annotated[several, Field(union_mode="left_to_right")] | None


def in_parameters(line: str) -> str:
    """A message about flags in the words of the flow: ``pamr_steps`` for ``--pamr-steps``."""
    known = {*Settings.model_fields, *OWN_HELP}

    def renamed(flag: re.Match[str]) -> str:
        """The parameter's name, if there is one."""
        name = flag[1].replace("-", "_")
        return name if name in known else flag[0]

    return re.sub(r"--([a-z][a-z0-9-]*[a-z0-9])", renamed, line)


def put_switches(
    switches: Mapping[str, bool | None],
    given: dict[str, Any],
    say: Callable[[str, Any], str],
) -> dict[str, Any]:
    """The given settings with those at 0 that a switch turns off.

    Args:
        switches: by the setting that they turn on and off; None: not given.
        given: settings by name.
        say: words a switch, or a setting, and its value.

    Raises:
        UserError: a switch and its setting contradict each other.
    """
    for setting, switch in switches.items():
        value = given.get(setting)
        values = several_values(setting, value) if value is not None else []
        if switch is not None and any(switch != (one != 0) for one in values):
            name = SWITCHES[setting]
            both = f"{say(name, switch)} and {say(setting, value)}"
            raise UserError(f"{both} conflict: use only one")
        if switch is False:
            given = {**given, setting: 0}
    return given


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
    if not _is_tuple(field) and name not in SEVERAL:
        kind = next(
            (k for k in leaves if k in (int, float, bool, Path) and ObjectPath not in leaves), str
        )
    parameter = Parameter(
        help=_with_default(field, hint),
        negative=None if kind is bool else (),
        group=group or ("Masks" if name in OF_MASKS else "Parameters"),
        converter=partial(_number, several) if kind in (int, float) else None,
    )
    return Annotated[kind | None, parameter]


def _is_tuple(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _with_default(field: FieldInfo, hint: str) -> str:
    """A setting's description, a hint, and the default in brackets."""
    help_text = (field.description or "") + hint
    default = field.default
    if default not in (None, ()) and not isinstance(default, bool):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        help_text += f" [{shown}]"
    return help_text


def _parameter_help(name: str, field: FieldInfo) -> str:
    """The help of a parameter of the flow."""
    example = "8,16;1,2" if name == "pamr_dilations" else "a list, or with commas between them"
    hint = f" Several: {example}." if name in SEVERAL else ""
    return in_parameters(_with_default(field, hint))


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
