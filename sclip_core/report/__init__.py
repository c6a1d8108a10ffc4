"""Runs as one page: scores with their intervals, classes, confusions, pictures, time, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sclip_core.config.lazy import by_module, lazy

if TYPE_CHECKING:
    from sclip_core.report.page import write_report

__all__ = ["write_report"]

__getattr__ = lazy(__name__, by_module(__name__, {"page": "write_report"}))
