"""Settings: the protocol, the table of benchmarks, the run, and the errors a user can mend."""

from sclip_core.config.errors import ImageError, UserError, unknown
from sclip_core.config.geometry import Geometry
from sclip_core.config.protocol import Protocol, tables
from sclip_core.config.settings import (
    OF_MASKS,
    SEVERAL,
    STAGES,
    Settings,
    resolve,
    resolve_several,
    several_values,
)

__all__ = [
    "OF_MASKS",
    "SEVERAL",
    "STAGES",
    "Geometry",
    "ImageError",
    "Protocol",
    "Settings",
    "UserError",
    "resolve",
    "resolve_several",
    "several_values",
    "tables",
    "unknown",
]
