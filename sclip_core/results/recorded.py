"""The row of a run: its settings as columns, each of the type that it has in every run."""

from __future__ import annotations

from typing import Any, get_origin

import pyarrow as pa

from sclip_core.config import ROLES, Settings
from sclip_core.config.masks import MaskSettings
from sclip_core.config.roles import plain_types

NOT_RECORDED = {name for name, role in ROLES.items() if not role.recorded}
# All other settings that may be left open: text.
ARROW = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
}
# Of settings that few runs change: what is recorded as no value, as runs of older versions have it.
USUAL = {
    "parameters": "",
    "refiner": "pamr",
    "after": [],
    "window_multiple": 0,
    "image_multiple": 0,
    "label_values": [],
    "missing_labels": "refuse",
    "tile": False,
    "exif": "apply",
    "pixel_range": [],
}
# Settings that a run without dense labels does not read.
OF_DENSE = [n for n, role in ROLES.items() if role.part == "dense" and role.recorded]


def typed(table: pa.Table) -> pa.Table:
    """Every run's file has the same types: what is not set has the one that it would have."""
    fields = [
        field.with_type(_unset(field.name)) if pa.types.is_null(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _unset(name: str) -> pa.DataType:
    """The type of a setting's column that has no value."""
    field = Settings.model_fields.get(name)
    listed = field is not None and get_origin(field.annotation) is tuple  # kept as text
    kinds = plain_types(field.annotation) if field and not listed else []
    return next((ARROW[kind] for kind in kinds if kind in ARROW), pa.string())


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings that become columns; paths and lists as text, those that nobody reads unset."""
    plain = settings.model_dump(mode="json", exclude=NOT_RECORDED)
    plain.update({name: None for name, usual in USUAL.items() if plain[name] == usual})
    masks = "proposals" in settings.stages
    read = {"proposals", *settings.relevant()} if masks else set()
    if settings.mode == "baseline":
        plain.update(dict.fromkeys(OF_DENSE))
    if not masks or settings.proposals != "sam":
        plain["sam_checkpoint"] = None
    if not masks:
        plain["masks"] = None
    plain.update(dict.fromkeys(MaskSettings.model_fields.keys() - read))
    plain |= {"templates": settings.template_set, "hybrid_rule": settings.rule}
    return {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in plain.items()}


def recorded_data(settings: Settings) -> dict[str, Any]:
    """The same with the settings of the data alone: of label maps that another tool made."""
    of_data = {name for name, role in ROLES.items() if role.part == "data"}
    return {k: v if k in of_data else None for k, v in recorded(settings).items()}
