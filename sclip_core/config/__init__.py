"""Settings: the protocol, the table of benchmarks, the run, and the errors a user can mend."""

from sclip_core.config.errors import ImageError, UserError, printable, refused_by_system, unknown
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
from sclip_core.config.settings import (
    OF_MASKS,
    STAGES,
    Settings,
    resolve,
)

__all__ = [
    "CHEAP",
    "OF_MASKS",
    "SEVERAL",
    "STAGES",
    "Geometry",
    "ImageError",
    "Protocol",
    "Settings",
    "UserError",
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
