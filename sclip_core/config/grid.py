"""Several values of a setting in one command: which may have them, which runs they make."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from sclip_core.config.errors import UserError
from sclip_core.config.methods import reads_masks, steps_read_masks
from sclip_core.config.protocol import benchmark_protocol, is_benchmark
from sclip_core.config.settings import (
    ROLES,
    Settings,
    chosen_values,
    load_own,
    preset_values,
    read_pipeline,
)
from sclip_core.config.stages import STAGE_SPECS

# Settings of which one command may try several values; the first varies slowest.
_ORDER = {role.order: name for name, role in ROLES.items() if role.order is not None}
SEVERAL = tuple(_ORDER[order] for order in sorted(_ORDER))
MOST_RUNS = 10_000  # of one command
# Those among them that only stages read which are cheap: neither CLIP nor SAM sees an image again.
ENCODED = {n for spec in STAGE_SPECS.values() if spec.cost == "encode" for n in spec.reads}
CHEAP = tuple(name for name in SEVERAL if name not in ENCODED)


def resolve_several(
    config: Path | str | None = None,
    preset: str | None = None,
    note: Callable[[str], None] | None = None,
    **given: Any,
) -> list[Settings]:
    """The settings of several runs: those in ``SEVERAL`` may have more than one value.

    Values that change no label are one run: with the protocol's own value if it is among them, else
    with the first.

    Args:
        config: a pipeline.yaml whose ``sclip:`` section holds defaults; None: no file.
        preset: a name of the preset table or of a benchmark; or of several, "a,b".
        note: is told, in a line, of values that change no label.
        given: settings by name; None means not given. Several values are lists, or text such as
            ``"csa,vanilla"``, ``"5,10,20"`` and, for sets of dilations, ``"8,16;1,2"``.

    Returns:
        One for each combination, in the order given.

    Raises:
        UserError: an unknown name or an impossible value anywhere; too many runs.
    """
    load_own(config, given)
    methods = _methods(config, preset, given)
    after = given.get("after") or _file_values(config).get("after")
    for_method = any(map(reads_masks, methods)) or steps_read_masks(after)
    each = []
    for method in methods:
        of_one = {**given, "method": method}
        chosen, places = chosen_values(config, preset, of_one, for_method)
        each.append(
            (chosen, places, {n: several_values(n, chosen[n]) for n in SEVERAL if n in chosen})
        )
    count = sum(prod(map(len, values.values())) for _, _, values in each)
    if count > MOST_RUNS:
        raise UserError(
            f"{count:,} runs, of all combinations of the values: at most {MOST_RUNS:,} in one "
            "command; take fewer values"
        )
    runs: dict[tuple[Any, ...], Settings] = {}
    notes: dict[str, None] = {}
    for chosen, places, values in each:
        for run in _runs_of(chosen, places, values, notes):
            runs.setdefault(point_of(run), run)
    for line in notes if note else ():
        note(line)  # type: ignore[misc]
    return list(runs.values())


def _methods(config: Path | str | None, preset: str | None, given: dict[str, Any]) -> list[Any]:
    """The methods of a command; None where it names none."""
    value = given.get("method")
    if value is None:
        value = {**_file_values(config), **(preset_values(preset) if preset else {})}.get("method")
    return [None] if value is None else several_values("method", value)


def _file_values(config: Path | str | None) -> dict[str, Any]:
    return read_pipeline(Path(config)) if config else {}


def _runs_of(
    chosen: dict[str, Any],
    places: dict[str, str],
    values: dict[str, list[Any]],
    notes: dict[str, None],
) -> Iterator[Settings]:
    """The runs of one method: all combinations of the values, those that are alike once."""
    combined = (dict(zip(values, point, strict=True)) for point in product(*values.values()))
    checked = [Settings.checked({**chosen, **point}, places) for point in combined]
    found = {name: list(dict.fromkeys(getattr(one, name) for one in checked)) for name in values}
    kept = {
        # by its place: 65 of the table is 65.0 here, and of another key
        name: several[several.index(usual) if usual in several else 0]
        for name, several in found.items()
        if len(several) > 1
        for usual in [usual_value(checked[0], name)]
    }
    for one in checked:
        same = {name: value for name, value in kept.items() if name in unread(one)}
        yield one.model_copy(update=same)
    notes.update(dict.fromkeys(_collapsed(checked, found, kept)))


def point_of(settings: Settings) -> tuple[Any, ...]:
    """The values of ``SEVERAL``: what tells a run from others of the same command."""
    return tuple(getattr(settings, name) for name in SEVERAL)


def unread(settings: Settings) -> frozenset[str]:
    """Those of ``SEVERAL`` whose value changes no label of a run, whatever the images are."""
    return frozenset(name for name in SEVERAL if ROLES[name].idle(settings))


def usual_value(settings: Settings, name: str) -> Any:
    """What a setting is where nobody chooses: by the benchmark's protocol, or by default."""
    known = is_benchmark(settings.dataset)
    own = benchmark_protocol(settings.dataset, settings.method) if known else {}
    return own.get(name, Settings.model_fields[name].default)


def several_values(name: str, value: Any) -> list[Any]:
    """One value, or several as a list or as text with commas between them.

    Args:
        name: of the setting.
        value: as given; not checked. Of ``pamr_dilations`` one value is a set of them, and several
            have semicolons between them: ``"8,16;1,2"`` or ``[[8, 16], [1, 2]]``.
    """
    if name == "pamr_dilations":
        return _sets(value)
    if name == "parameters":
        return value if isinstance(value, list) else [value]
    if isinstance(value, list | tuple) and value:
        return [one for part in value for one in several_values(name, part)]
    parts = _split(value, ",")
    if name in ("pamr_steps", "logit_scale", "prob_thd", "area_thd"):
        return [_number(part) for part in parts]
    return parts


def value_text(value: Any) -> str:
    """A value of one of ``SEVERAL`` as a flag takes it: ``8,16``, ``40``, ``csa``."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _sets(value: Any) -> list[Any]:
    """Sets of dilations; ``[8, 16]`` and ``["8", "16"]`` are one."""
    if isinstance(value, list | tuple) and any(map(_is_set, value)):
        return [one for part in value for one in _sets(part)]
    return _split(value, ";")


def _is_set(part: Any) -> bool:
    return isinstance(part, list | tuple) or (isinstance(part, str) and bool(set(part) & set(",;")))


def _split(value: Any, by: str) -> list[Any]:
    """The parts of a text, without empty ones; anything else is one."""
    parts = [part.strip() for part in value.split(by)] if isinstance(value, str) else [value]
    return [part for part in parts if part != ""] or [value]


def _number(part: Any) -> Any:
    """A number typed as one: an error then says 5, not '5'."""
    if not isinstance(part, str):
        return part
    if re.fullmatch(r"-?[0-9]+", part):
        return int(part)
    try:
        return float(part)
    except ValueError:
        return part


def _collapsed(
    checked: Sequence[Settings], found: dict[str, list[Any]], kept: dict[str, Any]
) -> Iterator[str]:
    """A line for each setting whose values are one point for some runs.

    That a mode does not read a setting is only said where none of the modes does.
    """
    for name, value in kept.items():
        same = [name in unread(one) for one in checked]
        by_value = name in ("pamr_dilations", "logit_scale")
        if not (all(same) or (any(same) and by_value)):
            continue
        *others, last = map(value_text, found[name])
        listed = f"{'; '.join(others) if 'dilations' in name else ', '.join(others)} and {last}"
        there = "" if all(same) else " there"
        run = f", run with {value_text(value)}" if by_value else ""
        where = ROLES[name].idle_where
        yield f"{name} changes no label {where}: {listed} are one point{there}{run}"
