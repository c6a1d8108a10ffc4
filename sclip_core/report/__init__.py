"""Runs as one page: scores with their intervals, classes, confusions, pictures, time, settings."""

from sclip_core.report.page import write_report

__all__ = ["write_report"]
