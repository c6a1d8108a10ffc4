"""Values of an answer, whatever their type: what Python, JSON and a line of text say of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

UNSAID = (ValueError, OverflowError, KeyError, pa.ArrowException)  # of what Python has no type for
LAST_DAY, LAST_TICK = 2**31 - 1, 2**63 - 1  # DuckDB's infinity: of dates, of other times


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; one that Python has no type for, as the year 99999, is text."""
    if is_bignum(column.type):
        return [None if value is None else _bignum(value) for value in column.to_pylist()]
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UNSAID:
        return [_value(scalar) for scalar in column]


def plain(value: Any) -> Any:
    """What JSON can say: NaN and infinities are null, times ISO 8601, bytes hex digits."""
    if isinstance(value, pa.MonthDayNano):
        return _interval(*value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Decimal):
        value = int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def text(value: Any) -> str | None:
    """One line or several; lists and structures as JSON."""
    if value is None or isinstance(value, str):
        return value
    said = plain(value)
    return json.dumps(said) if isinstance(said, dict | list) else str(said)


def as_text(values: Iterable[Any]) -> pa.Array:
    """A column that says in text what its values were."""
    return pa.array([text(value) for value in values], pa.string())


def is_bignum(kind: pa.DataType) -> bool:
    """Whether a type is DuckDB's integer of any length, which Arrow passes on as bytes."""
    return getattr(kind, "type_name", None) == "bignum"


def _bignum(data: bytes) -> int:
    """Three bytes of length and sign, then the digits; all inverted where it is negative."""
    if data[0] & 0x80:
        return int.from_bytes(data[3:])
    return -int.from_bytes(bytes(0xFF - byte for byte in data[3:]))


def _value(scalar: pa.Scalar) -> Any:
    """One value, part by part."""
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_union(kind):
        return _value(scalar.value)
    if pa.types.is_struct(kind):
        return {name: _value(scalar[name]) for name in scalar}
    if pa.types.is_nested(kind):
        return [_value(each) for each in scalar.values]
    try:
        return scalar.as_py()
    except UNSAID:
        return _beyond(scalar)


def _beyond(scalar: pa.Scalar) -> str:
    """The text of a value that Python has no type for."""
    kind = scalar.type
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        unit: Any
        last, unit = (LAST_DAY, "D") if pa.types.is_date32(kind) else (LAST_TICK, kind.unit)
        if abs(scalar.value) >= last:
            return "infinity" if scalar.value > 0 else "-infinity"
        zone = "+00:00" if unit != "D" and kind.tz else ""  # Arrow's count is of UTC
        return f"{np.datetime64(scalar.value, unit)}{zone}"
    try:
        return str(scalar.cast(pa.string()))
    except pa.ArrowException:
        return f"({kind})"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """``2 months 3 days 0:00:05``."""
    named = ((months, "month"), (days, "day"))
    parts = [f"{n} {unit}{'' if abs(n) == 1 else 's'}" for n, unit in named if n]
    seconds = timedelta(microseconds=abs(nanoseconds) // 1000)
    hours, rest = divmod(seconds, timedelta(hours=1))
    if nanoseconds or not parts:
        sign = "-" if nanoseconds < 0 else ""
        parts.append(f"{sign}{hours}:{str(rest).partition(':')[2]}")
    return " ".join(parts)
