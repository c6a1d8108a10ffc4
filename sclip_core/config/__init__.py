"""Settings: the protocol, the table of benchmarks, the run, and the errors a user can mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sclip_core.config.lazy import by_module, lazy

if TYPE_CHECKING:
    from sclip_core.config.errors import (
        ImageError,
        UserError,
        WorkerLostError,
        printable,
        refused_by_system,
        unknown,
    )
    from sclip_core.config.geometry import Geometry
    from sclip_core.config.grid import (
        CHEAP,
        SEVERAL,
        point_of,
        resolve_several,
        several_values,
        unread,
        usual_value,
        value_text,
    )
    from sclip_core.config.protocol import Protocol, tables
    from sclip_core.config.roles import Role
    from sclip_core.config.settings import OF_MASKS, ROLES, Settings, resolve
    from sclip_core.config.stages import STAGE_SPECS, STAGES, StageSpec

__all__ = [
    "CHEAP",
    "OF_MASKS",
    "ROLES",
    "SEVERAL",
    "STAGES",
    "STAGE_SPECS",
    "Geometry",
    "ImageError",
    "Protocol",
    "Role",
    "Settings",
    "StageSpec",
    "UserError",
    "WorkerLostError",
    "point_of",
    "printable",
    "refused_by_system",
    "resolve",
    "resolve_several",
    "several_values",
    "tables",
    "unknown",
    "unread",
    "usual_value",
    "value_text",
]

__getattr__ = lazy(
    __name__,
    by_module(
        __name__,
        {
            "errors": "ImageError UserError WorkerLostError printable refused_by_system unknown",
            "geometry": "Geometry",
            "grid": "CHEAP SEVERAL point_of resolve_several several_values unread usual_value "
            "value_text",
            "protocol": "Protocol tables",
            "roles": "Role",
            "settings": "OF_MASKS ROLES Settings resolve",
            "stages": "STAGE_SPECS STAGES StageSpec",
        },
    ),
)
