"""Numbers as a person reads them."""

from __future__ import annotations


def seconds(value: float) -> str:
    """``0.9123`` as "912 ms"."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s"


def megabytes(value: float) -> str:
    """``123.4`` as "123 MB"."""
    return f"{value:.0f} MB" if value < 9999 else f"{value / 1e3:.1f} GB"


def joined(*parts: str) -> str:
    """Side by side in one cell of the table."""
    return ", ".join(parts)
